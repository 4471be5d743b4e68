"""``docs/benchmarks.md`` and its plots, from what was measured."""

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from plots import Bar, Group, bar_chart, number
from result import Level, Result, Results
from servers import ALL, output, python

OWN = "chatapp"
ENOUGH = 3
"""Rounds from which on the lowest and the highest of them say something."""
INTRO = """# Benchmarks

What an answer costs on its way through this application and through others, measured side by side
in one run. One process serves on a core of its own. The streams come from a fake OpenAI-compatible
upstream that writes into each token the time at which it sent it; a load generator follows them all
and reads that time. Both are small C programs, so that they disturb little; `bench/` has them, the
peers and all settings.

    {command}

wrote this page on {machine}.
"""
METHOD = """## What is measured

* **CPU per event**: time on a core, user and system, of all serving processes (a gunicorn or nginx
  master apart) in the measuring window, divided by the events that arrived in it. An event is one
  token.
* **Added latency**: from the upstream's `send` to the load generator's `recv` of the same token.
* **First byte, first token**: of new visitors who come at a fixed rate while all streams run,
  connecting included. The upstream gives its first token at once.
* **Memory per stream**: growth of the serving processes' PSS from the state after 20 finished
  warm-up streams to the end of the window, divided by the open streams. The kernel's socket buffers
  are not in it.
* The figures are medians over up to {rounds} rounds; each goes through its servers in turn. Ratios
  are made in each round, then their median is taken; in brackets, the lowest and the highest of
  three rounds or more.
* chatapp runs with everything on: decoding, numbered log, its copy in a database (SQLite) for other
  workers, resuming, heartbeat, watch for visitors who go. While tokens are dense it reads its
  upstreams once in 1 to 4 ms, which is most of its added latency. The raw relay passes bytes on
  and does none of this. nginx is the floor of a C program without any application. The OpenAI
  SDK's limit of 1000 connections is lifted in the peers.
"""
NOTE = """`*`: the core was full or events came late; a delay then tells only how long the run was.
`†`: full, and yet all that was offered has passed. CPU per event is then the core divided by the
offer, the same for every such server, so neither it nor its ratio is a result; the most events per
second, below, is. `>`: the visitors had no answer yet when the run ended.
"""


def write(results: Results, docs: Path, command: str) -> None:
    """Writes the page and its plots.

    :param docs: gets ``benchmarks.md`` and the folder ``benchmarks``
    :param command: that makes them again
    """
    folder = docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    rounds = len({each.round for each in results.all})
    parts = [INTRO.format(command=command, machine=machine())]
    parts += _busy(results, folder) if results.busy else []
    parts += _idle(results, folder) if results.idle else []
    parts.append(METHOD.format(rounds=rounds))
    parts.append(_versions(results))
    (docs / "benchmarks.md").write_text("\n".join(parts))


