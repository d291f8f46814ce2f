"""Which charts a run gets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from markupsafe import Markup

from newt.report import numbers
from newt.report.charts import Point, Series, line_chart, smooth

SMOOTH_FROM = 150
MAX_EXTRA = 24
NOISY = ("tokens_per_second", "grad_norm")
# Counters and timers, which a curve over the step says nothing about.
NOT_CHARTED = {"step", "epoch", "loss", "tokens", "trained_tokens", "total_flos", "timestamp", "time"}
NOT_CHARTED_ENDS = ("_tokens", "_runtime", "_per_second", "_samples", "_steps", "_time")


class Log:
    """metrics.jsonl by name: (step, value) in the order of steps. A step that was logged twice keeps its last value."""

    def __init__(self, events: Iterable[Mapping[str, Any]]) -> None:
        found: dict[str, dict[float, float]] = {}
        for event in events:
            step = numbers.finite(event.get("step"))
            if step is None:
                continue
            for name, value in event.items():
                # JSON has no NaN: null stands for it.
                number = math.nan if value is None else value
                if isinstance(number, int | float) and not isinstance(number, bool):
                    found.setdefault(str(name), {})[step] = float(number)
        self.points: dict[str, list[Point]] = {name: sorted(values.items()) for name, values in found.items()}

    def __getitem__(self, name: str) -> list[Point]:
        return self.points.get(name, [])

    def values(self, name: str) -> list[float]:
        """The finite values of a metric."""
        return [y for _, y in self[name] if math.isfinite(y)]

    def broken(self, name: str) -> list[float]:
        """Steps at which a metric was not finite."""
        return [x for x, y in self[name] if not math.isfinite(y)]

    def eval_losses(self) -> list[str]:
        """Names of the evaluation losses: ``eval_loss``, and ``eval_NAME_loss`` of further evaluation sets."""
        names = [n for n in self.points if n.startswith("eval_") and n.endswith("_loss")]
        return sorted(names, key=lambda n: (n != "eval_loss", n))[:4]


def loss_chart(log: Log) -> Markup:
    """Training and evaluation loss over the step."""
    train = log["loss"]
    series = []
    if len(train) >= SMOOTH_FROM:
        window = max(5, len(train) // 60)
        series.append(Series("train", train, "faint", 0))
        series.append(Series(f"train, mean of {window} logs", smooth(train, window), "line", 0))
    elif train:
        series.append(Series("train", train, "line", 0))
    for hue, name in enumerate(log.eval_losses(), start=1):
        series.append(Series(name.removesuffix("_loss").replace("_", " "), log[name], "marked", hue))
    values = [y for s in series for _, y in s.points if math.isfinite(y)]
    best = min(((y, x) for x, y in log["eval_loss"] if math.isfinite(y)), default=None)
    note = f"lowest eval {numbers.short(best[0])} at step {numbers.count(best[1])}" if best else ""
    is_log = _spans_decades(values)
    return line_chart(series, title="Loss", unit="log scale" if is_log else "", note=note, log=is_log, large=True)


def small_charts(log: Log) -> list[Markup]:
    """Learning rate, throughput, gradient norm, memory: those that were logged."""
    charts = []
    if values := log.values("learning_rate"):
        charts.append(_one(log, "learning_rate", "Learning rate", note=f"peak {numbers.short(max(values))}"))
    if values := log.values("tokens_per_second"):
        note = f"median {numbers.compact(median(values))}"
        charts.append(_one(log, "tokens_per_second", "Throughput", unit="tokens/s", note=note))
    if values := log.values("mfu"):
        note = f"median {numbers.percent(median(values), 1)}"
        charts.append(_one(log, "mfu", "Model FLOPs utilization", note=note))
    if values := log.values("grad_norm"):
        note = f"max {numbers.short(_rounded(max(values)))}"
        charts.append(_one(log, "grad_norm", "Gradient norm", note=note))
    if values := log.values("memory_gib"):
        note = f"peak {numbers.short(_rounded(max(values)))}"
        charts.append(_one(log, "memory_gib", "Memory", unit="GiB", note=note))
    return charts


def extra_charts(log: Log) -> tuple[list[Markup], int]:
    """Every other metric (rewards, accuracies, ...), train and eval together, and how many found no room."""
    known = {"learning_rate", "tokens_per_second", "mfu", "grad_norm", "memory_gib", *log.eval_losses(), *NOT_CHARTED}
    names = [
        n for n in log.points if n not in known and not n.endswith(NOT_CHARTED_ENDS) and not n.startswith("train_")
    ]
    names = list(dict.fromkeys(n.removeprefix("eval_") for n in names))
    charts = []
    for name in names[:MAX_EXTRA]:
        series = [Series("train", log[name], "line", 0)] if log[name] else []
        if log[f"eval_{name}"]:
            series.append(Series("eval", log[f"eval_{name}"], "marked", 1))
        charts.append(line_chart(series, title=name))
    return charts, max(0, len(names) - MAX_EXTRA)


def evaluations(log: Log) -> list[tuple[float, list[float | None]]]:
    """Every evaluation: its step and its losses, in the order of ``eval_losses``."""
    columns = [dict(log[name]) for name in log.eval_losses()]
    steps = sorted({step for column in columns for step in column})
    return [(step, [column.get(step) for column in columns]) for step in steps]


def _one(log: Log, name: str, title: str, *, unit: str = "", note: str = "") -> Markup:
    points = log[name]
    is_log = name == "grad_norm" and _spans_decades(log.values(name))
    series = [Series(title.lower(), points, "line", 0)]
    if len(points) >= SMOOTH_FROM and name in NOISY:
        window = max(5, len(points) // 60)
        # A median: one spike must not lift its whole neighbourhood.
        middle = smooth(points, window, median)
        series = [Series("each log", points, "faint", 0), Series(f"median of {window}", middle, "line", 0)]
    return line_chart(series, title=title, unit="log scale" if is_log else unit, note=note, zero=True, log=is_log)


def _spans_decades(values: list[float]) -> bool:
    """Whether a linear axis would flatten most of the curve: the largest value is 30 times the median."""
    return bool(values) and min(values) > 0 and max(values) > 30 * median(values)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
