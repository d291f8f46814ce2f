"""From datasets to token rows on disk, once: read, format, tokenize, drop, merge, split, store."""

from __future__ import annotations

import json
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from newt.config.core import Batch, Data, Dataset, RunControl
from newt.data import cache, mix
from newt.data.choose import Written, choose, summarize, without_repeats
from newt.data.control import join_notes
from newt.data.dedup import Digests
from newt.data.encode import Encoder, encode, format_row, processes
from newt.data.pack import efficiency
from newt.data.rows import TokenRows, TokenWriter, files_of
from newt.data.shards import pick
from newt.data.sources import Source, read
from newt.data.summary import DatasetSummary, Summary
from newt.extend import DataPlan, Format, Slot
from newt.support.errors import DataError, NewtError
from newt.support.files import atomic_dir, write_atomically, write_manifest
from newt.support.log import progress

__all__ = ["Datasets", "find_prepared", "format_row", "prepare"]

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

    @property
    def examples(self) -> TokenRows:
        """Rows for a look: those of evaluation if there are any."""
        return self.train if self.eval is None else self.eval


def prepare(
    plan: DataPlan, tokenizer: Any, *, force: bool = False, explain: Callable[[str], None] | None = None
) -> Datasets:
    """Make the token rows of a run, or find those that an earlier run made from the same inputs.

    Rows that are streamed are left out. The others are looked for only when ``dataset_prepared_path`` is set; they are
    stored always. Of several processes that prepare the same data, one does, and the others wait for it.

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
    plan = _prepared_part(plan)
    data = plan.cfg[Data]
    train, test = _opened(plan, tokenizer)
    inputs = cache.inputs(plan, tokenizer, train, test)
    folder = cache.root(plan) / cache.fingerprint(inputs)
    with cache.locked(folder):
        # What another process of this run finished while this one waited is as new as if it were made here.
        wanted = (data.dataset_prepared_path is not None and not force) or cache.is_newer(folder, began)
        reused = wanted and cache.is_usable(folder)
        if explain is not None:
            cache.explain(folder.parent, inputs, reused=reused, say=explain)
        make_copies = plan.copies.get()
        copies = make_copies() if make_copies else None
        if not reused:
            with atomic_dir(folder) as partial:
                if force or copies is None or not copies.fetch(folder.name, partial):
                    _build(plan, tokenizer, train, test, partial)
                    cache.write_inputs(partial, inputs)
                    write_manifest(partial)
        if copies is not None:
            copies.push(folder.name, folder)
        return _load(plan, folder)


def find_prepared(plan: DataPlan, tokenizer: Any) -> Datasets | None:
    """The token rows that were made from the same inputs before, None without any. Unlike ``prepare`` it makes none."""
    plan = _prepared_part(plan)
    inputs = cache.inputs(plan, tokenizer, *_opened(plan, tokenizer))
    folder = cache.root(plan) / cache.fingerprint(inputs)
    if not folder.is_dir():
        return None
    with cache.locked(folder):
        return _load(plan, folder) if cache.is_usable(folder) else None


def _prepared_part(plan: DataPlan) -> DataPlan:
    """The plan; without its training data when they are streamed."""
    if not plan.stream:
        return plan
    data = plan.cfg[Data].model_copy(update={"datasets": None, "weight_by": None})
    cfg = replace(plan.cfg, sections={**plan.cfg.sections, Data: data})
    return replace(plan, cfg=cfg, formats=(), pack=Slot("packer"), stream=Slot("stream"))


def _opened(plan: DataPlan, tokenizer: Any) -> tuple[list[Source], list[Source]]:
    """The sources of training and of test data."""
    data = plan.cfg[Data]
    return (
        _sources(plan, tokenizer, data.datasets or (), plan.formats, "train"),
        _sources(plan, tokenizer, data.test_datasets or (), plan.eval_formats, "test"),
    )


def _sources(
    plan: DataPlan, tokenizer: Any, entries: Sequence[Dataset], formats: Sequence[Format], split: str
) -> list[Source]:
    made = [fmt.source(tokenizer) for fmt in formats]
    return [
        read(entry, default_split=split, cfg=plan.cfg) if source is None else source
        for entry, source in zip(entries, made, strict=True)
    ]


def _load(plan: DataPlan, folder: Path) -> Datasets:
    held = plan.cfg[Data].dataset_keep_in_memory
    train = TokenRows(folder / ROWS, np.load(folder / TRAIN), in_memory=held)
    evaluated: TokenRows | None = None
    if (folder / EVAL).exists():
        own = folder / TEST_ROWS if files_of(folder / TEST_ROWS) else folder / ROWS
        evaluated = TokenRows(own, np.load(folder / EVAL), in_memory=held)
    summary = _with_packing(plan, Summary.from_dict(json.loads((folder / SUMMARY).read_text())), train)
    return Datasets(train, evaluated, summary, folder.name, folder)


def _with_packing(plan: DataPlan, summary: Summary, train: TokenRows) -> Summary:
    pack = plan.pack.get()
    if pack is None:
        return summary
    _, offsets = pack(train.lengths, plan.cfg[RunControl].seed)
    rows = plan.cfg[Batch].micro if plan.long_rows.get() else 1
    share = efficiency(train.lengths, offsets, plan.cfg[Batch].sequence_len * rows)
    return replace(summary, packing_efficiency=share, packed_rows=len(offsets) - 1)


# --------------------------------------------------------------------------- making them


def _build(plan: DataPlan, tokenizer: Any, train: Sequence[Source], test: Sequence[Source], folder: Path) -> None:
    batch = plan.cfg[Batch]
    job = _Job("train", train, plan.formats, batch.sequence_len, "sequence_len")
    written = _write(plan, tokenizer, job, folder / ROWS)
    tested: Written | None = None
    if test:
        key = "sequence_len" if batch.eval_sequence_len is None else "eval_sequence_len"
        job = _Job("eval", test, plan.eval_formats, batch.eval_length, key)
        tested = _write(plan, tokenizer, job, folder / TEST_ROWS)
    chosen = choose(plan, written, tested)
    np.save(folder / TRAIN, chosen.train)
    if chosen.evaluated is not None:
        np.save(folder / EVAL, chosen.evaluated)
    summary = summarize(written, tested, chosen)
    write_atomically(folder / SUMMARY, json.dumps(summary.to_dict(), indent=1))


@dataclass(frozen=True)
class _Job:
    """Datasets that go into one file: ``use`` is train or eval, ``key`` the setting that gives ``limit``."""

    use: str
    sources: Sequence[Source]
    formats: Sequence[Format]
    limit: int
    key: str


def _write(plan: DataPlan, tokenizer: Any, job: _Job, path: Path) -> Written:
    data = plan.cfg[Data]
    entries = (data.datasets if job.use == "train" else data.test_datasets) or ()
    summaries: list[DatasetSummary] = []
    parts: list[np.ndarray] = []
    digests, start = Digests(), 0
    with TokenWriter(path, data.num_dataset_shards_to_save or 1) as writer:
        for number, (entry, source, fmt) in enumerate(zip(entries, job.sources, job.formats, strict=True)):
            encoder = Encoder(plan, tokenizer, fmt, job.limit, job.key)
            found = _encode_all(plan, entry, source, encoder, _Into(writer, digests, number))
            counts: dict[str, Any] = {**found.counts, "notes": dict(sorted(found.notes.items()))}
            summary = DatasetSummary(source.path, _kind(entry, fmt), job.use, **counts)
            _refuse_nothing(entry, source, summary, job)
            summaries.append(summary)
            parts.append(start + found.order)
            start += summary.kept
    return without_repeats(
        Written(summaries, TokenRows(path), digests.all(), parts), remove=data.dataset_exact_deduplication
    )


def _kind(entry: Dataset, fmt: Format) -> str:
    """How the report calls the layout of the rows."""
    return entry.type if isinstance(entry.type, str) and entry.type else fmt.name


@dataclass(frozen=True)
class _Into:
    """Where the token rows of a dataset go."""

    writer: TokenWriter
    digests: Digests
    number: int


@dataclass(frozen=True)
class _Found:
    """What became of a dataset's rows; ``order`` numbers its token rows in the order in which they are joined."""

    counts: Counter[str]
    notes: Counter[str]
    order: np.ndarray


