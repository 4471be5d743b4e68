"""The event log in Redis: streams, and scripts that do each step as one."""

import contextlib
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ...errors import ConfigError, StorageUnavailable
from ...runtime.setup_fault import SetupFault
from ..base import (
    MAX_ORPHANS,
    MAX_PUBLISHED,
    MAX_READ_BYTES,
    PendingMessage,
    PublishedMessage,
    Record,
    Segment,
    State,
    Written,
    before_first_message,
)
from . import scripts

CONNECTIONS: Final = 8
"""Of one worker. A call needs one as long as it takes; no reader keeps one."""
TIMEOUT: Final = 2.0
"""Seconds for connecting, and for each answer. A server that was stopped takes both."""
PREFIX: Final = "chatapp:"

_pack = msgspec.msgpack.Encoder().encode
_heads = msgspec.msgpack.Decoder(list[tuple[str, int, int, int, int]]).decode


class RedisEventLog:
    """All keys begin with `chatapp:`. The server must not be a cluster: scripts use many keys.

    What the server loses when it restarts is written again by the workers that have it in memory;
    it should keep its data anyway (`appendonly yes`), and evict nothing (`noeviction`).

    :param url: as redis-py has it.
    :raises ConfigError: a URL that is none, or redis-py is not installed.
    """

    shared = True

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ModuleNotFoundError:
            raise ConfigError(
                "Redis needs redis-py: install the extra `redis` of this package."
            ) from None
        self._error = redis.RedisError
        self._set_up_wrong = (
            redis.AuthenticationError,
            redis.exceptions.AuthorizationError,
            redis.exceptions.NoPermissionError,
            redis.exceptions.MovedError,
            redis.exceptions.ClusterCrossSlotError,
        )
        self.fault = SetupFault()
        self._url = url
        # A connection that broke while it was idle is made anew at once. A time-out is not tried
        # again: that is for those who know how long they can wait.
        again = redis.retry.Retry(redis.backoff.NoBackoff(), 1, (redis.ConnectionError,))
        try:
            pool = redis.BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=TIMEOUT,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                socket_keepalive=True,
                retry=again,
                protocol=2,
            )
        except ValueError:
            # Not quoted: it may hold a password.
            raise ConfigError(
                "CHATAPP_EVENTLOG_URL is no Redis URL; write redis://host:6379/0, and a password "
                "with its special characters as %.."
            ) from None
        self._redis: Any = redis.Redis(connection_pool=pool)
        self._scripts: dict[str, Any] = {}

    def __str__(self) -> str:
        """The URL, without its password."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def check(self) -> None:
        """:raises ConfigError: the server refuses us."""
        with self._errors():
            self._redis.ping()

    def claim(self, record: Record) -> Record:
        return _record(self._run(scripts.CLAIM, record.id, *_flat(record)))

    def add(self, records: Sequence[Record]) -> None:
        claim = self._script(scripts.CLAIM)
        with self._used(), self._redis.pipeline(transaction=False) as together:
            for record in records:
                claim(args=(record.id, *_flat(record)), client=together)
            together.execute()

    def find(self, answer_id: str) -> Record | None:
        fields = self._call("HGETALL", f"{PREFIX}answer:{answer_id}")
        return _record(fields) if fields else None

    def write(
        self,
        writer: str,
        segments: Sequence[Segment],
        states: Sequence[State],
        posts: Sequence[PendingMessage],
    ) -> Written:
        lost, stops, last, reads = self._run(
            scripts.WRITE,
            writer,
            repr(time.time()),
            before_first_message(),
            _pack([(*each[:4], len(each.wire)) for each in segments]),
            _pack(states),
            _pack([_labels(post) for post in posts]),
            b"".join([each.wire for each in segments]),
            *(post.data for post in posts),
        )
        numbers = list(range(last - len(posts) + 1, last + 1)) if posts else []
        counts = {name.decode(): count for name, count in reads}
        return Written(_names(lost), _names(stops), numbers, counts)

    def read(
        self, cursors: Mapping[str, int], max_bytes: int = MAX_READ_BYTES
    ) -> tuple[dict[str, list[Segment]], frozenset[str]]:
        given = _pack(list(cursors.items()))
        missing, heads, wires = self._run(scripts.READ, given, max_bytes)
        found: dict[str, list[Segment]] = {}
        at = 0
        for answer_id, epoch, first, last, size in _heads(heads) if heads else ():
            segment = Segment(answer_id, epoch, first, last, wires[at : at + size])
            found.setdefault(answer_id, []).append(segment)
            at += size
        return found, _names(missing)

    def request_stop(self, answer_id: str) -> None:
        self._run(scripts.REQUEST_STOP, answer_id)

    def note_readers(self, answer_ids: Iterable[str]) -> None:
        self._run(scripts.NOTE_READERS, *answer_ids)

    def release(self, answer_id: str, epoch: int) -> None:
        self._run(scripts.RELEASE, answer_id, epoch)

    def refuse(self, answer_id: str, epoch: int, refusal: bytes) -> None:
        self._run(scripts.REFUSE, answer_id, epoch, refusal, repr(time.time()))

    def discard(self, answer_ids: Iterable[str]) -> None:
        self._run(scripts.DISCARD, *answer_ids)

    def beat(self, writer: str) -> dict[str, int]:
        workers = f"{PREFIX}workers"
        with self._used(), self._redis.pipeline(transaction=False) as together:
            together.hincrby(workers, writer, 1).hgetall(workers)
            _, counts = together.execute()
        return {worker.decode(): int(beats) for worker, beats in counts.items()}

    def beat_here(self, writer: str) -> None:
        # A connection that is not shared with greenlets. In a native thread it makes an event loop
        # of that thread's own.
        pool = self._redis.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        try:
            connection.send_command("HINCRBY", f"{PREFIX}workers", writer, 1)
            connection.read_response()
        except self._error as error:
            raise _unavailable(error) from error
        finally:
            connection.disconnect()

    def leave(self, writers: Iterable[str]) -> None:
        if names := list(writers):
            self._call("HDEL", f"{PREFIX}workers", *names)

    def orphans(self, alive: Collection[str]) -> list[Record]:
        return [_record(fields) for fields in self._run(scripts.ORPHANS, MAX_ORPHANS, *alive)]

    def take(self, answer_id: str, epoch: int, writer: str) -> bool:
        return bool(self._run(scripts.TAKE, answer_id, epoch, writer))

    def published(self, after: int, limit: int = MAX_PUBLISHED) -> list[PublishedMessage]:
        entries = self._call("XRANGE", f"{PREFIX}publications", f"({after}-0", "+", "COUNT", limit)
        return [_publication(*entry) for entry in entries]

    def last_published(self) -> int:
        return int(self._call("GET", f"{PREFIX}published") or 0)

    def tidy(self, answer_age: float, max_bytes: int, post_age: float, posts_kept: int) -> None:
        now = time.time()
        limits = (repr(now - answer_age), max_bytes, repr(now - post_age), posts_kept)
        while self._run(scripts.TIDY, *limits):
            pass

    def close(self) -> None:
        self._redis.close()
        self._redis.connection_pool.disconnect()

    def _call(self, *command: Any) -> Any:
        with self._used():
            return self._redis.execute_command(*command)

    def _run(self, text: str, *arguments: Any) -> Any:
        script = self._script(text)
        with self._used():
            return script(args=arguments)

    def _script(self, text: str) -> Any:
        script = self._scripts.get(text)
        if script is None:
            script = self._scripts[text] = self._redis.register_script(text)
        return script

    @contextlib.contextmanager
    def _used(self) -> Iterator[None]:
        """Around each use: faults as they are told to everybody."""
        with self.fault.watch(), self._errors():
            yield

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """The client's errors as ours."""
        try:
            yield
        except self._error as error:
            said = str(error)
            if "unauthenticated" in said:  # How Redis refuses a long request before a short one.
                said = "Authentication required."
            elif not (isinstance(error, self._set_up_wrong) or "DB index" in said):
                raise _unavailable(error) from error
            raise ConfigError(f"The event log {self} can't be used: {said}") from error


