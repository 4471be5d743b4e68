"""What is set up wrong: not ready, told once, and refused by its code until it is right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_storage import command
from tests.support.client import Client
from tests.support.databases import Postgres
from tests.support.gunicorn import Gunicorn
from tests.support.redis_server import RedisServer
from tests.support.upstream import FakeUpstream, by_hand, poll

Wrong = tuple[dict[str, str], str]
"""What a server is started with, and what its operator is to read."""


def no_schema(request: pytest.FixtureRequest, _folder: Path) -> Wrong:
    postgres: Postgres = request.getfixturevalue("postgres")
    return {"CHATAPP_DATABASE_URL": postgres.database()}, "chatapp migrate"


def no_database(request: pytest.FixtureRequest, _folder: Path) -> Wrong:
    postgres: Postgres = request.getfixturevalue("postgres")
    return {"CHATAPP_DATABASE_URL": postgres.url("nowhere")}, '"nowhere" does not exist'


def no_folder(_request: pytest.FixtureRequest, folder: Path) -> Wrong:
    (folder / "file").write_text("")
    return {"CHATAPP_DATABASE_URL": f"sqlite:///{folder}/file/chat.db"}, "can't be kept in"


def no_password(request: pytest.FixtureRequest, _folder: Path) -> Wrong:
    redis: RedisServer = request.getfixturevalue("own_redis")
    redis.command("CONFIG", "SET", "requirepass", "hunter2")
    return {"CHATAPP_EVENTLOG_URL": redis.url}, "uthentication"


def wrong_password(request: pytest.FixtureRequest, _folder: Path) -> Wrong:
    redis: RedisServer = request.getfixturevalue("own_redis")
    redis.command("CONFIG", "SET", "requirepass", "hunter2")
    return {"CHATAPP_EVENTLOG_URL": redis.url.replace("//", "//:hunter3@")}, "username-password"


def readiness(server: Gunicorn) -> Any:
    reply = Client(server.url).get("/readyz")
    return reply.status, reply.json.get("error", {}).get("message", "")


@pytest.mark.parametrize("wrong", [no_schema, no_database, no_folder, no_password, wrong_password])
def test_it_is_told_to_the_operator_once_and_to_clients_by_its_code(
    serve: Callable[..., Gunicorn],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    wrong: Callable[[pytest.FixtureRequest, Path], Wrong],
) -> None:
    env, sentence = wrong(request, tmp_path)
    server = serve(**env)
    status, message = poll(lambda: (told := readiness(server))[0] == 503 and told, 30)
    assert (status, sentence in message) == (503, True), message
    client = Client(server.url)
    client.get("/")
    for _ in range(5):
        reply = client.call("POST", "/api/chat", {"message": "x"}, **{"Idempotency-Key": "k"})
        assert (reply.status, reply.error["code"]) == (503, "misconfigured")
        assert sentence not in reply.error["message"]
    assert server.log.count(sentence) == 1, server.log
    assert "Traceback" not in server.log
    assert "hunter" not in server.log + message


def test_a_storage_that_is_merely_away_is_no_reason_to_be_taken_out(
    serve: Callable[..., Gunicorn],
) -> None:
    server = serve(CHATAPP_DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
    client = Client(server.url)
    reply = client.get("/api/conversations")
    assert (reply.status, reply.error["code"]) == (503, "storage_unavailable")
    assert readiness(server)[0] == 200


def test_a_file_that_is_removed_is_noticed_without_a_request(
    serve: Callable[..., Gunicorn],
) -> None:
    server = serve()
    Client(server.url).get("/api/conversations")
    poll(lambda: readiness(server)[0] == 200)
    file = server.instance / "chat.db"
    file.rename(file.with_name("away.db"))
    poll(lambda: readiness(server)[0] == 503)
    assert "removed" in readiness(server)[1]
    assert not file.exists()
    file.with_name("away.db").rename(file)
    poll(lambda: readiness(server)[0] == 200)


def test_check_says_why_a_server_can_not_be_reached(tmp_path: Path) -> None:
    told = command("check", "postgresql://nobody:hunter2@127.0.0.1:9/none", tmp_path)
    assert (told.returncode, "Connection refused" in told.stderr) == (1, True), told.stderr
    assert "hunter2" not in told.stderr


def test_repair_leaves_alone_what_a_server_writes(
    serve: Callable[..., Gunicorn], upstream: FakeUpstream
) -> None:
    upstream.script = by_hand
    server = serve()
    client = Client(server.url)
    client.get("/")
    answer = client.ask("is written")
    url = f"sqlite:///{server.instance / 'chat.db'}"
    done = command("repair", url, server.instance)
    assert (done.returncode, done.stdout) == (0, "messages that were ended: 0\n"), done.stderr
    client.call("POST", answer["stop"])
