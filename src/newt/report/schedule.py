"""The learning rate over the steps: as text, as a picture, as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from newt.report import page
from newt.report.charts import Series, line_chart
from newt.support.errors import NewtError
from newt.support.files import write_atomically

BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH, HEIGHT = 72, 10
COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989")

Rates = Mapping[str, Sequence[float]]
"""Group of parameters -> its learning rate at each step."""


def render(rates: Rates, width: int = WIDTH) -> str:
    """The curves as text: one for all groups whose curves have the same shape, then a line for each group."""
    steps = len(next(iter(rates.values())))
    lines: list[str] = []
    shapes: dict[tuple[float, ...], list[str]] = {}
    for name, values in rates.items():
        top = max(values) or 1.0
        shapes.setdefault(tuple(round(value / top, 9) for value in values), []).append(name)
    for shape, names in shapes.items():
        lines += [
            f"{', '.join(names)}:",
            *_blocks(shape, width),
            f"step 0{f'step {steps - 1}':>{_columns(shape, width)}}",
        ]
    for name, values in rates.items():
        top = max(values)
        highest = f"highest {top:.3g} at step {values.index(top)}"
        lines.append(f"{name}: begins at {values[0]:.3g}, {highest}, ends at {values[-1]:.3g}")
    return "\n".join(lines)


def _columns(values: Sequence[float], width: int) -> int:
    return max(8, min(width, len(values)) - 6)


def _blocks(values: Sequence[float], width: int) -> list[str]:
    """A curve of values between 0 and 1, the highest line first; a column shows the mean of its steps."""
    count = min(width, len(values))
    edges = [len(values) * n // count for n in range(count + 1)]
    columns = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    filled = [round(max(0.0, column) * HEIGHT * 8) for column in columns]
    return [
        "".join(BLOCKS[min(8, max(0, eighths - 8 * row))] for eighths in filled).rstrip()
        for row in reversed(range(HEIGHT))
    ]


def write(rates: Rates, path: Path) -> None:
    """Write the curves as a picture or a page, whole or not at all.

    Raises:
        NewtError: a .png, and matplotlib is not installed.
    """
    if path.suffix == ".png":
        _write_png(rates, path)
    elif path.suffix == ".html":
        write_atomically(path, _page(rates))
    else:
        write_atomically(path, _svg(rates))


def _page(rates: Rates) -> str:
    series = [
        Series(name, [(float(step), rate) for step, rate in enumerate(values)], hue=number % 5)
        for number, (name, values) in enumerate(rates.items())
    ]
    return page.render("schedule.html", chart=line_chart(series, title="Learning rate", zero=True, large=True))


def _svg(rates: Rates) -> str:
    """A picture of 800 x 400 that needs no style sheet."""
    steps = len(next(iter(rates.values())))
    top = max(max(values) for values in rates.values()) or 1.0
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 400" font-family="sans-serif" font-size="12">',
        '<rect width="800" height="400" fill="white"/>',
        f'<text x="8" y="18">{top:.3g}</text><text x="8" y="364">0</text>',
        f'<text x="60" y="384">step 0</text><text x="790" y="384" text-anchor="end">step {steps - 1}</text>',
        '<path d="M60 10V360H790" fill="none" stroke="#888"/>',
    ]
    for number, (name, values) in enumerate(rates.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(
            f"{60 + 730 * step / max(1, steps - 1):.1f},{360 - 350 * rate / top:.1f}"
            for step, rate in enumerate(values)
        )
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        parts.append(f'<text x="780" y="{24 + 16 * number}" text-anchor="end" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _write_png(rates: Rates, path: Path) -> None:
    if find_spec("matplotlib") is None:
        raise NewtError(f"--output {path}: a .png needs the package matplotlib. Write a .svg, or install it.")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in rates.items():
        axes.plot(values, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")
    axes.legend()
    unfinished = path.with_suffix(".part.png")
    figure.savefig(unfinished)
    unfinished.replace(path)
