"""Reading the documentation."""

import re
from pathlib import Path


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
