"""The page's files and its HTML, as they go to clients that take them compressed or don't."""

import gzip
import importlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from chatapp.views import assets
from tests.support import flask_client

make_app, app, client = flask_client.make_app, flask_client.app, flask_client.client

STATIC = assets.STATIC
URL = "/assets/markdown/inline.js"
SOURCE = (STATIC / "markdown/inline.js").read_bytes()
FILES = sorted(path for path in STATIC.rglob("*") if path.suffix in assets.TYPES)
PLAIN: list[str | None] = [None]


def decoder(coding: str | None) -> Callable[[bytes], bytes]:
    if coding == "zstd":
        decompress: Callable[[bytes], bytes] = importlib.import_module(
            "compression.zstd"
        ).decompress
        return decompress
    return {None: bytes, "gzip": gzip.decompress, "br": brotli.decompress}[coding]


@pytest.mark.parametrize("coding", [*PLAIN, *assets.ENCODERS])
def test_each_file_is_served_as_it_is(client: FlaskClient, coding: str | None) -> None:
    assert len(FILES) > 20
    for path in FILES:
        url = f"/assets/{path.relative_to(STATIC).as_posix()}"
        headers = {"Accept-Encoding": coding} if coding else {}
        response = client.get(url, headers=headers)
        assert response.status_code == 200
        assert decoder(coding)(response.data) == path.read_bytes()
        assert response.content_encoding == coding
        assert response.mimetype == assets.TYPES[path.suffix]
        assert "Accept-Encoding" in response.vary
        assert response.cache_control.no_cache


def test_brotli_is_used_where_it_is_installed_and_gzip_in_any_case() -> None:
    codings = list(assets.ENCODERS)
    assert (codings[0], codings[-1]) == ("br", "gzip")


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, None),
        ("", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip, deflate", "gzip"),
        ("gzip, deflate, br, zstd", "br"),
        ("zstd, gzip", "zstd"),
        ("gzip;q=1, br;q=0.5", "gzip"),
        ("gzip;q=0.1, br;q=0.2, zstd;q=0.3", "zstd"),
        ("gzip;q=0", None),
        ("br;q=0, gzip;q=0.001", "gzip"),
        ("*", "br"),
        ("*;q=0", None),
        ("br;q=0, *;q=0.5", "zstd"),
        ("*;q=0, gzip", "gzip"),
        ("identity", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("deflate, compress", None),
        ("gzip;q=nonsense, ,;;", None),
    ],
)
def test_the_coding_is_the_one_that_is_accepted_best(
    accepted: str | None, coding: str | None
) -> None:
    parsed = parse_accept_header(accepted, Accept)
    assert assets.coding_for(parsed, ("br", "zstd", "gzip")) == coding


def test_a_known_file_is_not_sent_again(client: FlaskClient) -> None:
    tags = {}
    for coding in ("identity", *assets.ENCODERS):
        first = client.get(URL, headers={"Accept-Encoding": coding})
        tags[coding] = first.headers["ETag"]
        again = client.get(URL, headers={"Accept-Encoding": coding, "If-None-Match": tags[coding]})
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == tags[coding]
        assert "Accept-Encoding" in again.vary
        assert client.get(URL, headers={"Accept-Encoding": coding}).headers["ETag"] == tags[coding]
    assert len(set(tags.values())) == len(tags)
    # What somebody has in another coding is not what is asked for.
    other = {"Accept-Encoding": "gzip", "If-None-Match": tags["identity"]}
    assert client.get(URL, headers=other).status_code == 200


def test_head_says_what_get_would(client: FlaskClient) -> None:
    client.get("/")  # The visitor's cookie is set now.
    for url in (URL, "/api/page"):
        for coding in ("identity", "gzip"):
            headers = {"Accept-Encoding": coding}
            got, head = client.get(url, headers=headers), client.head(url, headers=headers)
            assert (head.status_code, head.data) == (200, b"")
            said, promised = dict(got.headers), dict(head.headers)
            assert {**said, "Date": ""} == {**promised, "Date": ""}
            assert head.content_length == len(got.data)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nothing.js",
        "types.d.ts",
        "markdown",
        "markdown/",
        "../assets.py",
        "..%2F..%2Fextension.py",
        "markdown/../../views/x.js",
        "%2Fetc/x.js",
        "/etc/x.js",
        "dom.js%00.js",
        "..\\dom.js",
        "DOM.JS",
    ],
)
def test_nothing_else_is_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/assets/{name}", follow_redirects=True).status_code == 404


def test_no_file_outside_of_the_folder_is_served(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "static/in.js").write_text("in")
    (tmp_path / "out.js").write_text("out")
    monkeypatch.setattr(assets, "STATIC", tmp_path / "static")
    assert client.get("/assets/in.js").data == b"in"
    for name in ("../out.js", "x/../../out.js", "%2e%2e/out.js", f"{tmp_path}/out.js"):
        assert client.get(f"/assets/{name}", follow_redirects=True).status_code == 404


def test_a_file_that_has_changed_is_read_again(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "STATIC", tmp_path)
    file = tmp_path / "a.js"
    seen = set()
    for version in (1, 2):
        file.write_text(f"version {version}")
        os.utime(file, ns=(version, version))
        response = client.get("/assets/a.js", headers={"Accept-Encoding": "gzip"})
        assert gzip.decompress(response.data) == b"version %d" % version
        seen.add(response.headers["ETag"])
    assert len(seen) == 2


def test_each_version_is_compressed_once(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compress(data: bytes) -> bytes:
        calls.append(data)
        return gzip.compress(data)

    assets.encoded_file.cache_clear()
    monkeypatch.setitem(assets.ENCODERS, "gzip", compress)
    for _ in range(3):
        assert client.get(URL, headers={"Accept-Encoding": "gzip"}).status_code == 200
    assert calls == [SOURCE]
    assets.encoded_file.cache_clear()
    assert assets.encoded_file.cache_parameters()["maxsize"] >= len(FILES) * 4


def test_the_html_is_compressed_likewise_and_json_is_not(app: Flask) -> None:
    for url in ("/", "/c/x", "/api/page?lang=en&page="):
        client = app.test_client()
        plain = client.get(url)
        packed = client.get(url, headers={"Accept-Encoding": "gzip"})
        assert plain.content_encoding is None
        assert packed.content_encoding == "gzip"
        assert zlib.decompress(packed.data, wbits=31) == plain.data
        assert "Accept-Encoding" in packed.vary
        assert "Accept-Encoding" in plain.vary
        assert packed.content_length == len(packed.data)
    models = client.get("/api/models", headers={"Accept-Encoding": "gzip"})
    assert models.content_encoding is None