def _encode_all(plan: DataPlan, entry: Dataset, source: Source, encoder: Encoder, into: _Into) -> _Found:
    counts: Counter[str] = Counter(rows=0, kept=0)
    notes: Counter[str] = Counter()
    chunks, rows, rank = source.chunks(), len(source), None
    if entry.shards:
        chosen = mix.sample(rows, entry.shards, entry.shards_idx or 0, plan.cfg[RunControl].seed)
        chunks, rows = pick(chunks, np.sort(chosen)), len(chosen)
        rank = None if plan.keep_order else np.argsort(chosen)
    places = array("q")
    with progress(f"Tokenizing {source.path}", rows) as advance:
        for encoded in encode(chunks, encoder, processes(plan.cfg), rows):
            into.writer.add(encoded.columns, into.number)
            into.digests.add(encoded.digests)
            if rank is not None:
                places.frombytes(rank[encoded.places + counts["rows"]].tobytes())
            counts.update(encoded.counts)
            join_notes(notes, encoded.notes)
            advance(encoded.counts["rows"])
    kept = np.arange(counts["kept"])
    return _Found(counts, notes, kept if rank is None else np.argsort(np.frombuffer(places, np.int64), kind="stable"))


def _refuse_nothing(entry: Dataset, source: Source, summary: DatasetSummary, job: _Job) -> None:
    """A dataset that gives nothing to train is a mistake, even next to others that give something."""
    if summary.trained:
        return
    if not summary.rows and entry.shards:
        raise DataError(
            f"{entry.path}: shards {entry.shards} cuts {len(source)} rows: the part is empty. Lower shards."
        )
    if not summary.rows:
        raise DataError(f"{entry.path}: there are no rows in {source.split}. Check path and split.")
    causes = (
        (summary.nothing_to_train, "have no trained token", "check the roles and fields that are trained"),
        (summary.too_long, f"are longer than {job.key} {job.limit}", f"raise {job.key}"),
        (summary.too_short, "have fewer tokens than min_sample_len", "check the fields that hold the text"),
    )
    found = [(count, what, hint) for count, what, hint in causes if count]
    if not found:  # rows that are used as they are
        found = [(summary.rows, "have no trained token", "check their labels")]
    what = ", ".join(f"{count} {what}" for count, what, _ in found)
    hint = "; ".join(hint for *_, hint in found)
    raise NewtError(f"{entry.path}: nothing to train: of {summary.rows} rows read, {what}. To fix it, {hint}.")
