"""Charts as inline SVG, in pure Python.

A chart fills the width that it is given and its text keeps its size: the svg element's CSS padding holds the axis
labels, everything inside is placed in percent of the plot, and only the curves are stretched (a nested svg whose
strokes do not scale). No script is needed to read a chart; the page's script adds a cursor from ``data-chart``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Literal

from markupsafe import Markup

from newt.report import numbers

Point = tuple[float, float]
MAX_POINTS = 1000


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: in the legend and the tooltip.
        points: (x, y) in increasing x; a y that is not finite breaks the curve.
        style: ``line``; ``faint`` (raw values behind a smoothed line); ``marked`` (line with a dot at each point).
        hue: colour number, 0 to 4.
    """

    name: str
    points: Sequence[Point]
    style: Literal["line", "faint", "marked"] = "line"
    hue: int = 0


@dataclass(frozen=True)
class Axis:
    """A scale from values to percent of the plot's width or height."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Percent from the low end; not finite where the value cannot be drawn."""
        if not math.isfinite(value) or (self.log and value <= 0):
            return math.nan
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return 100 * (at - low) / (high - low)

    def ticks(self, count: int) -> list[float]:
        """Round values inside the axis."""
        return log_ticks(self.low, self.high, count) if self.log else ticks(self.low, self.high, count)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` multiples of 1, 2 or 5 times a power of ten between low and high, inclusive.

    Never more than ``count + 1``; empty unless both ends are finite and low < high.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or high - low < 1e-12 * max(abs(low), abs(high)):
        return []
    rough = (high - low) / max(1, count)
    if rough < 1e-300 or not math.isfinite(rough):
        return []
    power = math.floor(math.log10(rough))
    factor = next((m for m in (1, 2, 5) if m * 10.0**power >= rough * (1 - 1e-9)), 10)
    step = factor * 10.0**power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Dividing by an exact power of ten gives 0.3 where multiplying by 0.1 gives 0.30000000000000004.
    scale = 10.0 ** abs(power)
    return [i * factor / scale if power < 0 else i * factor * scale for i in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Powers of ten between low and high, with 2 and 5 times them when there are few, thinned when there are many."""
    if not (0 < low < high and math.isfinite(high)):
        return []
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 5), (1, 2, 5)):
        found = [m * 10.0**d for d in decades for m in factors if low <= m * 10.0**d <= high]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / (count + 1))]
    return ticks(low, high, count)


def tick_labels(values: Sequence[float]) -> list[str]:
    """Labels with the same number of decimals, as few as tell the values apart."""
    size = max((abs(v) for v in values), default=0.0)
    if size >= 10_000:
        return [numbers.compact(v) for v in values]
    if size < 0.001:
        return ["0" if v == 0 else numbers.short(v) for v in values]
    gaps = [b - a for a, b in pairwise(values)]
    step = min((g for g in gaps if g > 0), default=size or 1.0)
    even = not gaps or max(gaps) - min(gaps) < step * 1e-6
    if not even:
        return [numbers.short(v) for v in values]
    decimals = next((d for d in range(7) if abs(round(step, d) - step) < step * 1e-6), 6)
    return [f"{v:,.{decimals}f}" for v in values]


def downsample(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most ``limit`` points that keep the first, the last and every bucket's extremes, so that no spike is lost."""
    if len(points) <= limit:
        return list(points)
    inner, buckets = points[1:-1], max(1, (limit - 2) // 2)
    kept = [points[0]]
    for b in range(buckets):
        bucket = inner[b * len(inner) // buckets : (b + 1) * len(inner) // buckets]
        drawn = [p for p in bucket if math.isfinite(p[1])]
        kept += sorted({min(drawn, key=lambda p: p[1]), max(drawn, key=lambda p: p[1])}) if drawn else bucket[:1]
    return [*kept, points[-1]]


def smooth(points: Sequence[Point], window: int, how: Callable[[Sequence[float]], float] = fmean) -> list[Point]:
    """Centred running mean (or ``how``) over ``window`` finite points, fewer at the ends."""
    drawn = [p for p in points if math.isfinite(p[1])]
    half = window // 2
    return [(x, how([y for _, y in drawn[max(0, i - half) : i + half + 1]])) for i, (x, _) in enumerate(drawn)]


def axis(values: Sequence[float], *, zero: bool = False, log: bool = False) -> Axis:
    """An axis around the finite values with a little air; with ``zero`` it starts there."""
    usable = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not usable:
        return Axis(0.0, 1.0)
    low, high = min(usable), max(usable)
    if log:
        return Axis(low / 1.15, high * 1.15, log=True)
    if zero and low >= 0:
        return Axis(0.0, high * 1.08 or 1.0)
    air = (high - low) * 0.06
    if air <= 1e-9 * max(abs(low), abs(high)):
        air = abs(high) * 0.1 or 1.0
    return Axis(low - air, high + air)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    unit: str = "",
    note: str = "",
    log: bool = False,
    zero: bool = False,
    large: bool = False,
) -> Markup:
    """A figure of curves over the training step; ``note`` stands at the right of its title."""
    shown = [Series(s.name, downsample(s.points), s.style, s.hue) for s in series]
    x_values = [x for s in shown for x, _ in s.points]
    y_values = [y for s in shown for _, y in s.points]
    if not any(math.isfinite(y) and (y > 0 or not log) for y in y_values):
        return _figure(title, unit, note, "", Markup('<p class="empty">Nothing was logged.</p>'))
    first, last = min(0, *x_values), max(x_values)
    across = Axis(first, last if last > first else first + 1)
    up = axis(y_values, zero=zero, log=log)
    curves = Markup("").join(_curve(s, across, up) for s in shown)
    dots = Markup("").join(_dots(s, across, up) for s in shown)
    body = (
        _grid(across, up, large)
        + Markup('<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%" height="100%">')
        + curves
        + Markup("</svg>")
        + dots
        + Markup('<line class="cursor" y1="0" y2="100%" visibility="hidden"/>')
    )
    label = f"{title}: " + "; ".join(_spoken(s) for s in series)
    return _figure(title, unit, note, _legend(shown), _svg(body, label, large, _cursor_data(shown, across)))


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    unit: str = "",
    note: str = "",
    marker: tuple[float, str] | None = None,
    things: str = "rows",
) -> Markup:
    """A figure of bars: ``counts[i]`` things from ``edges[i]`` to ``edges[i + 1]``; ``marker`` is a labelled line."""
    usable = len(edges) == len(counts) + 1 and bool(counts) and all(a < b for a, b in pairwise(edges))
    if not usable or not all(math.isfinite(v) for v in [*edges, *counts]) or max(counts) <= 0:
        return _figure(title, unit, note, "", Markup('<p class="empty">Nothing was counted.</p>'))
    high = edges[-1]
    if marker and edges[-1] < marker[0] <= edges[-1] * 1.5:
        high = marker[0]
    across, up = Axis(edges[0], high), Axis(0.0, max(counts) * 1.08)
    bars = Markup("")
    for left, right, value in zip(edges, edges[1:], counts, strict=False):
        x, width, height = across.place(left), across.place(right) - across.place(left), up.place(value)
        tip = f"{numbers.count(left)} to {numbers.count(right)} {unit}: {numbers.count(value)} {things}"
        bars += Markup(
            '<rect class="bar" x="{x:.3f}%" width="{w:.3f}%" y="{y:.3f}%" height="{h:.3f}%"/>'
            '<rect class="hit" x="{x:.3f}%" width="{w:.3f}%" y="0" height="100%"><title>{tip}</title></rect>'
        ).format(x=x, w=width, y=100 - height, h=height, tip=tip)
    line = Markup("")
    if marker and across.low <= marker[0] <= across.high:
        at = across.place(marker[0])
        side = Markup('text-anchor="end" dx="-5"' if at > 50 else 'dx="5"')
        line = Markup(
            '<line class="marker" x1="{at:.3f}%" x2="{at:.3f}%" y1="0" y2="100%"/>'
            '<text class="marker" x="{at:.3f}%" y="0" dy="10" {side}>{text}</text>'
        ).format(at=at, side=side, text=marker[1])
    label = f"{title}: {numbers.count(sum(counts))} {things}"
    body = _grid(across, up, large=True, x_name=unit) + bars + line
    return _figure(title, unit, note, "", _svg(body, label, large=False, data=""))


# --------------------------------------------------------------------------- pieces


def _figure(title: str, unit: str, note: str, legend: Markup | str, body: Markup) -> Markup:
    return Markup(
        '<figure class="chart"><figcaption><b>{title}</b>{unit}{legend}{note}</figcaption>{body}</figure>'
    ).format(
        title=title,
        unit=Markup(' <span class="unit">{}</span>').format(unit) if unit else "",
        legend=legend,
        note=Markup(' <span class="note">{}</span>').format(note) if note else "",
        body=body,
    )


def _svg(body: Markup, label: str, large: bool, data: str) -> Markup:
    attribute = Markup(' data-chart="{}"').format(data) if data else ""
    return Markup('<svg class="plot{large}" role="img" aria-label="{label}"{data}>{body}</svg>').format(
        large=" large" if large else "", label=label, data=attribute, body=body
    )


def _legend(series: Sequence[Series]) -> Markup:
    if len(series) < 2:
        return Markup("")
    keys = (
        Markup('<span class="key {style} h{hue}">{name}</span>').format(style=s.style, hue=s.hue, name=s.name)
        for s in series
    )
    return Markup(' <span class="keys">{}</span>').format(Markup("").join(keys))


def _grid(across: Axis, up: Axis, large: bool, x_name: str = "step") -> Markup:
    lines = Markup("")
    heights = up.ticks(5 if large else 4)
    for value, text in zip(heights, tick_labels(heights), strict=True):
        lines += Markup(
            '<line class="grid" x1="0" x2="100%" y1="{y:.3f}%" y2="{y:.3f}%"/>'
            '<text class="tick" x="0" dx="-8" y="{y:.3f}%" dy="4" text-anchor="end">{text}</text>'
        ).format(y=100 - up.place(value), text=text)
    # A step is a whole number: no tick at half of one.
    steps = [v for v in across.ticks(6 if large else 4) if v == int(v)]
    for value, text in zip(steps, tick_labels(steps), strict=True):
        lines += Markup(
            '<line class="stroke" x1="{x:.3f}%" x2="{x:.3f}%" y1="100%" y2="100%" transform="translate(0 4)"/>'
            '<text class="tick" x="{x:.3f}%" y="100%" dy="18" text-anchor="middle">{text}</text>'
        ).format(x=across.place(value), text=text)
    name = Markup('<text class="tick" x="0" dx="-14" y="100%" dy="18" text-anchor="end">{}</text>').format(x_name)
    return lines + name + Markup('<line class="base" x1="0" x2="100%" y1="100%" y2="100%"/>')


def _curve(series: Series, across: Axis, up: Axis) -> Markup:
    """The path of a series in a 1000 x 1000 box; gaps where a value cannot be drawn."""
    commands, pen_down = [], False
    for x, y in series.points:
        at = up.place(y)
        if not math.isfinite(at):
            pen_down = False
            continue
        commands.append(f"{'L' if pen_down else 'M'}{across.place(x) * 10:.1f} {1000 - at * 10:.1f}")
        pen_down = True
    return Markup('<path class="{style} h{hue}" d="{d}"/>').format(
        style=series.style, hue=series.hue, d="".join(commands)
    )


def _dots(series: Series, across: Axis, up: Axis) -> Markup:
    """A dot at each point of a marked series, and at a point that has no neighbour to draw a line to."""
    drawn = [(x, y) for x, y in series.points if math.isfinite(up.place(y))]
    if series.style != "marked" and len(drawn) != 1:
        return Markup("")
    radius = 3.5 if len(drawn) <= 40 else 2
    return Markup("").join(
        Markup('<circle class="h{hue}" cx="{x:.3f}%" cy="{y:.3f}%" r="{r}"><title>{tip}</title></circle>').format(
            hue=series.hue,
            x=across.place(x),
            y=100 - up.place(y),
            r=radius,
            tip=f"step {numbers.count(x)}: {series.name} {numbers.short(y)}",
        )
        for x, y in drawn
    )


def _spoken(series: Series) -> str:
    drawn = [y for _, y in series.points if math.isfinite(y)]
    if not drawn:
        return f"{series.name} has no values"
    return f"{series.name} from {numbers.short(drawn[0])} to {numbers.short(drawn[-1])}"


def _cursor_data(series: Sequence[Series], across: Axis) -> str:
    """What the page's script needs to name the values below the pointer, as JSON."""
    curves = [
        {"name": s.name, "hue": s.hue, "points": [[x, float(f"{y:.5g}")] for x, y in s.points if math.isfinite(y)]}
        for s in series
    ]
    return json.dumps({"x": [across.low, across.high], "series": curves}, separators=(",", ":"))
