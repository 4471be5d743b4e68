"""Which models an upstream has, and which of them to ask where nobody has chosen one."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final

from ..errors import UpstreamInvalid

LIST_SECONDS: Final = 5.0
"""How long an upstream may take to list its models; a visitor waits for it."""
FAULT_SECONDS: Final = 5.0
"""For how long a fault is told to those who come later: strangers can't have the key used more."""
MAX_LIST_BYTES: Final = 8 << 20
MAX_NAME_CHARS: Final = 256
"""As of the name that a visitor may send."""
OTHER_NAMES: Final = re.compile(
    r"embed|rerank|re-rank|moderation|guard|whisper|transcri|speech|tts|audio|voice|realtime|dall-?e"
    r"|imagen?\b|diffusion|sdxl|flux|video|(?<![a-z])(sora|veo|ocr|clip|lyria|bge|gte|e5)(?![a-z])"
    r"|minilm",
    re.IGNORECASE,
)
"""In the names of models that answer no questions."""
OTHER_KINDS: Final = re.compile(
    r"embed|rerank|moderation|transcri|speech|text-to-(?!text)|generation$|^(image|audio|video)$",
    re.IGNORECASE,
)


class ModelCatalog:
    """The model that an upstream lists first, asked for once; threads may share it.

    :param listing: the body of its reply; called again only some seconds after it failed.
    """

    def __init__(self, listing: Callable[[], bytes]) -> None:
        self._listing = listing
        self._lock = threading.Lock()
        self._found: Future[str] | None = None
        self._failed_at = 0.0

    def first(self) -> str:
        """The first model that answers questions.

        Who comes while it is being asked for waits for the same reply, and has the same fault, as
        has who comes soon after.

        :raises UpstreamInvalid: none is listed.
        :raises ChatAppError: as `listing` does.
        """
        with self._lock:
            found = self._found
            asks = found is None or self._is_outdated(found)
            if found is None or asks:
                found = self._found = Future()
        if asks:
            self._ask(found)
        if error := found.exception():
            raise error.with_traceback(None)  # Else each request would add its frames.
        return found.result()

    def _is_outdated(self, found: Future[str]) -> bool:
        """Whether it is a fault of long ago."""
        if not found.done() or found.exception() is None:
            return False
        return time.monotonic() - self._failed_at >= FAULT_SECONDS

    def _ask(self, found: Future[str]) -> None:
        try:
            models = chat_models(self._listing())
            if not models:
                raise UpstreamInvalid(NO_MODEL)
        except BaseException as error:  # Nobody may wait for ever, whatever it was.
            self._failed_at = time.monotonic()
            found.set_exception(error)
        else:
            found.set_result(models[0])


NO_MODEL: Final = "The model's server lists no model that answers questions. Set CHATAPP_MODEL."


def chat_models(listing: bytes) -> list[str]:
    """The models in a list that answer questions, in its order.

    It may be OpenAI's (`data`), another's (`models`), or bare; of objects, or of names.
    """
    try:
        listed = json.loads(listing)
    except (ValueError, RecursionError):
        return []
    if isinstance(listed, dict):
        listed = listed.get("data") or listed.get("models")
    return list(_chat_models(listed)) if isinstance(listed, list) else []


def _chat_models(listed: list[Any]) -> Iterator[str]:
    for entry in listed:
        about = entry if isinstance(entry, dict) else {"id": entry}
        names = (about.get(key) for key in ("id", "name", "model"))
        name = next((each for each in names if isinstance(each, str) and each), None)
        if (
            name
            and _is_readable(name)
            and not OTHER_NAMES.search(name)
            and _answers_questions(about)
        ):
            yield name


def _is_readable(name: str) -> bool:
    return len(name) <= MAX_NAME_CHARS and name.isprintable()


def _answers_questions(about: dict[str, Any]) -> bool:
    """Whether what is told of a model beside its name speaks against that."""
    kinds = (about.get(key) for key in ("type", "task", "mode", "category"))
    if any(OTHER_KINDS.search(kind) for kind in kinds if isinstance(kind, str)):
        return False
    able, built = about.get("capabilities"), about.get("architecture")
    if isinstance(able, dict) and able.get("completion_chat") is False:
        return False
    gives = built.get("output_modalities") if isinstance(built, dict) else None
    return not isinstance(gives, list) or "text" in gives
