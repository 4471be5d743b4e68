"""What `/metrics` tells is what has happened, in the form that Prometheus reads."""

import os
import re
from collections.abc import Callable

from chatapp.service.metrics import exposition
from tests.support.one_chat import OneChat
from tests.support.upstream import FakeUpstream, by_hand, poll

SAMPLE = re.compile(r'(chatapp_[a-z_]+)(\{(?:[a-z]+="[^"\\\n]*",?)+\})? (\d+)')


def samples(chat: OneChat) -> dict[str, int]:
    """By name and labels; each has the type and the help that were told before it."""
    found, told = {}, set()
    text = exposition(chat.service)
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("#"):
            told.add(tuple(line.split(" ")[1:3]))
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        assert {("HELP", match[1]), ("TYPE", match[1])} <= told
        assert match[1] + (match[2] or "") not in found
        found[match[1] + (match[2] or "")] = int(match[3])
    return found


def test_answers_are_counted_while_they_run_and_by_their_ends(
    start_chat: Callable[..., OneChat], upstream: FakeUpstream
) -> None:
    chat = start_chat()
    chat.kept(chat.ask("One"))
    upstream.script = by_hand
    running, stopped = chat.ask("Two"), chat.ask("Three")
    upstream.call("Three")
    chat.service.stop(stopped)
    poll(lambda: not stopped.running)
    told = samples(chat)
    assert told["chatapp_answers_running"] == chat.service.answers.running == 1
    assert told['chatapp_answers_ended_total{status="done"}'] == 1
    assert told['chatapp_answers_ended_total{status="stopped"}'] == 1
    worker = f'chatapp_worker{{id="{chat.service.worker_id()}",pid="{os.getpid()}"}}'
    assert told[worker] == 1
    chat.service.stop(running)