def _unavailable(error: Exception) -> StorageUnavailable:
    return StorageUnavailable(
        "The event log does not answer. Try again in 2 s.", retry_after=2, seen=str(error)
    )


def _flat(record: Record) -> list[Any]:
    """Names and values in turn, without those that say nothing."""
    fields = {name: value for name, value in asdict(record).items() if value is not None}
    if fields.pop("stop"):
        fields["stop"] = 1
    return [part for pair in fields.items() for part in pair]


def _names(found: Iterable[bytes]) -> frozenset[str]:
    return frozenset(each.decode() for each in found)


def _labels(post: PendingMessage) -> list[str]:
    """What stands beside the data: names and values in turn."""
    recipient = [] if post.recipient is None else ["recipient", post.recipient]
    return ["event", post.event, *recipient]


def _record(found: Any) -> Record:
    """A record from a hash, as a script or as the client gives it."""
    pairs = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    fields = {name.decode(): value for name, value in pairs.items()}

    def text(name: str) -> str | None:
        return fields[name].decode() if name in fields else None

    return Record(
        id=fields["id"].decode(),
        owner=fields["owner"].decode(),
        key=text("key"),
        conversation_id=text("conversation_id"),
        model=text("model"),
        created_at=float(fields["created_at"]),
        writer=text("writer"),
        epoch=int(fields["epoch"]),
        status=fields["status"].decode(),
        stop="stop" in fields,
        last_event=int(fields["last_event"]),
        request=fields.get("request"),
        refusal=fields.get("refusal"),
        crashes=int(fields.get("crashes", 0)),
    )


def _publication(entry_id: bytes, flat: Any) -> PublishedMessage:
    pairs = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    recipient = pairs.get(b"recipient")
    return PublishedMessage(
        int(entry_id.partition(b"-")[0]),
        recipient.decode() if recipient is not None else None,
        pairs[b"event"].decode(),
        pairs[b"data"],
        float(pairs[b"at"]),
    )
