"""Measures this application and its peers side by side and writes ``docs/benchmarks.md``.

``make bench`` builds the tools, installs the peers and runs this with its defaults. Repeats go
round all servers in turn, so that a noisy minute hits all of them, and medians are told.
"""

import argparse
import contextlib
import fcntl
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import report
from measure import Cores, Durations, measure
from processes import NotMeasuredError
from profiling import Profiler
from result import Level, Result, Results
from servers import ALL, BUILD, ROOT, Peer

LEVELS = "1,50,100,400,1000,1000x100,idle1000,idle4000,idle8000"
FILES = 65536
RESULTS = BUILD / "results.json"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=",".join(ALL), help="default: %(default)s")
    parser.add_argument(
        "--levels", default=LEVELS, help="streams of 50 events/s, NxRATE, idleN; %(default)s"
    )
    parser.add_argument("--seconds", type=float, default=5, help="of the window; %(default)s")
    parser.add_argument("--probe-seconds", type=float, default=3, help="default: %(default)s")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; default: %(default)s")
    parser.add_argument(
        "--nice", type=int, default=0, help="of all processes; default: %(default)s"
    )
    parser.add_argument("--profile", action="store_true", help="py-spy during the windows")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="gets the report")
    parser.add_argument("--no-report", action="store_true", help="leave the docs as they are")
    parser.add_argument("--results", help="write the report of this file, measure nothing")
    parser.add_argument("--add", action="store_true", help="rounds to those of the last run")
    return parser.parse_args()


def chosen_peers(names: str) -> list[Peer]:
    """The named servers that can run here; what can't is told, not an error."""
    peers = []
    for name in names.split(","):
        if name not in ALL:
            raise SystemExit(f"There is no peer {name}; there are {', '.join(ALL)}.")
        if missing := ALL[name].missing():
            print(f"{name} is left out: {missing}", file=sys.stderr)
        else:
            peers.append(ALL[name])
    return peers


def raise_file_limit() -> None:
    """8000 streams are 16,000 sockets in the server and as many outside."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(hard, FILES), hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return


def show(result: Result, seconds: float) -> None:
    print(
        f"{result.peer:12} {result.streams:5} × {result.rate:2}/s"
        f" {result.cpu_per_event:7.1f} µs/event"
        f" {result.share:5.0%} of a core, waited {abs(result.waited):3.0%}"
        f" {result.events_per_s:8.0f} events/s ({result.delivered:4.0%})"
        f"  age p50 {result.age_p50 / 1000:.2f} p99 {result.age_p99 / 1000:.2f} ms"
        f"  first byte {result.ttfb_p50 / 1000:.1f}/{result.ttfb_p99 / 1000:.1f} ms"
        f"  token {result.ttft_p50 / 1000:.1f}/{result.ttft_p99 / 1000:.1f} ms"
        f"  {result.memory_per_stream / 1024:.1f} KB/stream"
        f"  tools {result.upstream_share:.0%}+{result.load_share:.0%}  {seconds:.0f} s",
        flush=True,
    )
    if result.upstream_share + result.load_share > 0.85:
        print("  The tools are near the limit of a core: do not rely on this one.")
    if result.failed or result.up < result.streams:
        print(f"  {result.up} streams up, {result.failed} failed: {result.first_failure}")


def save(results: list[Result], command: str) -> None:
    """After each measurement, so that a run that is broken off is not lost."""
    told = {"command": command, "results": [each.json() for each in results]}
    RESULTS.write_text(json.dumps(told, indent=1))


def read(file: Path) -> tuple[list[Result], str]:
    """Results that were saved, and the command that made them."""
    told = json.loads(file.read_text())
    return [Result(**each) for each in told["results"]], told["command"]


def run(options: argparse.Namespace, command: str, results: list[Result]) -> None:
    """Adds the results of new rounds to those that are there."""
    peers = chosen_peers(options.peers)
    os.setpriority(os.PRIO_PROCESS, 0, options.nice)
    levels = [Level.parse(each) for each in options.levels.split(",")]
    durations = Durations(window=options.seconds, probes=options.probe_seconds)
    profiler = Profiler(options.seconds) if options.profile else None
    first = max((each.round for each in results), default=-1) + 1
    for number in range(first, first + options.repeat):
        for level in levels:
            for peer in peers:
                start = time.monotonic()
                watch = profiler.watch(f"{peer.name}-{level.streams}") if profiler else None
                try:
                    results.append(measure(peer, level, number, Cores.here(), durations, watch))
                except NotMeasuredError as error:
                    print(f"{peer.name} at {level} was not measured: {error}", file=sys.stderr)
                    continue
                show(results[-1], time.monotonic() - start)
                save(results, command)
                if profiler:
                    profiler.tell()


def main() -> None:
    options = arguments()
    raise_file_limit()
    command = "make bench" if len(sys.argv) == 1 else f"bench/run.py {' '.join(sys.argv[1:])}"
    results: list[Result] = []
    if options.results:
        results, command = read(Path(options.results))
    else:
        if options.add:
            results, before = read(RESULTS)
            command = f"{before}\n    {command}"
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its processes end, too
        with (BUILD / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once would measure each other
            run(options, command, results)
    if not options.no_report:
        report.write(Results(results), options.docs, command)


if __name__ == "__main__":
    main()
