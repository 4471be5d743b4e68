"""Counters of this worker in Prometheus' text format, version 0.0.4."""

from collections.abc import Iterable

from .answers import Answers

Sample = tuple[str, int]


def exposition(answers: Answers) -> str:
    """What `/metrics` answers."""
    ended = [(f'{{status="{status}"}}', count) for status, count in sorted(answers.ended.items())]
    lines = [
        *_metric("answers_running", "gauge", "Answers being written.", [("", answers.running)]),
        *_metric("answers_ended_total", "counter", "Answers that ended, by status.", ended),
        *_metric("readers", "gauge", "Connections that follow an answer.", [("", answers.readers)]),
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, about: str, samples: Iterable[Sample]) -> list[str]:
    name = f"chatapp_{name}"
    head = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    return head + [f"{name}{labels} {value}" for labels, value in samples]
