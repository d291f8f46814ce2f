"""Rows to token rows that fit, in as many processes as asked for, in the order of the rows."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from newt.config.core import Data
from newt.config.section import Config
from newt.data.control import note
from newt.data.dedup import digest
from newt.data.records import Chunk, Row
from newt.data.rows import trained_tokens
from newt.data.tokenize import RowError, RowTokenizer, TokenRow
from newt.extend import DataPlan, Format, FormattedRow
from newt.support import env
from newt.support.errors import DataError, NewtError

_AS_WRITTEN = frozenset({"arguments", "parameters"})
"""Keys whose values are data of the user down to the last null: arguments and schemas of tools."""


def format_row(fmt: Format, row: Mapping[str, Any]) -> FormattedRow:
    """Apply a format to a row as it was read. Keys without a value are left out first.

    Raises:
        DataError: the row does not fit the format.
    """
    return fmt(without_none(row))


def without_none(row: Mapping[str, Any]) -> Row:
    """A row without the keys that are None, at any depth, except inside the arguments and parameters of tools."""
    return {
        key: value if key in _AS_WRITTEN else _without_none(value) for key, value in row.items() if value is not None
    }


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_none(value)
    if isinstance(value, list) and value and not isinstance(value[0], (int, float)):
        return [_without_none(inner) for inner in value]
    return value


@dataclass(frozen=True)
class Encoded:
    """Token rows of one chunk.

    Attributes:
        columns: what ``TokenWriter.add`` takes.
        places: place in the chunk of the row that each token row was made from.
        digests: of the token rows, 16 bytes each (``dedup.digest``).
        counts: rows (read), kept, too_long, too_short, nothing_to_train, truncated; tokens and trained (of the kept).
        notes: what the tokenizer found odd.
    """

    columns: Mapping[str, np.ndarray]
    places: np.ndarray
    digests: bytes
    counts: Counter[str]
    notes: Counter[str]


class Encoder:
    """Turns chunks of one dataset into token rows.

    Args:
        plan: gives the settings and the row tokenizer.
        tokenizer: of the model.
        fmt: layout of the rows.
        limit: longest row in tokens.
        setting: the key that gives ``limit``, for messages.
    """

    def __init__(self, plan: DataPlan, tokenizer: Any, fmt: Format, limit: int, setting: str) -> None:
        data = plan.cfg[Data]
        self._fmt = fmt
        self._limit = limit
        self._setting = setting
        self._shortest = data.min_sample_len
        self._excess = data.excess_length_strategy
        self._as_they_are = data.skip_prepare_dataset
        self._packed = bool(plan.pack)
        self._split_special = data.split_special_tokens
        make = plan.tokenize.get(RowTokenizer)
        assert make is not None
        self._rows = make(tokenizer, plan.cfg, fmt, limit)

    def expect(self, times: float) -> None:
        """Say that so many times what was encoded is to come."""
        if isinstance(self._rows, RowTokenizer):
            self._rows.texts.expect(times)

    def __call__(self, chunk: Chunk) -> Encoded:
        """Token rows of a chunk.

        Raises:
            DataError: a row cannot be used; the message names the file and the row.
        """
        kept: list[tuple[int, TokenRow]] = []
        counts: Counter[str] = Counter(rows=len(chunk))
        for index, pieces in enumerate(self._tokenized(chunk)):
            counts["too_short"] += not pieces
            for piece in pieces:
                fate, fitted = self._fit(piece, chunk, index)
                counts.update(fate)
                if fitted is not None:
                    kept.append((index, fitted))
        columns = _columns([(chunk.number(index), row) for index, row in kept])
        counts.update(kept=len(kept), tokens=int(columns["lengths"].sum()), trained=int(columns["trained"].sum()))
        notes = Counter(self._rows.notes)
        self._rows.notes.clear()
        for token, said in getattr(self._rows, "control_rows", {}).items():
            notes[note(token, chunk.place(said[0]), self._split_special)] += len(said)
        places = np.array([index for index, _ in kept], np.int64)
        digests = b"".join(digest(row.input_ids, row.labels) for _, row in kept)
        return Encoded(columns, places, digests, counts, notes)

    def _tokenized(self, chunk: Chunk) -> Sequence[Sequence[TokenRow]]:
        formatted: list[FormattedRow] = []
        rows = chunk.rows()
        try:
            for row in rows:
                formatted.append(format_row(self._fmt, row))
        except DataError as error:
            raise _placed(chunk, len(formatted), error) from error
        try:
            encoded: Sequence[Sequence[TokenRow]] = self._rows.encode_many(formatted)
            return encoded
        except RowError as error:
            raise _placed(chunk, error.index, error) from error
        except (DataError, UnicodeEncodeError):
            for index, one in enumerate(formatted):
                self._probe(chunk, index, one)
            raise

    def _probe(self, chunk: Chunk, index: int, formatted: FormattedRow) -> None:
        """Tokenize one row to see whether it is the one that cannot be."""
        try:
            self._rows.encode_many([formatted])
        except UnicodeEncodeError as error:
            raise _placed(chunk, index, "holds half of a surrogate pair, which is not text.") from error
        except DataError as error:
            raise _placed(chunk, index, error) from error

    def _fit(self, piece: TokenRow, chunk: Chunk, index: int) -> tuple[Sequence[str], TokenRow | None]:
        """(what to count, the row as it is kept or None)."""
        length, fate = len(piece.input_ids), []
        if self._as_they_are:
            return (), self._untouched(piece, chunk, index)
        if length < self._shortest or length < 1:
            return ("too_short",), None
        if length > self._limit:
            if self._excess == "drop":
                return ("too_long",), None
            if self._excess == "raise":
                hint = f"Raise {self._setting}, or set excess_length_strategy to drop or truncate."
                raise _placed(chunk, index, f"has {length} tokens, {self._setting} is {self._limit}. {hint}")
            piece = TokenRow(piece.input_ids[: self._limit], piece.labels[: self._limit])
            fate.append("truncated")
        if not trained_tokens(piece.labels):
            return ("nothing_to_train",), None
        return fate, piece

    def _untouched(self, piece: TokenRow, chunk: Chunk, index: int) -> TokenRow:
        """A row that no rule about lengths applies to."""
        length = len(piece.input_ids)
        if not length:
            raise _placed(chunk, index, "has no tokens. Remove the row, or skip_prepare_dataset.")
        if self._packed and length > self._limit:
            hint = f"Raise {self._setting}, or remove skip_prepare_dataset or sample_packing."
            raise _placed(chunk, index, f"has {length} tokens, a packed row has {self._limit}. {hint}")
        return piece


def _placed(chunk: Chunk, index: int, what: object) -> DataError:
    return DataError(f"{chunk.place(index)}: {what}")


def _columns(kept: Sequence[tuple[int, TokenRow]]) -> dict[str, np.ndarray]:
    nothing = np.zeros(0, np.int32)
    return {
        "input_ids": np.concatenate([nothing, *(row.input_ids for _, row in kept)], dtype=np.int32),
        "labels": np.concatenate([nothing, *(row.labels for _, row in kept)], dtype=np.int32),
        "lengths": np.array([len(row.input_ids) for _, row in kept], np.int32),
        "row": np.array([number for number, _ in kept], np.int32),
        "trained": np.array([trained_tokens(row.labels) for _, row in kept], np.int32),
    }


# --------------------------------------------------------------------------- processes


def processes(cfg: Config) -> int:
    """How many processes tokenize. Forking is safe on Linux only; elsewhere it is one."""
    if not sys.platform.startswith("linux"):
        return 1
    return cfg[Data].dataset_num_proc or env.num_proc()


def encode(chunks: Iterator[Chunk], encoder: Encoder, workers: int, rows: int = 0) -> Iterator[Encoded]:
    """Encode chunks in order. The result does not depend on the number of processes.

    The first chunk is always encoded in this process: mistakes that concern every row show at once, and small
    datasets start no processes.

    Args:
        chunks: the rows.
        encoder: encodes a chunk.
        workers: processes.
        rows: how many there are; what many rows are worth is then loaded once, before the processes start.
    """
    first = next(chunks, None)
    if first is None:
        return
    if workers > 1:
        env.set_default("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
    yield encoder(first)
    second = next(chunks, None)
    if second is None:
        return
    if workers == 1:
        yield encoder(second)
        yield from map(encoder, chunks)
        return
    encoder.expect(rows / max(1, len(first)))
    yield from _in_processes(second, chunks, encoder, workers)


def _in_processes(second: Chunk, chunks: Iterator[Chunk], encoder: Encoder, workers: int) -> Iterator[Encoded]:
    pool = ProcessPoolExecutor(workers, get_context("fork"), _start, (encoder,))
    pending: deque[Future[Encoded]] = deque([pool.submit(_encode, second)])
    try:
        for chunk in chunks:
            if len(pending) >= 2 * workers:  # bounds what is held in memory
                yield pending.popleft().result()
            pending.append(pool.submit(_encode, chunk))
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise NewtError(
            "a tokenizing process was killed, perhaps because memory ran out. Set dataset_num_proc to a lower number."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: dict[str, Encoder] = {}
"""The encoder of a tokenizing process, inherited through the fork, so that nothing in it needs to be picklable."""


def _start(encoder: Encoder) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends the pool
    _worker["encoder"] = encoder
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this, processes whose parent was killed would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    signal.raise_signal(signal.SIGKILL)


def _encode(chunk: Chunk) -> Encoded:
    return _worker["encoder"](chunk)
