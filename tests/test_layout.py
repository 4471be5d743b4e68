"""The shape of the package: who may import whom, how long a file may be, what may be used where."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "chatapp"
FILES = sorted(PACKAGE.rglob("*.py"))

# Module -> the modules of ours that it imports. A folder's modules are `folder/*`.
IMPORTS = {
    "__init__": "config errors extension hooks tool_run tools",
    "answer": "errors events granularity live_log",
    "answers": "answer config errors events live_log",
    "asking": "ledger queries tree",
    "background": "errors following",
    "batches": "answer eventlog segments",
    "blocking": "connections",
    "bookkeeping": "background errors ledger tables",
    "chat_stream": "chunks errors sse transport",
    "chunks": "errors events",
    "cli": "db errors",
    "config": "errors options",
    "connections": "errors",
    "continuation": "answer errors events",
    "db": "dialects errors lanes migrations tables",
    "dialects": "errors",
    "errors": "",
    "eventlog/*": "db errors eventlog/*",
    "events": "",
    "extension": "blocking cli config connections db errors eventlog hooks ledger local_model "
    "owners parts pump service store tickets tools transport upstream views/* visitors worker",
    "following": "answer connections events granularity sse",
    "full_stops": "",
    "granularity": "events sentences words",
    "history": "",
    "hooks": "answer blocking errors events",
    "hub": "",
    "journal": "answer background batches errors eventlog segments",
    "lanes": "errors",
    "leases": "background errors eventlog",
    "ledger": "db tables",
    "limits": "config errors",
    "live_log": "events sse",
    "local_model": "errors",
    "metrics": "service",
    "migrations/*": "errors",
    "mirrors": "answer background config errors eventlog events live_log sse",
    "options": "errors",
    "outbox": "background errors",
    "owners": "",
    "parts": "config connections service store upstream",
    "pump": "hub transport",
    "push": "answer background config errors eventlog owners sse",
    "queries": "errors tables tree",
    "refusals": "errors",
    "segments": "answer eventlog events sse",
    "sentences": "full_stops",
    "service": "answer answers background bookkeeping config errors eventlog events hooks journal "
    "leases ledger limits mirrors outbox push starting store takeover tools upstream writing",
    "sse": "events",
    "starting": "answer answers bookkeeping config errors eventlog journal limits mirrors outbox "
    "push segments store upstream writing",
    "store": "asking db errors ledger queries tables tree",
    "tables": "",
    "takeover": "answer answers config continuation errors eventlog events journal mirrors store "
    "upstream writing",
    "tickets": "",
    "tool_rounds": "answer errors events tool_run tools",
    "tool_run": "blocking",
    "tool_schema": "",
    "tools": "blocking errors tool_run tool_schema",
    "tree": "errors",
    "upstream": "chat_stream config errors refusals transport",
    "views/*": "answer blocking config connections errors events following granularity hub "
    "metrics owners parts push sse starting store tickets views/* visitors",
    "visitors": "errors",
    "words": "sentences",
    "worker": "connections parts",
    "writing": "answer answers config continuation errors events history hooks owners tool_rounds "
    "tool_run tools transport tree upstream",
    "transport/*": "transport/*",
}

# Foreign package -> the modules of ours that may import it.
FENCES = {
    "flask": "__init__ cli extension views/*",
    "werkzeug": "__init__ extension views/*",
    "click": "cli",
    "gevent": "blocking connections dialects hub lanes migrations/upgrade pump worker",
    "greenlet": "blocking",
    "sqlalchemy": "asking db dialects eventlog/* ledger migrations/* queries store tables",
    "alembic": "migrations/*",
    "redis": "eventlog/redis",
    "httpx2": "chat_stream pump refusals transport/* upstream",
    "httpcore2": "transport/*",
    "httptools": "transport/*",
    "openai": "refusals upstream",
    "msgspec": "chunks eventlog/* events push starting takeover tool_rounds tool_schema tools",
    "itsdangerous": "tickets visitors",
    "limits": "limits",
    "xllamacpp": "local_model",
}

FILE_MOST = 330
FUNCTION_MOST = 40
# What is loaded by those only who need it: the model's own process, an event log in Redis.
LATE = {"local_model": "xllamacpp", "eventlog/redis": "redis"}
LAYERS = ("eventlog", "migrations", "transport")


def name_of(file: Path) -> str:
    """`upstream`, `views/chat`, `transport` (its `__init__`)."""
    name = str(file.relative_to(PACKAGE).with_suffix(""))
    return name.removesuffix("/__init__") if "/" in name else name


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").exists() or (PACKAGE / name / "__init__.py").exists()


def own_imports(file: Path) -> set[str]:
    """The modules of the package that a file imports, however it writes that."""
    folder = file.relative_to(PACKAGE).parent
    found = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names if each.name.split(".")[0] == "chatapp"]
            found |= {name.partition(".")[2].replace(".", "/") or "__init__" for name in names}
        elif isinstance(node, ast.ImportFrom) and (node.level or node.module == "chatapp"):
            base = Path() if node.level == 0 else folder
            for _ in range(node.level - 1):
                base = base.parent
            inside = base / (node.module or "").replace(".", "/") if node.level else base
            for each in node.names:
                deeper = str(inside / each.name)
                found.add(deeper if is_module(deeper) else str(inside))
    return {"__init__" if each == "." else each for each in found}


def foreign_imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            found |= {each.name.split(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found - {"chatapp"} - sys.stdlib_module_names


def matches(name: str, patterns: str) -> bool:
    """A folder's own name is its `__init__`."""
    folder = name.split("/")[0]
    return name in patterns.split() or f"{folder}/*" in patterns.split()


