"""From written token rows to those that are trained and those that are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from newt.config.core import Batch, Data, RunControl
from newt.data import mix
from newt.data.dedup import IDS, overlap, repeats
from newt.data.rows import TokenRows
from newt.data.summary import DatasetSummary, Summary, histogram
from newt.extend import DataPlan
from newt.support.errors import NewtError

_NAMED = 5
"""Leaking rows that are named."""


@dataclass(frozen=True)
class Written:
    """Token rows of the datasets of one use, in one file.

    Attributes:
        summaries: one for each dataset.
        rows: all rows of the file.
        digests: of these, uint64 (rows, 2), see ``dedup``.
        parts: for each dataset, the numbers of its rows in the order in which they are joined.
    """

    summaries: list[DatasetSummary]
    rows: TokenRows
    digests: np.ndarray
    parts: list[np.ndarray]


@dataclass(frozen=True)
class Chosen:
    """Rows that are trained and evaluated.

    Attributes:
        train: numbers of the training rows in their order; a number stands several times where weights ask for it.
        evaluated: numbers of the evaluation rows, None without any.
        leaked: evaluation rows that are trained as well.
        notes: what was odd.
    """

    train: np.ndarray
    evaluated: np.ndarray | None
    leaked: int = 0
    notes: list[str] = field(default_factory=list)


def without_repeats(written: Written, *, remove: bool) -> Written:
    """Count the rows that equal an earlier one (ids and labels), and leave them out if asked to."""
    again = repeats(written.digests)
    parts, summaries = [], []
    for summary, part in zip(written.summaries, written.parts, strict=True):
        found = again[part]
        changed: dict[str, Any] = {"duplicates": int(found.sum())}
        if remove:
            part = part[~found]
            changed["deduplicated"] = changed["duplicates"]
            changed["kept"] = len(part)
            changed["tokens"] = _total(written.rows.lengths[part])
            changed["trained"] = _total(written.rows.trained[part])
        parts.append(part)
        summaries.append(replace(summary, **changed))
    return replace(written, summaries=summaries, parts=parts)


def choose(plan: DataPlan, train: Written, test: Written | None) -> Chosen:
    """Join, cut, split, compare and weigh the rows.

    Raises:
        NewtError: there is nothing to train, or nothing to evaluate although it was asked for.
    """
    data, seed = plan.cfg[Data], plan.cfg[RunControl].seed
    shuffled = data.shuffle_merged_datasets and not plan.keep_order
    order = mix.merge(
        train.parts, shuffle_each=data.shuffle_before_merging_datasets, shuffle_merged=shuffled, seed=seed
    )
    if data.dataset_shard_num:
        order = _part(order, data.dataset_shard_num, data.dataset_shard_idx or 0)
    if test is not None:
        evaluated = np.concatenate(test.parts)
    elif data.val_set_size:
        order, evaluated = mix.split(order, data.val_set_size, shuffled=shuffled, seed=seed)
    else:
        return Chosen(_weighed(plan, train, order, shuffled), None)
    source = train if test is None else test
    notes: list[str] = []
    if test is None:
        evaluated, notes = _short_enough(plan, train.rows, evaluated)
    in_eval, in_train = overlap(train.digests[order, IDS], source.digests[evaluated, IDS])
    leaked = int(in_train.sum())
    if leaked and data.dataset_exact_deduplication:
        order = _without(order, in_eval)
        notes.append(f"removed {int(in_eval.sum()):,} training rows whose tokens are evaluation rows as well")
        leaked = 0
    elif leaked:
        notes.append(_leakage(source, evaluated[in_train], len(evaluated)))
    return Chosen(_weighed(plan, train, order, shuffled), evaluated, leaked, notes)


def _part(order: np.ndarray, number: int, index: int) -> np.ndarray:
    found = order[mix.part(len(order), number, index)]
    if not len(found):
        raise NewtError(f"dataset_shard_num {number} cuts {len(order)} rows: part {index} is empty. Lower it.")
    return found


def _short_enough(plan: DataPlan, rows: TokenRows, chosen: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Rows kept for evaluation obey ``eval_sequence_len`` as well."""
    fits = rows.lengths[chosen] <= plan.cfg[Batch].eval_length
    if fits.all() or plan.cfg[Data].skip_prepare_dataset:
        return chosen, []
    if not fits.any():
        raise NewtError("every evaluation row is longer than eval_sequence_len. Raise it, or raise val_set_size.")
    return chosen[fits], [f"dropped {int((~fits).sum()):,} evaluation rows longer than eval_sequence_len"]


