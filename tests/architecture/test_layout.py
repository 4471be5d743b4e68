"""The shape of the code: who may import whom, how long a file may be, what may be used where."""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "chatapp"
FILES = sorted(PACKAGE.rglob("*.py"))

# Package -> the packages of ours that it imports. "root" are the modules beside the packages, of
# which everybody may import these:
FOR_ALL = {"errors", "settings", "settings_costs", "settings_fields", "settings_upstream"}
IMPORTS = {
    "root": "answers conversations database delivery eventlog generation identity rates "
    "replication runtime service upstream upstream/transport views",
    "views": "answers conversations delivery generation identity replication runtime service",
    "service": "answers conversations database delivery eventlog generation identity rates "
    "replication runtime upstream",
    "generation": "answers conversations identity runtime upstream upstream/transport",
    "replication": "answers eventlog identity runtime",
    "delivery": "answers runtime",
    "upstream": "answers runtime upstream/transport",
    "upstream/transport": "",
    "conversations": "answers database runtime",
    "rates": "database",
    "eventlog": "answers database runtime",
    "answers": "runtime",
    "database": "runtime",
    "identity": "runtime",
    "runtime": "",
}

# Foreign package -> the modules or packages of ours that may import it.
FENCES = {
    "flask": "__init__ cli extension wiring views/*",
    "werkzeug": "__init__ wiring views/*",
    "click": "cli",
    "gevent": "runtime/* upstream/poller delivery/client_connection delivery/client_socket "
    "gunicorn_hooks",
    "greenlet": "runtime/stall_watch",
    "sqlalchemy": "conversations/* database/* eventlog/sql/* rates/sql",
    "alembic": "database/migrations/*",
    "redis": "eventlog/redis/backend rates/redis",
    "httpx2": "upstream/*",
    "httpcore2": "upstream/transport/*",
    "httptools": "upstream/transport/*",
    "openai": "upstream/client upstream/errors",
    "msgspec": "answers/events eventlog/* generation/tools/* service/starter "
    "service/takeover upstream/chunk_types upstream/chunks",
    "brotli": "views/assets",
    "itsdangerous": "identity/*",
    "xllamacpp": "upstream/local_model",
}

MAX_FILE_LINES = 330
MAX_FUNCTION_LINES = 40
# What is loaded by those only who need it: the model's own process, an event log in Redis.
LATE = {
    "upstream/local_model": "xllamacpp",
    "eventlog/redis/backend": "redis",
    "rates/redis": "redis",
}
LAYERS = ("eventlog", "database/migrations", "upstream/transport")


def name_of(file: Path) -> str:
    """`upstream`, `views/chat`, `transport` (its `__init__`)."""
    name = str(file.relative_to(PACKAGE).with_suffix(""))
    return name.removesuffix("/__init__") if "/" in name else name


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").exists() or (PACKAGE / name / "__init__.py").exists()


@functools.cache
def own_imports(file: Path) -> frozenset[str]:
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
    return frozenset("__init__" if each == "." else each for each in found)


def foreign_imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            found |= {each.name.split(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found - {"chatapp"} - sys.stdlib_module_names


def matches(name: str, patterns: str) -> bool:
    """Whether one of the patterns is the module, or a package around it, as `package/*`."""
    return any(
        name == each or (each.endswith("/*") and f"{name}/".startswith(each[:-1]))
        for each in patterns.split()
    )


def package_of(name: str) -> str:
    """The innermost package of the table that a module is in."""
    around = [each for each in IMPORTS if f"{name}/".startswith(f"{each}/")]
    return max(around, key=len, default="root")


def packages_used(file: Path) -> set[str]:
    """The other packages that a file imports."""
    names = own_imports(file) - FOR_ALL - {"__init__"}
    return {package_of(name) for name in names} - {package_of(name_of(file))}


IDS = [name_of(file) for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_a_module_imports_only_packages_that_the_table_names(file: Path) -> None:
    allowed = IMPORTS[package_of(name_of(file))].split()
    assert sorted(packages_used(file) - set(allowed)) == []


def test_the_table_allows_nothing_that_is_not_used() -> None:
    used: dict[str, set[str]] = {package: set() for package in IMPORTS}
    for file in FILES:
        used[package_of(name_of(file))] |= packages_used(file)
    assert {package: sorted(found) for package, found in used.items()} == {
        package: sorted(allowed.split()) for package, allowed in IMPORTS.items()
    }


def test_no_package_imports_upwards() -> None:
    """The table's order is from the outside in: a row names only rows below it."""
    order = list(IMPORTS)
    for place, (package, allowed) in enumerate(IMPORTS.items()):
        assert [each for each in allowed.split() if order.index(each) < place] == [], package


@pytest.mark.parametrize("layer", LAYERS)
def test_outside_a_layer_only_its_package_is_imported(layer: str) -> None:
    inside = [
        (name_of(file), each)
        for file in FILES
        if not matches(name_of(file), f"{layer}/*")
        for each in own_imports(file)
        if each.startswith(f"{layer}/")
    ]
    assert inside == []


def test_alembic_is_loaded_only_where_something_must_be_migrated() -> None:
    """By name, in the middle of a function: nobody imports the module that imports it."""
    upgrade = PACKAGE / "database" / "migrations" / "upgrade.py"
    assert "alembic" in foreign_imports(upgrade)
    assert [file for file in FILES if "database/migrations/upgrade" in own_imports(file)] == []


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
    assert lines <= MAX_FILE_LINES


def parameters_of(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """What a function takes; of a class, its fields and what `__init__` takes."""
    if isinstance(node, ast.FunctionDef):
        args = node.args
        return {each.arg for each in (*args.posonlyargs, *args.args, *args.kwonlyargs)}
    found = set()
    for each in node.body:
        if isinstance(each, ast.AnnAssign):
            found.add(ast.unparse(each.target))
        elif isinstance(each, ast.FunctionDef) and each.name == "__init__":
            found |= parameters_of(each)
    return found


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_a_docstring_names_parameters_that_there_are(file: Path) -> None:
    for node in ast.walk(tree_of(file)):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.FunctionDef) and node.args.kwarg:  # Its overloads have them.
            continue
        named = re.findall(r":param (\w+):", ast.get_docstring(node) or "")
        assert set(named) <= parameters_of(node), node.name


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
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


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
