"""Validates what clients send: each field has a type and a limit, and errors name the field."""

import json
import logging
import re
import zlib
from typing import Any, Final

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from ..conversations.store import ID, Content
from ..delivery.client_connection import body_deadline, socket_of
from ..errors import (
    BodyTooLarge,
    ChatAppError,
    InvalidRequest,
    NotAllowed,
    NotJSON,
    UnknownEncoding,
    UnknownField,
)
from ..generation.sampling import SAMPLING_OPTIONS, check_option
from ..service.starter import ChatRequest
from ..settings import Settings
from .histories import checked_history
from .text_fields import text_field

logger = logging.getLogger(__name__)

SETTINGS: Final = ("model", "system_prompt", *SAMPLING_OPTIONS)
"""Of a conversation."""
VALUE_MARKS: Final = (b",", b"[", b"{")
STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
KEY: Final = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)


def json_body(settings: Settings) -> dict[str, Any]:
    """The request's JSON object.

    :raises ChatAppError: it is not an object, too large, or does not arrive.
    """
    # Any site can post a form or plain text; posting JSON needs our permission (CORS).
    if not request.is_json:
        raise NotJSON("Send JSON, with the header Content-Type: application/json.")
    sent = decoded(_received(settings), request.headers.get("Content-Encoding", ""), settings)
    if _values(sent, settings.body_max_values) > settings.body_max_values:
        raise BodyTooLarge(
            f"The request has more than {settings.body_max_values} values. Send fewer."
        )
    try:
        body = json.loads(sent)
    except (ValueError, RecursionError):
        raise InvalidRequest("The request's body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The request's body must be a JSON object.")
    return body


def _values(sent: bytes, enough: int) -> int:
    """About how many values a JSON text has: objects with millions would hold up all others."""
    count = sum(sent.count(mark) for mark in VALUE_MARKS)
    if count <= enough:
        return count
    return sum(STRING.sub(b"", sent).count(mark) for mark in VALUE_MARKS)


def _received(settings: Settings) -> bytes:
    """The whole body; the request caches it.

    :raises ChatAppError: it is too large, or does not arrive.
    """
    # One more than allowed: a body of unknown length is silently truncated there.
    request.max_content_length = settings.body_max_bytes + 1
    try:
        with body_deadline(socket_of(request.environ), settings.body_timeout):
            sent = request.get_data()
    except RequestEntityTooLarge:
        raise _too_large(settings) from None
    except ClientDisconnected:
        raise InvalidRequest("The request's body is shorter than announced.") from None
    except ChatAppError:
        raise
    except Exception as error:
        # Each server has its own errors for invalid or truncated chunks.
        logger.warning("a request's body could not be read: %r", error)
        raise InvalidRequest("The request's body is not valid HTTP.") from None
    if len(sent) > settings.body_max_bytes:
        raise _too_large(settings)
    return sent


def _too_large(settings: Settings) -> BodyTooLarge:
    return BodyTooLarge(f"The request is larger than {settings.body_max_bytes} bytes. Send less.")


def decoded(sent: bytes, encoding: str, settings: Settings) -> bytes:
    """A body without its compression, of which no more is undone than a body may have.

    :param encoding: the value of `Content-Encoding`.
    :raises ChatAppError: a compression that is not taken here, or a body that does not have it.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return sent
    if name not in ("gzip", "x-gzip", "deflate"):
        raise UnknownEncoding("Send the body as it is, or with Content-Encoding: gzip or deflate.")
    # Some send `deflate` without the frame that RFC 9110 8.4.1.2 has for it.
    frames = (zlib.MAX_WBITS, -zlib.MAX_WBITS) if name == "deflate" else (zlib.MAX_WBITS | 16,)
    for frame in frames:
        undo = zlib.decompressobj(frame)
        try:
            body = undo.decompress(sent, settings.body_max_bytes + 1)
        except zlib.error:
            continue
        if len(body) > settings.body_max_bytes:
            raise _too_large(settings)
        if undo.eof and not undo.unused_data:
            return body
    raise InvalidRequest(f"The request's body is not {name}, or not all of it.")


def idempotency_key() -> str | None:
    """:raises InvalidRequest: the key is malformed."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not KEY.fullmatch(key):
        raise InvalidRequest(
            "An Idempotency-Key must be 1 to 200 visible ASCII characters.", param="Idempotency-Key"
        )
    return key


