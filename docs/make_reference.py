"""Writes docs/reference.md from the package: `python docs/make_reference.py`.

What a code or an event means to a client is said once, in protocol.md, and repeated from there.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from flask import Flask

from chatapp import cli, errors, extension
from chatapp.answers.events import EventType
from chatapp.generation import hooks
from chatapp.generation.tools import executor, registry
from chatapp.replication import pubsub

DOCS: Final = Path(__file__).parent
HEAD: Final = """# Reference

What `chatapp` exports, and the names that travel: events and errors. How to use it is in
[embedding](embedding.md), the options in [settings](settings.md), the routes in the
[wire contract](protocol.md). This page is made by `python docs/make_reference.py`.
"""
TOOL_TYPES: Final = """Each parameter has a type that JSON can say: `str`, `int`, `float`, `bool`,
`list`, `dict`, `Literal`, `Enum`, dates, dataclasses, `msgspec.Struct`.
`Annotated[int, msgspec.Meta(ge=1)]` sets bounds. What a parameter means is read from the docstring,
in the styles of Sphinx, Google and NumPy.
"""
IN_ALL: Final = {
    "answer_id": "Id of the answer, and of its message.",
    "owner": "The log-in's id, or `visitor:…`.",
    "conversation_id": "None where a whole history was sent, which belongs to no conversation.",
    "model": "The one that is asked.",
    "text": "The answer, as far as it was written.",
    "reasoning": "The model's reasoning, where the upstream shows it.",
    "finish_reason": "As in the event `done`.",
    "created_at": "When the question came, in UTC.",
}
"""Fields that say the same in each class."""


def page() -> str:
    """The page's Markdown."""
    chat = class_of(extension, "ChatApp")
    members = [each for each in functions(chat) if not each.name.startswith("_")]
    decorators = [each for each in members if doc(each).startswith("Decorates")]
    parts = [
        HEAD,
        "## `ChatApp`\n",
        signature("ChatApp", next(functions(chat, "__init__")), extension.ChatApp),
        markdown(doc(chat)),
        *(entry(each) for each in members if each not in decorators),
        "## Decorators of a `ChatApp`\n",
        *(entry(each) for each in decorators),
        TOOL_TYPES,
        "## What hooks and tools get\n",
        *(fields(hooks, name) for name in ("AnswerRequest", "AnswerInfo", "AnswerResult")),
        fields(executor, "ToolContext"),
        "## What they may raise\n",
        *(raised(errors, name) for name in ("Refused", "StopAnswer")),
        raised(registry, "ToolError"),
        *events(),
        *codes(),
        *commands(),
    ]
    return "\n".join(parts)


def class_of(module: ModuleType, name: str) -> ast.ClassDef:
    """A class as it is written."""
    body = ast.parse(inspect.getsource(module)).body
    return next(each for each in body if isinstance(each, ast.ClassDef) and each.name == name)


def functions(cls: ast.ClassDef, name: str | None = None) -> Iterator[ast.FunctionDef]:
    """A class's methods with a docstring, or those of this name."""
    for each in cls.body:
        if isinstance(each, ast.FunctionDef) and (each.name == name if name else doc(each)):
            yield each


def doc(node: ast.ClassDef | ast.FunctionDef) -> str:
    return ast.get_docstring(node) or ""


def markdown(text: str) -> str:
    """A docstring with its fields as a list."""
    body, _, listed = text.partition("\n:")
    if not listed:
        return body.strip() + "\n"
    entries = re.split(r"\n:", listed)
    return "\n".join([body.strip(), "", *(item(each) for each in entries), ""])


def item(field: str) -> str:
    """`param x: …` as an entry of a list."""
    kind, _, text = field.partition(":")
    name = kind.split()[-1]
    said = " ".join(text.split())
    if kind.startswith("param "):
        return f"* `{name}`: {said}"
    return f"* Raises `{name}`" + (f": {said}" if said else ".")


def entry(function: ast.FunctionDef) -> str:
    """A method's section."""
    call = signature(f"chat.{function.name}", function, getattr(extension.ChatApp, function.name))
    return f"### `{function.name}`\n\n{call}\n{markdown(doc(function))}"


def signature(shown: str, function: ast.FunctionDef, live: Any) -> str:
    """How it is called, with types; a decorator with its arguments, if it takes any."""
    if doc(function).startswith("Decorates"):
        kind = aliases().get(annotation(function.args.args[1]), annotation(function.args.args[1]))
        options = ", ".join(arguments(overloaded(function), live)[1:])
        head = f"@{shown}" if function.name != "tool" else f"@{shown}  # or @{shown}({options})"
        return f"```python\n{head}\n```\n" + ("" if kind == "Any" else f"\nOn a `{kind}`.\n")
    returns = ast.unparse(function.returns) if function.returns else "None"
    arrow = "" if returns == "None" else f" -> {returns}"
    return f"```python\n{shown}({', '.join(arguments(function, live))}){arrow}\n```\n"


def overloaded(function: ast.FunctionDef) -> ast.FunctionDef:
    """The last overload of a method, or the method."""
    found = [*functions(class_of(extension, "ChatApp"), function.name)]
    return found[-2] if len(found) > 1 else function


