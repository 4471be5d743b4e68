"""Describes a Python function to a model, and validates its arguments; no I/O.

Types come from the annotations, descriptions from the docstring: the first paragraph describes the
tool, and parameters are found in Google (`Args:`), Sphinx (`:param x:`) and NumPy style
(`Parameters` underlined). `Annotated[int, msgspec.Meta(description="…", ge=1)]` in the signature
takes precedence.
"""

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, Final

import msgspec

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""What OpenAI accepts as a function's name."""
_SECTION: Final = re.compile(r"(?:Args|Arguments|Parameters|Params):\s*\Z")
_ENTRY: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)\Z")
_NUMPY_NAMES: Final = re.compile(r"(\w+(?:\s*,\s*\w+)*)\s*(?::.*)?\Z")
_SPHINX: Final = re.compile(r":(?:param|parameter|arg|argument)\s+(?:[^:]*\s)?\*{0,2}(\w+):\s*(.*)")


class Undescribable(TypeError):
    """A function can't be described to a model; the message says what to change."""


class Signature:
    """A function as a tool.

    :param context: the class whose instance the function's first parameter may ask for.
    :raises Undescribable: JSON can't express something.
    """

    def __init__(self, function: Callable[..., Any], name: str | None, context: type) -> None:
        if not (inspect.isfunction(function) or inspect.ismethod(function)):
            raise Undescribable(f"{function!r} can't be a tool. Register a function that calls it.")
        self.name = name or function.__name__
        self._where = f"tool {self.name!r} ({function.__module__}:{function.__qualname__})"
        if not NAME.fullmatch(self.name):
            raise self._refuse("needs a name of up to 64 letters, digits, _ and -: pass name=…")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise self._refuse("is async. Make it a plain function; tools run concurrently anyway.")
        if inspect.isgeneratorfunction(function):
            raise self._refuse("is a generator. Return the whole result.")
        doc = inspect.getdoc(function) or ""
        self.description = " ".join(doc.partition("\n\n")[0].split())
        if not self.description:
            raise self._refuse("has no docstring. Its first paragraph tells the model what it does")
        hints = self._hints(function)
        parameters = list(inspect.signature(function).parameters.values())
        self.context_name: str | None = None
        """The parameter that gets the context."""
        if parameters and hints.get(parameters[0].name) is context:
            self.context_name = parameters.pop(0).name
        if any(hints.get(each.name) is context for each in parameters):
            raise self._refuse(f"must take its {context.__name__} as the first parameter.")
        self._arguments = self._struct(parameters, hints)
        self.parameters = self._schema(parameter_texts(doc))

    @property
    def spec(self) -> dict[str, Any]:
        """An entry of OpenAI's `tools`."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {"type": "function", "function": function}

    def check(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments, converted to the annotated types.

        :raises msgspec.ValidationError: says what does not fit, and where.
        """
        checked = msgspec.convert(arguments, self._arguments)
        return {name: getattr(checked, name) for name in arguments}

    def _refuse(self, what: str) -> Undescribable:
        return Undescribable(f"{self._where} {what}")

    def _hints(self, function: Callable[..., Any]) -> dict[str, Any]:
        try:
            return typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError) as error:
            raise self._refuse(
                f"has annotations that can't be read: {error}. Import what they name at the top "
                "of the module, not under TYPE_CHECKING."
            ) from None

    def _struct(self, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> Any:
        """A class with a field for each parameter."""
        fields: list[Any] = []
        for each in parameters:
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
                raise self._refuse(
                    f"takes {each}, which a model can't name. Give each parameter a name."
                )
            if each.name not in hints:
                raise self._refuse(
                    f"has no type for {each.name}. Write {each.name}: str, for example."
                )
            fields.append((each.name, hints[each.name], *_default(each)))
        try:
            return msgspec.defstruct(
                "Arguments", fields, kw_only=True, forbid_unknown_fields=True, gc=False
            )
        except (TypeError, ValueError) as error:
            raise self._refuse(f"can't be described: {error}.") from None

    def _schema(self, texts: dict[str, str]) -> dict[str, Any]:
        try:
            refs, components = msgspec.json.schema_components(
                [self._arguments], ref_template="#/$defs/{name}"
            )
        except TypeError as error:
            problem = str(error).splitlines()[0]
            raise self._refuse(
                f"has a parameter that JSON can't express: {problem}. Use str, int, float, bool, "
                "list, dict, Literal, Enum, dates, dataclasses or msgspec.Struct."
            ) from None
        schema: dict[str, Any] = components.pop(refs[0]["$ref"].rpartition("/")[2])
        del schema["title"]
        for name, described in schema["properties"].items():
            if name in texts:
                described.setdefault("description", texts[name])
        return schema | ({"$defs": components} if components else {})


def _default(parameter: inspect.Parameter) -> tuple[Any, ...]:
    default = parameter.default
    if default is parameter.empty:
        return ()
    if isinstance(default, list | dict | set | bytearray):
        return (msgspec.field(default_factory=default.copy),)
    return (default,)


def parameter_texts(doc: str) -> dict[str, str]:
    """What an unindented docstring says about each parameter."""
    lines = doc.splitlines()
    found = _sphinx(lines)
    for number, line in enumerate(lines):
        if _SECTION.match(line):
            found |= _entries(lines[number + 1 :], _google_names)
        elif line.strip() in ("Parameters", "Other Parameters") and _is_rule(lines, number + 1):
            found |= _entries(lines[number + 2 :], _numpy_names, own_indent=0)
    return {name: " ".join(" ".join(text).split()) for name, text in found.items() if text}


def _is_rule(lines: list[str], number: int) -> bool:
    return number < len(lines) and set(lines[number].strip()) == {"-"}


def _google_names(line: str) -> tuple[list[str], str] | None:
    found = _ENTRY.match(line.strip())
    return ([found[1]], found[2]) if found else None


def _numpy_names(line: str) -> tuple[list[str], str] | None:
    found = _NUMPY_NAMES.match(line.strip())
    return (re.split(r"\s*,\s*", found[1]), "") if found else None


def _entries(
    lines: list[str],
    names_of: Callable[[str], tuple[list[str], str] | None],
    own_indent: int | None = None,
) -> dict[str, list[str]]:
    """The entries of a section: lines of one indentation, each with what is indented deeper."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        own_indent = indent if own_indent is None else own_indent
        at_start = own_indent == 0 and _is_rule(lines, number + 1)  # the next NumPy section
        if indent < own_indent or at_start or (indent == 0 and line.rstrip().endswith(":")):
            break
        if indent > own_indent:
            for name in names:
                found[name].append(line.strip())
        elif entry := names_of(line):
            names = entry[0]
            found |= {name: [entry[1]] if entry[1] else [] for name in names}
        else:
            names = []
    return found


def _sphinx(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name: str | None = None
    for line in lines:
        if field := _SPHINX.match(line.strip()):
            name = field[1]
            found[name] = [field[2]]
        elif line.strip().startswith(":") or not line.strip():
            name = None
        elif name:
            found[name].append(line.strip())
    return found
