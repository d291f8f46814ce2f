"""Rows and a config of them, tokenized as a user would."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import newt
from newt.commands.shared import open_run
from newt.commands.steps import prepare_data

Row = dict[str, Any]
Find = Callable[[str], Path]


def chat(*contents: Any, system: str | None = None, **more: Any) -> Row:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    return {"messages": ([{"role": "system", "content": system}] if system else []) + turns, **more}


class Try:
    """Rows and a config of them, in a folder of their own."""

    def __init__(self, folder: Path, model: Path, find: Find) -> None:
        self.folder, self.model, self.find = folder, model, find

    def config(self, rows: Sequence[Row], tokenizer: str = "", entry: Row | None = None, **keys: Any) -> Row:
        file = self.folder / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {
            "base_model": str(self.model),
            **({"tokenizer_config": str(self.find(tokenizer))} if tokenizer else {}),
            "datasets": [{"path": str(file), "type": "chat_template", **(entry or {})}],
            "sequence_len": 2048,
            "micro_batch_size": 1,
            **({} if "batch_size" in keys else {"gradient_accumulation_steps": 1}),
            "learning_rate": 1e-3,
            "dataset_num_proc": 1,
            "dataset_prepared_path": str(self.folder / "prepared"),
            "output_dir": str(self.folder / "run"),
            **keys,
        }

    def tokenize(self, rows: Sequence[Row], *given: Any, **keys: Any) -> list[dict[str, list[int]]]:
        return newt.tokenize(self.config(rows, *given, **keys), rows)

    def trained(self, row: Row, tokenizer: str = "", entry: Row | None = None, **keys: Any) -> str:
        """The trained text of one row."""
        (made,) = self.tokenize([row], tokenizer, entry, **keys)
        return self.text([id_ for id_, label in zip(*made.values(), strict=True) if label != -100], tokenizer)

    def text(self, ids: Sequence[int], tokenizer: str = "") -> str:
        from transformers import AutoTokenizer

        return str(AutoTokenizer.from_pretrained(self.find(tokenizer) if tokenizer else self.model).decode(ids))

    def prepare(self, rows: Sequence[Row], *given: Any, **keys: Any) -> Any:
        return prepare_data(open_run(self.config(rows, *given, **keys)))[1]


def firsts(rows: Any) -> list[tuple[int, ...]]:
    return [tuple(rows[i]["input_ids"].tolist()) for i in range(len(rows))]
