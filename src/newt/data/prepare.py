"""From datasets to token rows on disk, once: read, format, tokenize, drop, merge, split, store."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from newt.config.core import Batch, Data, Dataset, RunControl
from newt.config.section import Config
from newt.data import cache, mix
from newt.data.encode import Encoder, encode, format_row, processes
from newt.data.pack import efficiency
from newt.data.rows import TokenRows, TokenWriter
from newt.data.sources import Source, read
from newt.data.summary import DatasetSummary, Summary, histogram
from newt.extend import DataPlan, Format
from newt.support.errors import DataError, NewtError
from newt.support.files import atomic_dir, write_atomically, write_manifest
from newt.support.log import progress

__all__ = ["Datasets", "format_row", "prepare"]

ROWS, TEST_ROWS = "rows.arrow", "test_rows.arrow"
TRAIN, EVAL, SUMMARY = "train.npy", "eval.npy", "summary.json"


@dataclass(frozen=True)
class Datasets:
    """What a run trains and evaluates.

    Attributes:
        train: training rows in their order.
        eval: evaluation rows, None without any.
        summary: what became of the rows.
        fingerprint: changes with everything that the rows depend on.
        path: folder that holds them.
    """

    train: TokenRows
    eval: TokenRows | None
    summary: Summary
    fingerprint: str
    path: Path | None


def prepare(
    plan: DataPlan, tokenizer: Any, *, force: bool = False, explain: Callable[[str], None] | None = None
) -> Datasets:
    """Make the token rows of a run, or find those that an earlier run made from the same inputs.

    They are looked for only when ``dataset_prepared_path`` is set; they are stored always. Of several processes that
    prepare the same data, one does, and the others wait for it.

    Args:
        plan: the data plan.
        tokenizer: a fast tokenizer of transformers.
        force: make them even if they exist.
        explain: takes lines that say why existing ones were used or not.

    Raises:
        DataError: a dataset or a row cannot be used.
        NewtError: there is nothing to train.
    """
    began = time.time()
    data = plan.cfg[Data]
    train = [read(entry, default_split="train", cfg=plan.cfg) for entry in data.datasets or ()]
    test = [read(entry, default_split="test", cfg=plan.cfg) for entry in data.test_datasets or ()]
    inputs = cache.inputs(plan, tokenizer, train, test)
    folder = cache.root(plan) / cache.fingerprint(inputs)
    with cache.locked(folder):
        # What another process of this run finished while this one waited is as new as if it were made here.
        wanted = (data.dataset_prepared_path is not None and not force) or cache.is_newer(folder, began)
        reused = wanted and cache.is_usable(folder)
        if explain is not None:
            cache.explain(folder.parent, inputs, reused=reused, say=explain)
        if not reused:
            with atomic_dir(folder) as partial:
                _build(plan, tokenizer, train, test, partial)
                cache.write_inputs(partial, inputs)
                write_manifest(partial)
        return _load(plan, folder)


def _load(plan: DataPlan, folder: Path) -> Datasets:
    train = TokenRows(folder / ROWS, np.load(folder / TRAIN))
    evaluated: TokenRows | None = None
    if (folder / EVAL).exists():
        own = folder / TEST_ROWS
        evaluated = TokenRows(own if own.exists() else folder / ROWS, np.load(folder / EVAL))
    summary = _with_packing(plan, Summary.from_dict(json.loads((folder / SUMMARY).read_text())), train)
    return Datasets(train, evaluated, summary, folder.name, folder)


def _with_packing(plan: DataPlan, summary: Summary, train: TokenRows) -> Summary:
    pack = plan.pack.get()
    if pack is None:
        return summary
    _, offsets = pack(train.lengths, plan.cfg[RunControl].seed)
    share = efficiency(train.lengths, offsets, plan.cfg[Batch].sequence_len)
    return replace(summary, packing_efficiency=share, packed_rows=len(offsets) - 1)


# --------------------------------------------------------------------------- making them


def _build(plan: DataPlan, tokenizer: Any, train: Sequence[Source], test: Sequence[Source], folder: Path) -> None:
    data, batch, seed = plan.cfg[Data], plan.cfg[Batch], plan.cfg[RunControl].seed
    key = "sequence_len"
    summaries = _write(plan, tokenizer, _Job("train", train, plan.formats, batch.sequence_len, key), folder / ROWS)
    order = mix.merge(
        [entry.kept for entry in summaries],
        shuffle_each=data.shuffle_before_merging_datasets,
        shuffle_merged=data.shuffle_merged_datasets,
        seed=seed,
    )
    rows = TokenRows(folder / ROWS)
    chosen: np.ndarray | None = None
    notes: list[str] = []
    if test:
        key = "sequence_len" if batch.eval_sequence_len is None else "eval_sequence_len"
        job = _Job("eval", test, plan.eval_formats, batch.eval_length, key)
        summaries += _write(plan, tokenizer, job, folder / TEST_ROWS)
        chosen = np.arange(len(TokenRows(folder / TEST_ROWS)))
    elif data.val_set_size:
        order, chosen = mix.split(order, data.val_set_size, shuffled=data.shuffle_merged_datasets, seed=seed)
        chosen, notes = _short_enough(rows, chosen, plan.cfg)
    np.save(folder / TRAIN, order)
    if chosen is not None:
        np.save(folder / EVAL, chosen)
    summary = _summary(summaries, rows.select(order), 0 if chosen is None else len(chosen), notes)
    write_atomically(folder / SUMMARY, json.dumps(summary.to_dict(), indent=1))


def _short_enough(rows: TokenRows, chosen: np.ndarray, cfg: Config) -> tuple[np.ndarray, list[str]]:
    """Rows kept for evaluation obey ``eval_sequence_len`` as well."""
    fits = rows.lengths[chosen] <= cfg[Batch].eval_length
    if fits.all():
        return chosen, []
    if not fits.any():
        raise NewtError("every evaluation row is longer than eval_sequence_len. Raise it, or raise val_set_size.")
    return chosen[fits], [f"dropped {int((~fits).sum()):,} evaluation rows longer than eval_sequence_len"]


@dataclass(frozen=True)
class _Job:
    """Datasets that go into one file: ``use`` is train or eval, ``key`` the setting that gives ``limit``."""

    use: str
    sources: Sequence[Source]
    formats: Sequence[Format]
    limit: int
    key: str


def _write(plan: DataPlan, tokenizer: Any, job: _Job, path: Path) -> list[DatasetSummary]:
    data = plan.cfg[Data]
    entries = (data.datasets if job.use == "train" else data.test_datasets) or ()
    summaries = []
    with TokenWriter(path) as writer:
        for number, (entry, source, fmt) in enumerate(zip(entries, job.sources, job.formats, strict=True)):
            encoder = Encoder(plan, tokenizer, fmt, job.limit, job.key)
            counts, notes = _encode_all(source, encoder, writer, number, processes(plan.cfg))
            summary = DatasetSummary(entry.path, fmt.name, job.use, notes=dict(sorted(notes.items())), **counts)
            _refuse_nothing(entry, source, summary, job)
            summaries.append(summary)
    return summaries


def _encode_all(
    source: Source, encoder: Encoder, writer: TokenWriter, number: int, workers: int
) -> tuple[Counter[str], Counter[str]]:
    counts: Counter[str] = Counter(rows=0, kept=0)
    notes: Counter[str] = Counter()
    with progress(f"Tokenizing {source.path}", len(source)) as advance:
        for encoded in encode(source.chunks(), encoder, workers):
            writer.add(encoded.columns, number)
            counts.update(encoded.counts)
            notes.update(encoded.notes)
            advance(encoded.counts["rows"])
    return counts, notes


def _refuse_nothing(entry: Dataset, source: Source, summary: DatasetSummary, job: _Job) -> None:
    """A dataset that gives nothing to train is a mistake, even next to others that give something."""
    if summary.trained:
        return
    if not summary.rows:
        raise DataError(f"{entry.path}: there are no rows in {source.split}. Check path and split.")
    causes = (
        (summary.nothing_to_train, "have no trained token", "check the roles and fields that are trained"),
        (summary.too_long, f"are longer than {job.key} {job.limit}", f"raise {job.key}"),
        (summary.too_short, "have fewer tokens than min_sample_len", "check the fields that hold the text"),
    )
    found = [(count, what, hint) for count, what, hint in causes if count]
    what = ", ".join(f"{count} {what}" for count, what, _ in found)
    hint = "; ".join(hint for *_, hint in found)
    raise NewtError(f"{entry.path}: nothing to train: of {summary.rows} rows read, {what}. To fix it, {hint}.")


def _summary(datasets: list[DatasetSummary], train: TokenRows, evaluated: int, notes: Sequence[str]) -> Summary:
    lengths = train.lengths
    edges, counts = histogram(lengths)
    return Summary(
        datasets=datasets,
        train_rows=len(train),
        eval_rows=evaluated,
        train_tokens=int(lengths.sum(dtype=np.int64)),
        trained_tokens=int(train.trained.sum(dtype=np.int64)),
        longest=int(lengths.max(initial=0)),
        length_edges=edges,
        length_counts=counts,
        notes=notes,
    )