def machine() -> str:
    """Processor, cores and kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}"


def _busy(results: Results, folder: Path) -> list[str]:
    levels = results.busy
    own = _plot(results, levels, lambda each: each.cpu_per_event)
    (folder / "cpu.svg").write_text(
        bar_chart(
            "CPU per event, µs (less is better; * core full; † the offer's limit)",
            _names(levels),
            own,
        )
    )
    ages = _plot(results, levels, lambda each: each.age_p99 / 1000)
    title = "Added latency per event, 99th percentile, ms (logarithmic; * † core full)"
    (folder / "latency.svg").write_text(bar_chart(title, _names(levels), ages, logarithmic=True))
    return [
        "## Busy streams\n",
        NOTE,
        "### CPU per event, µs\n",
        _table(results, levels, lambda each: number(each.cpu_per_event)),
        "![CPU per event](benchmarks/cpu.svg)\n",
        *_ratios(results, levels),
        *_ceilings(results, folder),
        "### Added latency per event, p50 / p99, ms\n",
        _table(results, levels, lambda each: _pair(each.age_p50, each.age_p99)),
        "![Added latency](benchmarks/latency.svg)\n",
        "### A new visitor's first byte, p50 / p99, ms\n",
        _table(results, levels, lambda each: _visitors(each, each.ttfb_p50, each.ttfb_p99)),
        "### A new visitor's first token, p50 / p99, ms\n",
        _table(results, levels, lambda each: _visitors(each, each.ttft_p50, each.ttft_p99)),
    ]


def _idle(results: Results, folder: Path) -> list[str]:
    levels = results.idle
    bars = _plot(results, levels, lambda each: each.memory_per_stream / 1024)
    title = "Memory per nearly idle stream, KB (less is better; * core full)"
    (folder / "memory.svg").write_text(bar_chart(title, _names(levels), bars))
    return [
        "## Nearly idle streams: one event a second\n",
        "### Memory per stream, KB\n",
        _table(results, levels, lambda each: number(each.memory_per_stream / 1024)),
        "![Memory per stream](benchmarks/memory.svg)\n",
        "### Share of the core\n",
        _table(results, levels, lambda each: f"{each.share:.0%}"),
        "### A new visitor's first byte, p50 / p99, ms\n",
        _table(results, levels, lambda each: _visitors(each, each.ttfb_p50, each.ttfb_p99)),
        "### Added latency per event, p50 / p99, ms\n",
        _table(results, levels, lambda each: _pair(each.age_p50, each.age_p99)),
    ]


def _ratios(results: Results, levels: Sequence[Level]) -> list[str]:
    others = [peer for peer in results.peers if peer != OWN]
    if OWN not in results.peers or not others:
        return []
    rows = []
    for peer in others:
        cells = []
        for level in levels:
            ratios = results.ratios(peer, OWN, level)
            bound = any(results.limited_by_load(each, level) for each in (peer, OWN))
            mark = "†" if bound else _mark(results, peer, level) or _mark(results, OWN, level)
            cells.append(f"{_middle(ratios)}{mark}" if ratios else "–")
        rows.append([ALL[peer].title, *cells])
    return [
        f"### CPU per event, as a multiple of {OWN}'s\n",
        markdown_table(["", *_names(levels)], rows),
    ]


def _middle(ratios: list[float]) -> str:
    """The median, and between which they were where there are enough to tell."""
    spread = f" ({ratios[0]:.2f}–{ratios[-1]:.2f})" if len(ratios) >= ENOUGH else ""
    return f"{median(ratios):.2f}{spread}"


def _ceilings(results: Results, folder: Path) -> list[str]:
    groups, rows = [], []
    for peer in results.peers:
        rate, exceeded = results.ceiling(peer) or (None, True)
        note = "" if exceeded else " or more (all that was offered)"
        bar = Bar(rate, "" if exceeded else " or more")
        groups.append(Group(ALL[peer].title, [bar], peer == OWN))
        rows.append([ALL[peer].title, f"{number(rate)}{note}" if rate else "–"])
    title = "Most events per second on one core (more is better)"
    (folder / "throughput.svg").write_text(bar_chart(title, ["events/s"], groups))
    return [
        "### Most events per second on one core\n",
        markdown_table(["", "events/s"], rows),
        "![Events per second](benchmarks/throughput.svg)\n",
    ]


def _table(results: Results, levels: Sequence[Level], cell: Callable[[Result], str]) -> str:
    """A row for each server; a cell shows the whole round that has the median CPU per event."""
    rows = []
    for peer in results.peers:
        cells = []
        for level in levels:
            found = sorted(results.of(peer, level), key=lambda each: each.cpu_per_event)
            if not found:
                cells.append("–")
                continue
            middle = found[len(found) // 2]
            missing = "" if middle.up == level.streams else f" ({middle.up} streams)"
            cells.append(cell(middle) + _mark(results, peer, level) + missing)
        rows.append([ALL[peer].title, *cells])
    return markdown_table(["", *_names(levels)], rows)


def _plot(
    results: Results, levels: Sequence[Level], value: Callable[[Result], float]
) -> list[Group]:
    groups = []
    for peer in results.peers:
        bars = [
            Bar(results.median(peer, level, value), _mark(results, peer, level)) for level in levels
        ]
        groups.append(Group(ALL[peer].title, bars, peer == OWN))
    return groups


def _versions(results: Results) -> str:
    version = output(str(python()), "--version")
    head = ["## Versions\n", f"{version}; what the peers need is pinned in `bench/peers`.\n"]
    lines = [f"* {ALL[peer].title}: {ALL[peer].versions()}" for peer in results.peers]
    return "\n".join([*head, *lines, ""])


def _names(levels: Sequence[Level]) -> list[str]:
    return [str(level) for level in levels]


def _mark(results: Results, peer: str, level: Level) -> str:
    if results.limited_by_load(peer, level):
        return "†"
    return "*" if results.saturated(peer, level) else ""


def _pair(low: float, high: float) -> str:
    return f"{number(low / 1000)} / {number(high / 1000)}"


def _visitors(result: Result, low: float, high: float) -> str:
    """A percentile that lies among visitors who were still waiting is only a lower bound."""
    marks = [">" if result.unanswered > share else "" for share in (0.5, 0.01)]
    return f"{marks[0]}{number(low / 1000)} / {marks[1]}{number(high / 1000)}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
