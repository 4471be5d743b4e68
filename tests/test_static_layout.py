"""The shape of the page's source: its size, how long files and functions may be, what is used."""

import gzip
import re
from pathlib import Path, PurePosixPath

import pytest

STATIC = Path(__file__).parents[1] / "chatapp" / "static"
MODULES = sorted(STATIC.rglob("*.js"))
STYLES = sorted(STATIC.rglob("*.css"))
SIZE_MOST = 60_000
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
