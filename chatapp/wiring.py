"""Builds the components of one chat; the only place where all of them meet."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flask import Flask

from . import cli
from .answers.registry import AnswerRegistry
from .conversations.ledger import Ledger
from .conversations.ledger_writer import LedgerWriter
from .conversations.searches import Searches
from .conversations.store import Store
from .database.database import Database
from .delivery.client_connection import SlowClientGuard
from .eventlog import EventLog, RedisEventLog, needs_database, open_event_log
from .generation.generator import Generator
from .generation.hooks import Hooks
from .generation.tools.registry import Tools
from .identity.visitor_cookie import kept_secret
from .rates import Counts, open_counts
from .replication.leases import Leases, WorkerId
from .replication.pubsub import PushChannel
from .replication.replicas import Replicas
from .replication.replicator import Replicator
from .runtime.concurrency import cooperative
from .runtime.retry_queue import RetryQueue
from .runtime.setup_fault import SetupFault
from .service.components import Components
from .service.expiry import Expiry
from .service.housekeeping import Housekeeping
from .service.limits import Limits
from .service.open_streams import OpenStreams
from .service.recorder import Recorder
from .service.repair import Repair
from .service.service import Service
from .service.setup_check import SetupCheck
from .service.starter import Starter
from .service.takeover import Takeover
from .settings import Settings
from .upstream import local_model, poller
from .upstream.client import Upstream
from .upstream.transport import FastTransport, StockTransport

DATABASE_FILE: Final = "chat.db"
TRANSPORTS: Final = {"fast": FastTransport, "stock": StockTransport}


def build_components(
    app: Flask, settings: Settings, name: str, hooks: Hooks, tools: Tools
) -> Components:
    """The components of the chat `name` in an application.

    :raises ConfigError: an option is invalid, or needs a package that is not installed.
    """
    folder = _folder(app, settings)
    database, event_log = _storage(app, folder, settings)
    secrets, secret_fault = _secrets(app, settings)
    store = _build_store(database, settings)
    upstream = Upstream(
        settings,
        TRANSPORTS[settings.transport],
        local_model.LocalModel(folder),
        local_model.MODEL_ID if local_model.available() else None,
        lambda: poller.read_body if cooperative() else None,
        local_model.missing(),
    )
    counts = open_counts(settings.rate_limit_storage, database)
    core = _build_core(settings, store, upstream, event_log, counts, (hooks, tools), name)
    _register_commands(app, core, f"{name}/")
    return Components(
        settings=settings,
        store=store,
        upstream=upstream,
        service=_build_service(core, name, Expiry(settings, database, name)),
        stalls=SlowClientGuard(settings.send_timeout),
        secrets=secrets,
        setup=SetupCheck(
            [
                (secret_fault, secrets),
                (database.fault, database.probe),
                (event_log.fault, event_log.last_published),
            ]
        ),
    )


def _build_store(database: Database, settings: Settings) -> Store:
    return Store(
        database,
        settings.history_max_messages,
        settings.conversations_kept,
        Ledger(database, settings.ledger_age, WorkerId()),
        max_owned_messages=settings.messages_kept,
        max_bytes=settings.storage_max_bytes,
        searches=Searches(settings.max_searches, settings.search_timeout),
    )


def _register_commands(app: Flask, core: "_Core", owners: str) -> None:
    commands = cli.register(app)
    if isinstance(core.event_log, RedisEventLog):
        commands.event_logs.append(core.event_log)
    repair = Repair(
        store=core.store,
        event_log=core.event_log,
        replicas=core.replicas,
        worker_id=core.worker_id,
        lease=core.settings.lease,
        owners=owners,
    )
    commands.repairs.append((core.event_log, repair.end_unwritten))


def _secrets(app: Flask, settings: Settings) -> tuple[Callable[[], list[str]], SetupFault]:
    """What gives the secrets, the one that signs last, and what is wrong where it can't."""
    fault = SetupFault()

    @functools.cache
    def secrets() -> list[str]:
        former: list[str | bytes] = [*settings.secret_fallbacks]
        # Read late: an application may set its SECRET_KEY after the extensions.
        given = settings.secret or app.secret_key
        if not settings.secret:
            former += app.config.get("SECRET_KEY_FALLBACKS") or ()
        if not given:
            with fault.watch():
                given = kept_secret(_folder(app, settings))
        keys = [*reversed(former), given]
        return [each.hex() if isinstance(each, bytes) else each for each in keys]

    return secrets, fault


