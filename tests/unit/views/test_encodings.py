"""A compressed body is taken, bounded as any other, or refused by a sentence that says so."""

import contextlib
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import BodyTooLarge, InvalidRequest
from chatapp.settings import Settings
from chatapp.views.validation import decoded
from tests.support import flask_client
from tests.support.hypothesis_settings import FEW

make_app, app, client = flask_client.make_app, flask_client.app, flask_client.client

BODY = {"message": "compressed"}
MOST = 1000
SETTINGS = Settings(body_max_bytes=MOST)


def raw_deflate(body: bytes) -> bytes:
    undone = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return undone.compress(body) + undone.flush()


WAYS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    (" GZIP ", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("identity", bytes),
    ("", bytes),
]


def post(client: FlaskClient, sent: bytes, encoding: str) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    response = client.post("/api/chat", data=sent, headers=headers)
    return response.status_code, json.loads(response.data)


@pytest.mark.parametrize(("encoding", "compress"), WAYS)
def test_a_compressed_question_is_asked(
    client: FlaskClient, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    status, body = post(client, compress(json.dumps(BODY).encode()), encoding)
    assert status == 202, body


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_another_compression_is_refused_by_name(client: FlaskClient, encoding: str) -> None:
    status, body = post(client, json.dumps(BODY).encode(), encoding)
    assert (status, body["error"]["code"]) == (415, "unknown_encoding")
    assert "gzip" in body["error"]["message"]


@pytest.mark.parametrize(
    "sent",
    [b"{}", b"", gzip.compress(b"{}")[:-1], gzip.compress(b"{}") + b"x"],
    ids=["plain", "empty", "cut", "too long"],
)
def test_what_is_not_compressed_as_it_says_is_told_so(client: FlaskClient, sent: bytes) -> None:
    status, body = post(client, sent, "gzip")
    assert (status, body["error"]["code"]) == (400, "invalid_request")
    assert "gzip" in body["error"]["message"]


@pytest.mark.parametrize(("encoding", "compress"), WAYS[:5])
def test_a_bomb_is_refused_and_not_expanded(
    encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    bomb = compress(b" " * 50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            decoded(bomb, encoding, SETTINGS)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@FEW
@given(st.binary(max_size=2 * MOST), st.sampled_from(WAYS[:5]))
def test_what_fits_comes_out_as_it_was(
    body: bytes, way: tuple[str, Callable[[bytes], bytes]]
) -> None:
    encoding, compress = way
    if len(body) > MOST:
        with pytest.raises(BodyTooLarge):
            decoded(compress(body), encoding, SETTINGS)
    else:
        assert decoded(compress(body), encoding, SETTINGS) == body


@FEW
@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_nothing_that_is_sent_is_more_than_an_error(sent: bytes, encoding: str) -> None:
    with contextlib.suppress(InvalidRequest):
        decoded(sent, encoding, SETTINGS)
