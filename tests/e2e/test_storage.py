"""What is kept where: over restarts, in several workers, and in a database of one's own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.client import Client
from tests.support.databases import Postgres
from tests.support.gunicorn import ROOT, Gunicorn
from tests.support.upstream import FakeUpstream, by_hand, poll, speak


def command(name: str, url: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """`flask --app wsgi chatapp …` as an operator runs it."""
    env = {"CHATAPP_DATABASE_URL": url, "CHATAPP_INSTANCE": str(folder), "PATH": "/usr/bin:/bin"}
    line = [sys.executable, "-m", "flask", "--app", "wsgi", "chatapp", name]
    return subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def texts(client: Client, conversation: str) -> list[str]:
    messages = client.get(f"/api/conversations/{conversation}").json["messages"]
    return [each["content"] for each in messages]


def test_conversations_outlive_the_server_and_are_the_same_in_every_worker(
    serve: Callable[..., Gunicorn], upstream: FakeUpstream
) -> None:
    """With nothing set: a file in the instance folder, made by whoever comes first."""
    upstream.script = speak("kept \u2028 exactly")
    server = serve("-w", "3")
    client = Client(server.url)
    client.get("/")
    asked = client.ask("Will this be kept?")
    conversation = asked["answer"]["conversation_id"]
    poll(lambda: texts(client, conversation)[1:] == ["kept \u2028 exactly"])
    for _ in range(10):
        fresh = Client(server.url)
        fresh.cookie = client.cookie
        assert texts(fresh, conversation) == ["Will this be kept?", "kept \u2028 exactly"]
    server.stop()
    again = Client(serve("-w", "2").url)
    again.cookie = client.cookie
    assert texts(again, conversation) == ["Will this be kept?", "kept \u2028 exactly"]
    assert "Traceback" not in server.log


def test_a_database_without_the_schema_is_told_to_the_operator_who_makes_it(
    serve: Callable[..., Gunicorn], upstream: FakeUpstream, postgres: Postgres, tmp_path: Path
) -> None:
    """And then it works, without a restart."""
    upstream.script = speak("in PostgreSQL")
    url = postgres.database()
    server = serve(CHATAPP_DATABASE_URL=url)
    client = Client(server.url)
    reply = client.get("/api/conversations")
    assert (reply.status, reply.error["code"]) == (503, "misconfigured")
    assert "chatapp migrate" not in reply.error["message"]
    poll(lambda: "chatapp migrate" in server.log)
    before = command("check", url, tmp_path)
    assert (before.returncode, "chatapp migrate" in before.stderr) == (1, True)
    assert command("migrate", url, tmp_path).returncode == 0
    assert command("check", url, tmp_path).returncode == 0
    client.get("/")
    asked = client.ask("Will this be kept?")
    conversation = asked["answer"]["conversation_id"]
    poll(lambda: texts(client, conversation)[1:] == ["in PostgreSQL"])


def test_open_streams_hold_no_connection(
    serve: Callable[..., Gunicorn], upstream: FakeUpstream
) -> None:
    """With one connection for all, everybody else is still answered."""
    upstream.script = by_hand
    options = {"CHATAPP_DATABASE_POOL": "1", "CHATAPP_START_WAIT": "0"}
    server = serve(**options, CHATAPP_MAX_RUNNING_PER_OWNER="100")
    client = Client(server.url)
    client.get("/")
    asked = [client.ask(f"open stream {n}") for n in range(40)]
    streams = [client.stream(each["events"]) for each in asked]
    for stream in streams:
        assert next(stream.blocks()).startswith(b"retry:")
    listed = client.get("/api/conversations").json["conversations"]
    assert len(listed) == 40
    for each in listed:
        assert client.call("DELETE", f"/api/conversations/{each['id']}").status == 204
    for stream in streams:
        stream.close()
