"""One measurement: a fresh upstream, a fresh server on its own core, and the load generator."""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from processes import (
    NotMeasuredError,
    below,
    cpu_ns,
    free_port,
    memory,
    started,
    wait_until_it_listens,
)
from result import Level, Result
from servers import BUILD, Peer, Place

Watch = Callable[[list[int]], None]


@dataclass(frozen=True)
class Cores:
    """One core for the server, the rest for the tools."""

    server: int
    upstream: int
    load: int

    @classmethod
    def here(cls) -> Self:
        """:raises SystemExit: with a single core, which would measure the tools as well"""
        found = sorted(os.sched_getaffinity(0))
        if len(found) < 2:
            raise SystemExit("The benchmark needs two cores: one for the server, one for its load.")
        return cls(found[0], found[1], found[min(2, len(found) - 1)])


@dataclass(frozen=True)
class Durations:
    """Seconds: the measuring window, the probes after it, the settling before it."""

    window: float = 5
    probes: float = 3
    settle: float = 1


@dataclass
class Readings:
    """What is read of the processes as the load generator's phases begin."""

    pids: list[int]
    upstream: int
    memory_before: int
    watch: Watch | None
    cpu: dict[str, tuple[int, int, int]]
    grown: int = 0

    def read(self, phase: str) -> None:
        self.cpu[phase] = (*cpu_ns(self.pids), cpu_ns([self.upstream])[0])
        if phase == "measure" and self.watch:
            self.watch(self.pids)
        if phase == "measured":
            self.grown = memory(self.pids) - self.memory_before

    def cpu_seconds(self) -> list[float]:
        """In the measuring window: the server's, its waiting for a core, the upstream's."""
        pairs = zip(self.cpu["measure"], self.cpu["measured"], strict=True)
        return [(after - before) / 1e9 for before, after in pairs]


def run_load(
    peer: Peer,
    port: int,
    core: int,
    text: str,
    on_phase: Callable[[str], None] = lambda _: None,
    **options: float,
) -> dict[str, Any]:
    """The load generator's result.

    :param text: what the visitors ask, which is what the upstream obeys
    """
    command = [str(BUILD / "load"), "--url", f"http://127.0.0.1:{port}/api/chat"]
    command += ["--body", peer.body(text), "--probe-body", peer.body("bench-r50-n3")]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    with started(command, core, stdout=subprocess.PIPE) as process:
        for line in process.stdout or ():
            if not line.startswith("phase "):
                return json.loads(line)
            on_phase(line.split()[1])
    raise NotMeasuredError("The load generator ended without a result.")


def warm_up(peer: Peer, port: int, core: int) -> None:
    """Twenty short answers, which must arrive whole.

    :raises NotMeasuredError: when a token is missing or comes twice, or a stream does not end
    """
    told = run_load(peer, port, core, "bench-r100-n20", streams=20, settle=10, seconds=0)
    seen = told["streams"]
    if (seen["tokens"], seen["ended"], seen["failed"]) != (400, 20, 0):
        raise NotMeasuredError(
            f"{peer.name} does not pass answers on: of 400 tokens in 20 streams {seen['tokens']} "
            f"came, {seen['ended']} streams ended, {seen['failed']} failed. {told['first_failure']}"
        )


def measure(
    peer: Peer, level: Level, number: int, cores: Cores, durations: Durations, watch: Watch | None
) -> Result:
    """Measures one server at one level.

    :param number: of the round
    :param watch: called with the serving process ids when the measuring window begins
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)  # nginx' worker is another user
        upstream = stack.enter_context(
            started([str(BUILD / "upstream")], cores.upstream, stdout=subprocess.PIPE)
        )
        assert upstream.stdout
        place = Place(free_port(), int(upstream.stdout.readline()), folder)
        log = folder / "server.log"
        output = stack.enter_context(log.open("w"))
        options = {"cwd": peer.cwd, "env": peer.environment(place)}
        command = peer.prepare(place)
        server = stack.enter_context(
            started(command, cores.server, stdout=output, stderr=subprocess.STDOUT, **options)
        )
        wait_until_it_listens(place.port, server, log)
        warm_up(peer, place.port, cores.load)
        pids = below(server.pid, peer.has_master)
        readings = Readings(pids, upstream.pid, memory(pids), watch, {})
        told = run_load(
            peer,
            place.port,
            cores.load,
            f"bench-r{level.rate}",
            readings.read,
            streams=level.streams,
            seconds=durations.window,
            settle=durations.settle,
            probes=10,
            probe_seconds=durations.probes,
            ramp=500,
            pending=50 if level.idle else 250,
            ramp_limit=60 if level.idle else 30,
        )
        return result_of(peer, level, number, told, readings)


def result_of(
    peer: Peer, level: Level, number: int, told: dict[str, Any], readings: Readings
) -> Result:
    """Puts together what the load generator tells and what was read of the processes."""
    window, streams, visitors = told["window"], told["streams"], told["probes"]
    seconds, events = window["seconds"], window["events"]
    server, waited, upstream = readings.cpu_seconds()
    return Result(
        peer=peer.name,
        round=number,
        streams=level.streams,
        rate=level.rate,
        up=window["streams"],
        failed=streams["failed"] + streams["ended"] + visitors["failed"],
        first_failure=told["first_failure"],
        cpu_per_event=server * 1e6 / max(events, 1),
        share=server / seconds,
        waited=waited / seconds,
        events_per_s=events / seconds,
        delivered=events / seconds / (level.streams * level.rate),
        age_p50=window["age"]["p50"],
        age_p99=window["age"]["p99"],
        ttfb_p50=visitors["ttfb"]["p50"],
        ttfb_p99=visitors["ttfb"]["p99"],
        ttft_p50=visitors["ttft"]["p50"],
        ttft_p99=visitors["ttft"]["p99"],
        unanswered=visitors["waiting"] / max(visitors["opened"], 1),
        memory_per_stream=readings.grown / max(window["streams"], 1),
        upstream_share=upstream / seconds,
        load_share=window["load_cpu_seconds"] / seconds,
    )
