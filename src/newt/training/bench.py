"""Multiple-choice questions: which letter does the model find most likely?"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from newt.models.generate import mixed_precision
from newt.support.errors import NewtError

LETTERS = "ABCDEFG"
HUB = "openaccess-ai-collective/mmlu-evals"
FILES = {"mmlu-zs": f"{HUB}/zero_shot_mmlu_val.json", "mmlu": f"{HUB}/five_shot_mmlu_val.json"}
FILES["mmlu-fs"] = FILES["mmlu"]


class Bench:
    """An evaluation by questions."""

    def __init__(self, source: str, split: str) -> None:
        """Keep where they are.

        Args:
            source: a name of :data:`FILES`, a local file, or ``org/name/file`` on the Hub. Rows have ``input``, which
                ends where the letter comes, ``output``, that letter, and perhaps ``subject``.
            split: of the rows.
        """
        self.source, self.split = source, split
        self.questions: list[dict[str, str]] | None = None

    def __call__(self, trainer: Any) -> dict[str, float]:
        """Accuracy for each subject, and its average over the subjects."""
        if self.questions is None:
            self.questions = read_questions(self.source, self.split)
        right: dict[str, list[float]] = defaultdict(list)
        for question in self.questions:
            answer = choose(trainer.model, trainer.processing_class, question["input"])
            right[question["subject"]].append(float(answer == question["output"]))
        found = {f"bench_accuracy_{name}": mean(values) for name, values in sorted(right.items())}
        return {**found, "bench_average_accuracy": mean(found.values())}


def read_questions(source: str, split: str) -> list[dict[str, str]]:
    """Questions with a letter as their answer.

    Raises:
        NewtError: the file cannot be read, or has none.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub import hf_hub_download

    source = FILES.get(source, source)
    try:
        if not Path(source).expanduser().is_file():
            owner, name, file = source.split("/", 2)
            source = hf_hub_download(f"{owner}/{name}", file, repo_type="dataset")
        with _no_bar():
            rows = load_dataset("json", data_files={split: str(Path(source).expanduser())}, split=split)
    except (OSError, ValueError, DatasetsError) as error:
        raise NewtError(f"bench_dataset: {source} cannot be read: {str(error).splitlines()[0]}") from error
    missing = {"input", "output"} - set(rows.column_names)
    if missing:
        raise NewtError(f"bench_dataset: the rows of {source} have no column {' and no '.join(sorted(missing))}.")
    found = [
        {"input": row["input"], "output": row["output"].strip()[:1], "subject": _name(row.get("subject"))}
        for row in rows
    ]
    found = [row for row in found if row["output"] and row["output"] in LETTERS]
    if not found:
        raise NewtError(f"bench_dataset: no row of {source} has a letter from A to G in output.")
    return found


@contextmanager
def _no_bar() -> Iterator[None]:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            enable_progress_bars()


def _name(subject: Any) -> str:
    """A name that every tracker takes as a part of a metric's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", str(subject or "all"))


def choose(model: Any, tokenizer: Any, question: str) -> str:
    """The letter that the model finds most likely after a question."""
    texts = [tokenizer(question + letter)["input_ids"] for letter in LETTERS]
    context = torch.tensor([texts[0][:-1]], device=next(model.parameters()).device)
    with torch.no_grad(), mixed_precision(model):
        logits = model(input_ids=context, use_cache=False).logits[0, -1].float()
    return LETTERS[int(logits[[ids[-1] for ids in texts]].argmax())]
