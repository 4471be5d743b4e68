"""Writes docs/settings.md from `chatapp.settings`: `python docs/make_settings.py`."""

from dataclasses import fields
from pathlib import Path

from chatapp.settings import Settings, variable

HEAD = """# Settings

Each is an environment variable, or a key of the same name in the application's config, which wins.
An unknown `CHATAPP_` name is an error. This page is made by `python docs/make_settings.py`.

| name | default | what it does |
| --- | --- | --- |
"""


def page() -> str:
    """The page's Markdown."""
    rows = (
        f"| `{variable(each)}` | {shown(each.default)} | {each.metadata['doc']} |"
        for each in fields(Settings)
    )
    return HEAD + "\n".join(rows) + "\n"


def shown(default: object) -> str:
    """A default as one would write it in the environment."""
    if default is None or default == ():
        return "–"
    if isinstance(default, bool):
        return "`true`" if default else "`false`"
    return f"`{default:.15g}`" if isinstance(default, float) else f"`{default}`"


if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(page(), "utf-8")