def arguments(function: ast.FunctionDef, live: Any) -> list[str]:
    """Each argument but `self`, with its type and default."""
    defaults = inspect.signature(live).parameters
    args = function.args
    shown = [argument(each, defaults) for each in args.args[1:]]
    if args.kwonlyargs:
        shown += ["*", *(argument(each, defaults) for each in args.kwonlyargs)]
    return shown


def argument(arg: ast.arg, live: Any) -> str:
    given = live[arg.arg].default if arg.arg in live else None
    default = f'"{given}"' if isinstance(given, str) else repr(given)
    return f"{arg.arg}: {annotation(arg)}" + (
        "" if given is inspect.Parameter.empty else f" = {default}"
    )


def annotation(arg: ast.arg) -> str:
    return ast.unparse(arg.annotation) if arg.annotation else "Any"


def aliases() -> dict[str, str]:
    """The types of hooks, spelled out."""
    body = ast.parse(inspect.getsource(hooks)).body
    return {
        ast.unparse(each.targets[0]): ast.unparse(each.value)
        for each in body
        if isinstance(each, ast.Assign) and ast.unparse(each.value).startswith("Callable[")
    }


def fields(module: ModuleType, name: str) -> str:
    """The table of a dataclass."""
    cls = class_of(module, name)
    rows = []
    for each, after in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(each, ast.AnnAssign):
            said = after.value if isinstance(after, ast.Expr) else None
            text = said.value if isinstance(said, ast.Constant) else None
            field = ast.unparse(each.target)
            meaning = " ".join(str(text or IN_ALL[field]).split())
            kind = ast.unparse(each.annotation).replace("|", "\\|")
            rows.append(f"| `{field}` | `{kind}` | {meaning} |")
    head = "| field | type | what it is |\n| --- | --- | --- |\n"
    return f"### `{name}`\n\n{markdown(doc(cls))}\n{head}" + "\n".join(rows) + "\n"


def raised(module: ModuleType, name: str) -> str:
    """An exception that the application raises."""
    cls, live = class_of(module, name), getattr(module, name)
    code = f" The reader gets it as `{live.code}`." if hasattr(live, "code") else ""
    first, _, rest = markdown(doc(cls)).partition("\n")
    call = signature(name, next(functions(cls, "__init__")), live) if has_init(cls) else ""
    return f"### `{name}`\n\n{call + chr(10) if call else ''}{first}{code}\n{rest}"


def has_init(cls: ast.ClassDef) -> bool:
    return any(functions(cls, "__init__"))


def table(head: str) -> dict[str, list[str]]:
    """A table of protocol.md, by the first cell."""
    text = (DOCS / "protocol.md").read_text("utf-8").replace("](#", "](protocol.md#")
    _, _, below = text.partition(f"\n{head}\n")
    found = re.match(r"\|[ -|]+\n((?:\|.*\n)+)", below)
    if not found:
        raise LookupError(f"protocol.md has no table {head}")
    cells = [line.strip("|").split(" | ") for line in found[1].splitlines()]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in cells}


def events() -> Iterator[str]:
    """What an answer's stream and the push channel carry."""
    known = table("| `event:` | `data:` | meaning |")
    yield "## Events of an answer\n"
    yield "More in the [wire contract](protocol.md#the-event-stream).\n"
    yield "| `event:` | `data:` | meaning |\n| --- | --- | --- |"
    for kind in EventType:
        name = "none" if kind is EventType.TEXT else str(kind)
        shown = name if kind is EventType.TEXT else f"`{name}`"
        yield f"| {shown} | {' | '.join(known[name])} |"
    yield "\n## Events of the push channel\n"
    yield "What the chat publishes itself:\n"
    yield "| `event:` | `data:` |\n| --- | --- |"
    for name, data in table("| `event:` | `data:` |").items():
        yield f"| `{name}` | {data[0]} |"
    refused = ", ".join(f"`{each}`" for each in sorted(pubsub.RESERVED))
    pattern = pubsub.EVENT_NAME.pattern
    yield f"\nYour own names match `{pattern}`. {refused} are the browsers' own.\n"


def codes() -> Iterator[str]:
    """What can go wrong."""
    advice = table("| code | status | retryable | what to do |")
    yield "## Errors\n"
    yield (
        "All are subclasses of `ChatAppError`, with `code`, `message`, `param`, `retry_after`, "
        "`status` and\n`retryable`. Where they appear is in the "
        "[wire contract](protocol.md#errors).\n"
    )
    yield "| code | class | status | retryable | what to do |\n| --- | --- | --- | --- | --- |"
    for code, error in errors.CODES.items():
        retryable = "yes" if error.retryable else "no"
        cells = (f"`{code}`", f"`{error.__name__}`", str(error.status), retryable, advice[code][-1])
        yield f"| {' | '.join(cells)} |"
    yield ""


def commands() -> Iterator[str]:
    """What an operator calls."""
    app = Flask("reference")
    cli.register(app)
    group: Any = app.cli.commands["chatapp"]
    yield "## Commands\n"
    yield "| command | what it does |\n| --- | --- |"
    for name, command in group.commands.items():
        yield f"| `flask --app … chatapp {name}` | {command.help} |"
    yield ""


if __name__ == "__main__":
    (DOCS / "reference.md").write_text(page(), "utf-8")