def _without(order: np.ndarray, gone: np.ndarray) -> np.ndarray:
    if gone.all():
        hint = "Use other evaluation data, or set dataset_exact_deduplication: false."
        raise NewtError(
            f"all {len(order):,} training rows are evaluation rows as well: nothing is left to train. {hint}"
        )
    return np.asarray(order[~gone])


def _leakage(source: Written, leaked: np.ndarray, evaluated: int) -> str:
    """The warning about evaluation rows that are trained as well, which names the first of them."""
    named: dict[str, list[str]] = {}
    for index in leaked[:_NAMED]:
        dataset, row = source.rows.provenance(int(index))
        named.setdefault(source.summaries[dataset].path, []).append(str(row))
    where = "; ".join(f"{path} row{'s' if len(rows) > 1 else ''} {', '.join(rows)}" for path, rows in named.items())
    more = f" and {len(leaked) - _NAMED:,} more" if len(leaked) > _NAMED else ""
    return (
        f"leakage: {len(leaked):,} of {evaluated:,} evaluation rows are training rows as well "
        f"({where}{more}): the evaluation loss looks better than it is. "
        "Set dataset_exact_deduplication: true to train without them."
    )


def _weighed(plan: DataPlan, train: Written, order: np.ndarray, shuffled: bool) -> np.ndarray:
    """Use the rows of each dataset as often as the weights say.

    Raises:
        NewtError: a weight is so small that none of a dataset's rows is used.
    """
    data, seed = plan.cfg[Data], plan.cfg[RunControl].seed
    entries = data.datasets or ()
    weights = [1.0 if entry.weight is None else entry.weight for entry in entries]
    if data.weight_by is None and all(weight == 1 for weight in weights):
        return order
    dataset = train.rows.dataset[order]
    groups = [order[dataset == number] for number in range(len(entries))]
    tokens = [train.rows.lengths[group] for group in groups] if data.weight_by == "tokens" else None
    times: Sequence[float] | np.ndarray = weights
    if data.weight_by is not None:
        amounts = [len(group) if tokens is None else int(tokens[i].sum()) for i, group in enumerate(groups)]
        times = mix.passes(weights, amounts)
    drawn = []
    for number, (entry, group, often) in enumerate(zip(entries, groups, times, strict=True)):
        taken = mix.draw(len(group), float(often), (seed, number), None if tokens is None else tokens[number])
        if len(group) and not len(taken):
            raise NewtError(f"{entry.path}: weight {weights[number]:g} uses none of its {len(group):,} rows. Raise it.")
        drawn.append(group[taken])
    return mix.merge(drawn, shuffle_each=False, shuffle_merged=shuffled, seed=seed)


# --------------------------------------------------------------------------- what the user is told


def summarize(train: Written, test: Written | None, chosen: Chosen) -> Summary:
    """Count what is trained and evaluated."""
    rows = train.rows.select(chosen.train)
    lengths = rows.lengths
    edges, counts = histogram(lengths)
    datasets = [
        _used(summary, lengths[rows.dataset == number], edges) for number, summary in enumerate(train.summaries)
    ]
    return Summary(
        datasets=datasets + ([] if test is None else test.summaries),
        train_rows=len(rows),
        eval_rows=0 if chosen.evaluated is None else len(chosen.evaluated),
        train_tokens=_total(lengths),
        trained_tokens=_total(rows.trained),
        longest=int(lengths.max(initial=0)),
        length_edges=edges,
        length_counts=counts,
        leaked=chosen.leaked,
        notes=chosen.notes,
    )


def _used(summary: DatasetSummary, lengths: np.ndarray, edges: Sequence[int]) -> DatasetSummary:
    counts, _ = np.histogram(lengths, edges)
    return replace(summary, used=len(lengths), used_tokens=_total(lengths), length_counts=counts.tolist())


def _total(numbers: np.ndarray) -> int:
    return int(numbers.sum(dtype=np.int64))
