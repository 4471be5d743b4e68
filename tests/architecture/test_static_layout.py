"""The shape of the page's source: its size, how long files and functions may be, what is used."""

import gzip
import re
from pathlib import Path, PurePosixPath

import pytest

STATIC = Path(__file__).parents[2] / "chatapp" / "static"
MODULES = sorted(STATIC.rglob("*.js"))
STYLES = sorted(STATIC.rglob("*.css"))
SOURCES = [*MODULES, *sorted(STATIC.rglob("*.d.ts"))]
SIZE_MOST = 60_000
FILE_MOST = 300
LINE_MOST = 100
FUNCTION_MOST = 40
IMPORT = re.compile(r'\b(?:from|import)\s*\(?\s*"([^"]+)"')
# Each makes markup or code of a text.
FORBIDDEN = re.compile(
    r"\b(?:inner|outer)HTML\b|\binsertAdjacentHTML\b|\bdocument\s*\.\s*write|\beval\b|"
    r"\bnew\s+Function\b|\bcreateContextualFragment\b|\bDOMParser\b|\bsetHTML|\bsrcdoc\b"
)


def name_of(file: Path) -> str:
    """`chat.js`, `net/api.js`."""
    return file.relative_to(STATIC).as_posix()


def code_of(file: Path) -> str:
    """Without comments."""
    text = re.sub(r"/\*.*?\*/", "", file.read_text("utf-8"), flags=re.S)
    return re.sub(r"(^|\s)//.*", r"\1", text)


def depth_of(line: str) -> int:
    return len(line) - len(line.lstrip("\t"))


def blocks_of(file: Path) -> list[tuple[str, int]]:
    """All that stands between brackets on lines of their own: its first line, how many it has.

    Functions, with those inside of them, and their parts. What a block holds is indented by one
    tab more than its first and its last line.
    """
    lines = file.read_text("utf-8").splitlines()
    found = []
    for at, line in enumerate(lines):
        if not line.endswith(("{", "(", "[")) or line.lstrip().startswith(("*", "//", "class ")):
            continue
        rest = enumerate(lines[at + 1 :], 2)
        length, end = next(x for x in rest if x[1] and depth_of(x[1]) <= depth_of(line))
        assert end.lstrip().startswith(("}", ")", "]")), f"{name_of(file)}: {end} ends {line}"
        found.append((line.strip(), length))
    return found


def imports_of(file: Path) -> set[str]:
    """The modules of ours that a module imports, now or later."""
    found = set()
    for target in IMPORT.findall(code_of(file)):
        assert target.startswith("."), f"{name_of(file)} imports code of others: {target}"
        path = (file.parent / target).resolve()
        assert path.is_file(), f"{name_of(file)} imports {target}, which does not exist"
        found.add(PurePosixPath(path.relative_to(STATIC)).as_posix())
    return found


def test_script_and_style_are_small() -> None:
    """All of it compressed, comments included."""
    assert len(MODULES) > 15
    assert STYLES
    sizes = [len(gzip.compress(file.read_bytes(), 9)) for file in [*MODULES, *STYLES]]
    assert sum(sizes) <= SIZE_MOST


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_text_only_ever_becomes_text(file: Path) -> None:
    assert not FORBIDDEN.findall(code_of(file))


def test_all_that_is_imported_exists_and_all_modules_are_imported() -> None:
    imported = set().union(*(imports_of(file) for file in MODULES))
    assert imported | {"chat_box.js"} == {name_of(file) for file in MODULES}


def test_no_module_imports_itself_by_way_of_others() -> None:
    imports = {name_of(file): imports_of(file) for file in MODULES}
    while free := {name for name, needed in imports.items() if not needed & set(imports)}:
        for name in free:
            del imports[name]
    assert not imports, f"They import each other: {sorted(imports)}"


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_no_file_and_no_line_is_too_long(file: Path) -> None:
    lines = file.read_text("utf-8").splitlines()
    assert len(lines) <= FILE_MOST
    assert not [line for line in lines if len(line.expandtabs(4)) > LINE_MOST]


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_no_function_is_too_long(file: Path) -> None:
    """With the functions that it holds."""
    assert not [(line, length) for line, length in blocks_of(file) if length > FUNCTION_MOST]


def test_each_module_is_type_checked() -> None:
    for file in MODULES:
        assert file.read_text("utf-8").startswith("// @ts-check\n"), name_of(file)
