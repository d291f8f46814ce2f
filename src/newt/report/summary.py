"""The words and figures at the top of a report: its headline, what deserves a look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from newt.report import numbers
from newt.report.figures import Log
from newt.report.tables import (
    DROPPED_SHARE,
    TRAINED_SHARE,
    TRUNCATED_SHARE,
    clock,
    data_summary,
    drop_reasons,
    dropped,
    mapping,
    rows_made,
    seconds,
    sequence,
)

PACKED_SHARE = 0.85


@dataclass(frozen=True)
class Fact:
    """One figure of the headline."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Headline:
    """The result in one line: a loss before and after."""

    name: str
    before: str
    after: str
    change: str
    detail: str
    worse: bool


def headline(result: Mapping[str, Any], log: Log) -> Headline | None:
    """Evaluation loss before and after; without an evaluation, the training loss at both ends of the run."""
    evals = log.values("eval_loss")
    start = numbers.finite(mapping(result.get("before")).get("eval_loss"))
    if start is None and log["eval_loss"] and log["eval_loss"][0][0] == 0:
        start = numbers.finite(log["eval_loss"][0][1])
    ended = mapping(result.get("eval"))
    end = numbers.finite(ended.get("eval_loss", ended.get("loss")))
    end = evals[-1] if end is None and len(evals) > (start is not None) else end
    if end is not None:
        ends = [_perplexity(loss) for loss in (start, end) if loss is not None]
        return _headline("Evaluation loss", start, end, f"perplexity {' → '.join(ends)}")
    losses = log.values("loss")
    if not losses:
        end = numbers.finite(result.get("train_loss"))
        return None if end is None else _headline("Training loss, mean of the run", None, end, "no evaluation was made")
    few = max(1, min(10, len(losses) // 4))
    detail = f"mean of the first and last {few} logs; no evaluation was made" if few > 1 else "no evaluation was made"
    return _headline("Training loss", sum(losses[:few]) / few, sum(losses[-few:]) / few, detail)


def _headline(name: str, before: float | None, after: float, detail: str) -> Headline:
    change = ""
    if before:
        share = 100 * (after - before) / abs(before)
        change = f"{'−' if share < 0 else '+'}{abs(share):.{0 if abs(share) >= 10 else 1}f} %"
    return Headline(name, _loss(before), _loss(after), change, detail, worse=before is not None and after > before)


def _loss(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 else numbers.short(value)


def _perplexity(loss: float) -> str:
    return numbers.NONE if loss > 50 else numbers.short(float(f"{math.exp(loss):.3g}"))


def facts(run: Mapping[str, Any], log: Log) -> list[Fact]:
    """The figures below the headline; those that are not known are left out."""
    result, model = mapping(run.get("result")), mapping(run.get("model"))
    found = []
    steps = numbers.finite(result.get("global_step")) or max((p[-1][0] for p in log.points.values() if p), default=None)
    if steps:
        epochs = [f"{numbers.short(round(epoch, 2))} epochs" for epoch in log.values("epoch")[-1:]]
        found.append(Fact("Steps", numbers.count(steps), *epochs))
    if (span := seconds(run)) is not None:
        found.append(Fact("Time", numbers.duration(span), clock(run.get("started"))))
    seen, learned = (log.values(name) for name in ("tokens", "trained_tokens"))
    if seen:
        detail = f"{numbers.compact(learned[-1])} trained ({numbers.percent(learned[-1], seen[-1])})" if learned else ""
        found.append(Fact("Tokens", numbers.compact(seen[-1]), detail))
    if speeds := log.values("tokens_per_second"):
        found.append(Fact("Throughput", numbers.compact(median(speeds)), _throughput(log)))
    total, trainable = model.get("total_parameters"), model.get("trainable_parameters")
    if numbers.finite(trainable) is not None:
        detail = f"{numbers.percent(trainable, total)} of {numbers.compact(total)}" if numbers.finite(total) else ""
        found.append(Fact("Trained parameters", numbers.compact(trainable), detail))
    if memory := log.values("memory_gib"):
        found.append(Fact("Peak memory", f"{float(f'{max(memory):.3g}'):g} GiB"))
    return found


def _throughput(log: Log) -> str:
    text = "tokens/s, median"
    if used := log.values("mfu"):
        text += f"; {numbers.percent(median(used), 1)} of a matrix product"
    return text


def notices(run: Mapping[str, Any], log: Log) -> list[str]:
    """What deserves a look, in plain sentences."""
    found = []
    if not run.get("ended"):
        found.append("The run has not ended: this report shows what was logged so far.")
    for name in ("loss", "grad_norm", *log.eval_losses()):
        if steps := log.broken(name):
            times = f"{numbers.count(len(steps))} times, first" if len(steps) > 1 else "once,"
            found.append(f"{name} was not a finite number {times} at step {numbers.count(steps[0])}.")
    finite_evals = [(y, x) for x, y in log["eval_loss"] if math.isfinite(y)]
    if len(finite_evals) >= 3:
        (best, step), last = min(finite_evals), finite_evals[-1][0]
        if last > best * 1.03:
            found.append(
                f"Evaluation loss was lowest at step {numbers.count(step)} ({_loss(best)}) and ended at {_loss(last)}: "
                "the model may have overfitted after that step."
            )
    return found + data_notices(data_summary(run))


def data_notices(data: Mapping[str, Any]) -> list[str]:
    """What deserves a look in the data, as ``tables.data_summary`` gives them."""
    found = [str(note) for note in sequence(data.get("notes"))]
    for entry in sequence(data.get("datasets")):
        found += _data_notices(mapping(entry))
    efficiency = numbers.finite(mapping(data.get("packing")).get("efficiency"))
    if efficiency is not None and efficiency < PACKED_SHARE:
        found.append(f"Packed sequences are only {numbers.percent(efficiency, 1)} full.")
    return found


def _data_notices(entry: Mapping[str, Any]) -> list[str]:
    name, found = entry.get("path") or "a dataset", []
    made, kept = rows_made(entry), numbers.finite(entry.get("rows_kept"))
    if kept == 0:
        return [f"{name}: no row was kept."]
    if made and dropped(entry) > DROPPED_SHARE * made:
        why = ", ".join(f"{reason} {numbers.count(n)}" for reason, n in drop_reasons(entry))
        found.append(f"{name}: {numbers.percent(dropped(entry), made)} of the rows were dropped ({why}).")
    truncated = numbers.finite(entry.get("truncated")) or 0
    if kept and truncated > TRUNCATED_SHARE * kept:
        found.append(f"{name}: {numbers.percent(truncated, kept)} of the kept rows were truncated.")
    left = (numbers.finite(entry.get("duplicates")) or 0) - (numbers.finite(entry.get("deduplicated")) or 0)
    if left > 0:
        found.append(f"{name}: {numbers.count(left)} rows are equal to an earlier row and were kept.")
    tokens, trained = numbers.finite(entry.get("tokens")), numbers.finite(entry.get("trained_tokens"))
    if tokens and trained is not None and trained < TRAINED_SHARE * tokens:
        found.append(f"{name}: only {numbers.percent(trained, tokens)} of the tokens are trained.")
    return found