def row_of(name: str) -> str:
    return name if name in IMPORTS else f"{name.split('/')[0]}/*"


IDS = [name_of(file) for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_a_module_imports_only_what_the_table_says(file: Path) -> None:
    name = name_of(file)
    assert row_of(name) in IMPORTS, f"{name} is missing in the table"
    # The layers below are used by their package's name, whatever modules they have inside.
    allowed = IMPORTS[row_of(name)]
    assert [each for each in sorted(own_imports(file)) if not matches(each, allowed)] == []


def test_the_table_allows_nothing_that_is_not_used() -> None:
    used: dict[str, set[str]] = {row: set() for row in IMPORTS}
    for file in FILES:
        used[row_of(name_of(file))] |= own_imports(file)
    for row, allowed in IMPORTS.items():
        unused = [each for each in allowed.split() if not any(matches(u, each) for u in used[row])]
        assert (row, unused) == (row, [])
        assert row.endswith("/*") or is_module(row)


@pytest.mark.parametrize("layer", LAYERS)
def test_outside_a_layer_only_its_package_is_imported(layer: str) -> None:
    inside = [
        (name_of(file), each)
        for file in FILES
        if name_of(file).split("/")[0] != layer
        for each in own_imports(file)
        if each.startswith(f"{layer}/")
    ]
    assert inside == []


def test_alembic_is_loaded_only_where_something_must_be_migrated() -> None:
    """By name, in the middle of a function: nobody imports the module that imports it."""
    upgrade = PACKAGE / "migrations" / "upgrade.py"
    assert "alembic" in foreign_imports(upgrade)
    assert [file for file in FILES if "migrations/upgrade" in own_imports(file)] == []


def test_there_is_no_cycle() -> None:
    graph = {name_of(file): own_imports(file) - {name_of(file)} for file in FILES}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for each in graph.get(name, ()):
                visit(each, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_a_foreign_package_is_known_and_stays_behind_its_fence(file: Path) -> None:
    name = name_of(file)
    for foreign in foreign_imports(file):
        assert matches(name, FENCES.get(foreign, "")), f"{name} imports {foreign}"


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_every_module_has_a_docstring_and_is_not_too_long(file: Path) -> None:
    assert ast.get_docstring(tree_of(file))
    lines = len(file.read_text().splitlines())
    assert lines <= FILE_MOST


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_no_function_is_too_long_or_imports(file: Path) -> None:
    for node in ast.walk(tree_of(file)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert isinstance(node, ast.FunctionDef), f"{node.name}: there is no asyncio here"
        inner = [each for each in ast.walk(node) if isinstance(each, ast.Import | ast.ImportFrom)]
        late = [each for each in inner if ast.unparse(each) != f"import {LATE.get(name_of(file))}"]
        assert not late, f"{node.name} imports inside"
        if not holds_functions(node):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_MOST, f"{node.name} has {length} lines"


def holds_functions(node: ast.FunctionDef) -> bool:
    """Whether a function is nothing but a place for others, as a view's `register` is."""
    return node.name == "register" and any(isinstance(each, ast.FunctionDef) for each in node.body)


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_nothing_is_global_that_belongs_to_one_application(file: Path) -> None:
    assert not [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Global)]


def test_wsgi_patches_before_it_imports_anything_else() -> None:
    _docstring, *statements = tree_of(ROOT / "wsgi.py").body
    first, second, *_ = [ast.unparse(each) for each in statements]
    assert (first, second) == ("from gevent import monkey", "monkey.patch_all()")
