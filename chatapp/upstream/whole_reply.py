"""An answer in one piece of JSON, from a server that streams nothing though it was asked to."""

from typing import Final

from .sse_decoder import Message, MessageTooLarge

LIMIT: Final = 8 << 20
"""Bytes of such a reply."""


def is_whole_reply(begin: bytes) -> bool:
    """Whether a body that begins so is JSON; no stream of events does."""
    return begin.lstrip().startswith((b"{", b"["))


class WholeReply:
    """Collects it; used as `sse_decoder.Decoder`."""

    __slots__ = ("_blocks", "_size")

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._size = 0

    def feed_data(self, block: bytes) -> list[bytes]:
        """Nothing is complete before the end.

        :raises MessageTooLarge: when the reply is longer than the limit.
        """
        self._blocks.append(block)
        self._size += len(block)
        if self._size > LIMIT:
            raise MessageTooLarge(f"The reply is longer than {LIMIT} bytes.")
        return []

    def flush(self) -> list[Message]:
        """The whole, as one message; some servers put the end of a stream behind it."""
        whole = b"".join(self._blocks).rstrip().removesuffix(b"[DONE]").rstrip()
        return [Message("message", whole.removesuffix(b"data:"), "")]
