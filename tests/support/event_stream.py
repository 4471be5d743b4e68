"""Reading an event stream as it comes, in parts."""

from chatapp.upstream.sse_decoder import Decoder, Message


def decode(parts: list[bytes], limit: int = 8 << 20) -> list[Message]:
    """All complete messages; `limit` is the decoder's own."""
    decoder = Decoder(limit)
    return [message for part in parts for message in decoder.feed(part)]
