"""Bar charts as SVG, in colours that suit a light and a dark page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LABELS, VALUES = 760, 250, 120
BAR, GAP, GROUP_GAP = 14, 2, 12
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-size: 14px; font-weight: 600; fill: #24292f }
  .grid { stroke: #8c959f; stroke-opacity: .3 }
  .bar { fill: #8c959f } .own { fill: #2f81f7 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 } .title { fill: #d1d7e0 }
  }
"""


@dataclass(frozen=True)
class Bar:
    """``value`` may be missing; ``note`` stands behind the number."""

    value: float | None
    note: str = ""


@dataclass(frozen=True)
class Group:
    """The bars of one server, one for each series; ``own`` stands out."""

    label: str
    bars: Sequence[Bar]
    own: bool = False


def bar_chart(
    title: str, series: Sequence[str], groups: Sequence[Group], *, logarithmic: bool = False
) -> str:
    """Horizontal bars: a group for each server, in it a bar for each series, lighter ones first."""
    values = [bar.value for group in groups for bar in group.bars if bar.value]
    scale = _scale(values, logarithmic)
    rows: list[str] = []
    y = 56
    for group in groups:
        height = len(group.bars) * (BAR + GAP)
        rows.append(_text(LABELS - 10, y + height / 2 + 4, group.label, "end"))
        for index, bar in enumerate(group.bars):
            rows += _bar(
                y + index * (BAR + GAP), bar, scale, _opacity(index, len(series)), group.own
            )
        y += height + GROUP_GAP
    head = _text(12, 22, title, "start", "title")
    grid = f'<line class="grid" x1="{LABELS}" y1="48" x2="{LABELS}" y2="{y - 6}"/>'
    parts = [head, *_legend(series), grid, *rows]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" '
        f'viewBox="0 0 {WIDTH} {y}" role="img" aria-label="{escape(title)}">\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _scale(values: Sequence[float], logarithmic: bool) -> Callable[[float], float]:
    """Value to pixels; a logarithmic one begins a little under the least value."""
    room = WIDTH - LABELS - VALUES
    top = max(values, default=1)
    if not logarithmic:
        return lambda value: max(value, 0) / top * room
    low = math.log(min(values, default=1) / 1.5)
    return lambda value: (math.log(value) - low) / max(math.log(top) - low, 1e-9) * room


def _bar(
    y: float, bar: Bar, scale: Callable[[float], float], opacity: float, own: bool
) -> list[str]:
    if bar.value is None:
        return [_text(LABELS + 6, y + BAR - 3, bar.note or "not measured")]
    width = scale(bar.value) if bar.value > 0 else 0
    shape = "bar own" if own else "bar"
    rect = (
        f'<rect class="{shape}" x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" '
        f'fill-opacity="{opacity:.2f}"/>'
    )
    return [rect, _text(LABELS + width + 6, y + BAR - 3, number(bar.value) + bar.note)]


def _legend(series: Sequence[str]) -> list[str]:
    """Begins where the bars do, or further left where it is longer than they are."""
    parts = []
    widths = [34 + 7 * len(name) for name in series]
    x = float(max(min(LABELS, WIDTH - sum(widths)), 12))
    for index, name in enumerate(series if len(series) > 1 else ()):
        opacity = _opacity(index, len(series))
        parts.append(
            f'<rect class="bar" x="{x}" y="32" width="10" height="10" '
            f'fill-opacity="{opacity:.2f}"/>'
        )
        parts.append(_text(x + 15, 41, name))
        x += widths[index]
    return parts


def _opacity(index: int, count: int) -> float:
    return 1 if count < 2 else 0.4 + 0.6 * index / (count - 1)


def _text(x: float, y: float, text: str, anchor: str = "start", style: str = "") -> str:
    shape = f' class="{style}"' if style else ""
    return f'<text{shape} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def number(value: float) -> str:
    """Three digits or all before the point, with thin groups: 0.42, 19.1, 1,234."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