@dataclass(frozen=True, kw_only=True)
class _Core:
    """What is built before the services that start answers."""

    settings: Settings
    store: Store
    upstream: Upstream
    event_log: EventLog
    worker_id: Callable[[], str]
    retry_queue: RetryQueue
    ledger_writer: LedgerWriter
    answers: AnswerRegistry
    replicas: Replicas
    replicator: Replicator
    pubsub: PushChannel
    generator: Generator
    limits: Limits


def _build_core(
    settings: Settings,
    store: Store,
    upstream: Upstream,
    event_log: EventLog,
    counts: Counts,
    called: tuple[Hooks, Tools],
    chat: str,
) -> _Core:
    retry_queue, ledger_writer = RetryQueue(), LedgerWriter(store.ledger)
    recorder = Recorder(store, retry_queue, ledger_writer)
    answers = AnswerRegistry(settings, recorder.save, recorder.retired)
    replicator = Replicator(
        event_log,
        store.ledger.worker_id,
        settings.flush_interval,
        stopped=answers.stop,
        lost=answers.release,
        deleted=answers.forget,
        wanted=recorder.is_wanted,
    )
    pubsub = PushChannel(settings, event_log, replicator.post, chat)
    replicator.on_published.append(pubsub.wake)
    generator = Generator(settings, upstream, answers, *called, ledger_writer)
    recorder.connect(replicator, pubsub, generator)
    return _Core(
        settings=settings,
        store=store,
        upstream=upstream,
        event_log=event_log,
        worker_id=store.ledger.worker_id,
        retry_queue=retry_queue,
        ledger_writer=ledger_writer,
        answers=answers,
        replicas=Replicas(event_log, settings),
        replicator=replicator,
        pubsub=pubsub,
        generator=generator,
        limits=Limits(settings, counts, store.ledger.usage_since, chat),
    )


def _build_service(core: _Core, chat: str, expiry: Expiry) -> Service:
    takeover = Takeover(
        core.settings,
        core.store,
        core.upstream,
        core.answers,
        core.replicas,
        core.replicator,
        core.generator,
    )
    leases, housekeeping = _build_watch(core, takeover, f"{chat}/")
    return Service(
        settings=core.settings,
        store=core.store,
        worker_id=core.worker_id,
        event_log=core.event_log,
        answers=core.answers,
        replicas=core.replicas,
        replicator=core.replicator,
        pubsub=core.pubsub,
        leases=leases,
        limits=core.limits,
        starter=Starter(**vars(core)),
        retry_queue=core.retry_queue,
        ledger_writer=core.ledger_writer,
        housekeeping=housekeeping,
        expiry=expiry,
        streams=OpenStreams(core.settings),
    )


def _build_watch(core: _Core, takeover: Takeover, owners: str) -> tuple[Leases, Housekeeping]:
    """What finds dead workers, and what ends the rest of their work."""
    leases = Leases(
        core.event_log,
        core.worker_id,
        core.settings.lease,
        takeover.adopt,
        owners,
        core.settings.busy_lease,
        buried=lambda workers: housekeeping.bury(workers),
    )
    housekeeping = Housekeeping(
        core.settings,
        core.store,
        core.event_log,
        core.answers,
        core.replicas,
        core.retry_queue,
        owners,
        leases.suspect,
    )
    return leases, housekeeping


def _storage(app: Flask, folder: Path, settings: Settings) -> tuple[Database, EventLog]:
    """The database and the event log, which may share it."""
    ours = f"sqlite:///{folder.absolute() / DATABASE_FILE}"
    database = Database(
        settings.database_url or ours,
        settings.database_pool,
        migrates=settings.database_url is None,
    )
    url = settings.eventlog_url
    if url is None:
        cli.register(app, database)
        return database, open_event_log(settings.database_url or ours, database)
    other = Database(url, settings.database_pool) if needs_database(url) else None
    cli.register(app, database, *([other] if other else []))
    return database, open_event_log(url, other)


def _folder(app: Flask, settings: Settings) -> Path:
    return Path(settings.instance or app.instance_path)
