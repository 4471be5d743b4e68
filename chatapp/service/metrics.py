"""Counters of this worker in Prometheus' text format, version 0.0.4."""

import contextlib
import os
from collections.abc import Iterable

from ..errors import StorageUnavailable
from .service import Service

Sample = tuple[str, int]


def exposition(service: Service) -> str:
    """What `/metrics` answers."""
    answers, replicator = service.answers, service.replicator
    readers = answers.readers + service.replicas.readers
    used: list[Sample] = []
    ended = [(f'{{status="{status}"}}', count) for status, count in sorted(answers.ended.items())]
    storage = service.store.room
    with contextlib.suppress(StorageUnavailable):
        used = [("", storage.used())]
    worker = f'{{id="{service.worker_id()}",pid="{os.getpid()}"}}'
    lines = [
        *_metric("worker", "gauge", "The worker that these counters belong to.", [(worker, 1)]),
        *_metric("answers_running", "gauge", "Answers being written.", [("", answers.running)]),
        *_metric("answers_ended_total", "counter", "Answers that ended, by status.", ended),
        *_metric("readers", "gauge", "Connections that follow an answer.", [("", readers)]),
        *_metric("mirrors", "gauge", "Answers read from others.", [("", len(service.replicas))]),
        *_metric(
            "journal_answers", "gauge", "Answers being replicated.", [("", replicator.behind)]
        ),
        *_metric("storage_failing", "gauge", "1: unreachable.", [("", int(replicator.failing))]),
        *_metric("storage_bytes", "gauge", "What the database holds.", used),
        *_metric("storage_max_bytes", "gauge", "What it may; 0: any.", [("", storage.most)]),
        *_metric("outbox", "gauge", "Writes that wait.", [("", len(service.retry_queue))]),
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, about: str, samples: Iterable[Sample]) -> list[str]:
    name = f"chatapp_{name}"
    head = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    return head + [f"{name}{labels} {value}" for labels, value in samples]
