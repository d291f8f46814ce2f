"""The data of a run whose training rows are streamed: nothing of them is prepared, evaluation rows are as usual."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from newt.config.core import Data
from newt.data.prepare import Datasets, prepare
from newt.data.rows import TokenRows
from newt.data.stream import Stream
from newt.data.summary import Summary
from newt.extend import DataPlan

NOT_COMPARED = "leakage: evaluation rows are not looked for among streamed rows"


@dataclass(frozen=True)
class StreamedDatasets:
    """What a run trains and evaluates; see ``prepare.Datasets``.

    Attributes:
        train: training rows, read while the run trains.
        prepared: the evaluation rows, None without any.
    """

    train: Stream
    prepared: Datasets | None

    @property
    def eval(self) -> TokenRows | None:
        """Evaluation rows."""
        return self.prepared.eval if self.prepared else None

    @property
    def summary(self) -> Summary:
        """What became of the rows that were read so far."""
        summary = self.train.summary
        if self.prepared is None:
            return summary
        tested = self.prepared.summary
        return replace(
            summary,
            datasets=[*summary.datasets, *tested.datasets],
            eval_rows=tested.eval_rows,
            notes=[*summary.notes, *tested.notes, NOT_COMPARED],
        )

    @property
    def fingerprint(self) -> str:
        """Changes with what the rows depend on, as far as the first rows tell it."""
        return self.train.identity

    @property
    def path(self) -> Path | None:
        """Folder of the evaluation rows."""
        return self.prepared.path if self.prepared else None

    @property
    def examples(self) -> TokenRows | Sequence[Mapping[str, np.ndarray]]:
        """Rows for a look: those of evaluation if there are any, else the first of the stream."""
        return self.train.first.rows if self.eval is None else self.eval


def prepare_streamed(
    plan: DataPlan, tokenizer: Any, *, force: bool = False, explain: Callable[[str], None] | None = None
) -> StreamedDatasets:
    """Open the stream, tokenize its first rows as a check, and prepare the evaluation rows.

    Args:
        plan: the data plan, with a stream.
        tokenizer: a fast tokenizer of transformers.
        force: see ``prepare.prepare``.
        explain: see ``prepare.prepare``.

    Raises:
        DataError: a dataset or one of the first rows cannot be used.
        NewtError: there is nothing to train.
    """
    stream = Stream(plan, tokenizer)
    assert stream.first.begin == stream.start
    tested = prepare(plan, tokenizer, force=force, explain=explain) if plan.cfg[Data].test_datasets else None
    return StreamedDatasets(stream, tested)