def chat_request(body: dict[str, Any], settings: Settings) -> ChatRequest:
    """:raises InvalidRequest: names the field."""
    refuse_unknown(body, _READERS)
    parsed = ChatRequest()
    for name, value in body.items():
        if value is not None:
            _READERS[name](parsed, name, value, settings)
    given = [n for n in ("message", "messages") if getattr(parsed, n) is not None]
    if parsed.regenerate is not None and not given:
        if parsed.conversation_id or parsed.edit or parsed.settings is not None:
            raise InvalidRequest("Send regenerate without conversation_id.", param="regenerate")
        return parsed
    if len(given) != 1 or parsed.regenerate is not None:
        raise InvalidRequest(
            "Send one of: message (a new question), messages (a whole history), "
            "regenerate (the id of an answer).",
            param="message",
        )
    if parsed.messages is not None and (parsed.conversation_id or parsed.edit):
        raise InvalidRequest("Send messages without conversation_id and edit.", param="messages")
    if parsed.settings is not None and (parsed.messages is not None or parsed.conversation_id):
        raise InvalidRequest("Send settings with the first message only.", param="settings")
    if parsed.edit is not None and parsed.conversation_id is None:
        raise InvalidRequest("edit needs a conversation_id.", param="conversation_id")
    return parsed


def conversation_settings(given: Any, settings: Settings) -> dict[str, Any]:
    """A conversation's settings, validated like a question's; None removes one.

    :raises InvalidRequest: names the field.
    """
    if not isinstance(given, dict):
        raise InvalidRequest("settings must be an object.", param="settings")
    refuse_unknown(given, SETTINGS)
    fields = {name: value for name, value in given.items() if name != "system_prompt"}
    chat_request({"message": "a question"} | fields, settings)
    if (prompt := given.get("system_prompt")) is not None:
        check_options_allowed("system_prompt", settings)
        text_field("system_prompt", prompt, settings.prompt_max_chars)
    return dict(given)


def refuse_unknown(body: dict[str, Any], known: Any) -> None:
    """:raises UnknownField: for the first unknown field."""
    for name in body:
        if name not in known:
            shown = name[:64].encode("ascii", "backslashreplace").decode()
            raise UnknownField(f"Unknown field {shown!r}.", param=shown)


def _message(parsed: ChatRequest, name: str, value: Any, settings: Settings) -> None:
    parsed.message = Content(text_field(name, value, settings.message_max_chars))


def _messages(parsed: ChatRequest, _name: str, value: Any, settings: Settings) -> None:
    parsed.messages = checked_history(value, settings)
    parsed.size += len(json.dumps(parsed.messages, ensure_ascii=False).encode())


def _id(parsed: ChatRequest, name: str, value: Any, _settings: Settings) -> None:
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise InvalidRequest(f"{name} is not a valid id.", param=name)
    setattr(parsed, name, value)


def _model(parsed: ChatRequest, name: str, value: Any, _settings: Settings) -> None:
    parsed.model = text_field(name, value, 256)


def _settings(parsed: ChatRequest, _name: str, value: Any, settings: Settings) -> None:
    parsed.settings = conversation_settings(value, settings)


def _sampling(parsed: ChatRequest, name: str, value: Any, settings: Settings) -> None:
    check_options_allowed(name, settings)
    check_option(name, value, settings.client_max_tokens)
    parsed.options[name] = value


def check_options_allowed(name: str, settings: Settings) -> None:
    """:raises NotAllowed: the settings leave no options to clients."""
    if not settings.client_options:
        raise NotAllowed(f"This site does not let you set {name}.", param=name)


_READERS: Final[dict[str, Any]] = {
    "message": _message,
    "messages": _messages,
    "conversation_id": _id,
    "regenerate": _id,
    "edit": _id,
    "model": _model,
    "settings": _settings,
    **dict.fromkeys(SAMPLING_OPTIONS, _sampling),
}
