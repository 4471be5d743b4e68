"""A worker's set-up, without gunicorn; draining is tested with it in `tests/e2e`."""

import logging
from collections.abc import Iterator

import pytest

from chatapp import gunicorn_hooks


@pytest.fixture
def ours() -> Iterator[logging.Logger]:
    """The package's logger, put back afterwards."""
    logger = logging.getLogger("chatapp")
    handlers, level = logger.handlers, logger.level
    yield logger
    logger.handlers = handlers
    logger.setLevel(level)


def servers_log() -> logging.Logger:
    log = logging.Logger("gunicorn.error", logging.INFO)
    log.addHandler(logging.NullHandler())
    return log


def test_our_lines_go_where_gunicorns_go(
    ours: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    ours.handlers = []
    log = servers_log()
    gunicorn_hooks._log_beside_gunicorn(log)
    assert (ours.handlers, ours.level) == (log.handlers, logging.INFO)


def test_an_applications_own_logging_is_left_alone(
    ours: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    ours.handlers = []
    gunicorn_hooks._log_beside_gunicorn(servers_log())
    assert ours.handlers == []


def test_a_worker_that_never_began_has_nothing_to_wait_for() -> None:
    gunicorn_hooks.finish(object())
