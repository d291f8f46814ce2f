"""Files of a small run, as the training room and the data room write them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps every tag with its attributes and the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(str(html))
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> inside {self.open}"
        self.open.pop()
        if tag in ("dt", "dd", "td", "th", "p", "small"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def find(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and all(a.get(k.rstrip("_")) == v for k, v in attributes.items())]


@pytest.fixture(scope="session")
def parse() -> type[Page]:
    """Parses a page."""
    return Page


@pytest.fixture
def row() -> dict[str, Any]:
    """Six tokens, three of them trained."""
    return {
        "dataset": "chat.jsonl",
        "row": 4,
        "length": 6,
        "trained": 3,
        "tokens": [
            ["<|user|>\n", 1, -100, "template", 0],
            ["Hi", 20, -100, "user", 0],
            ["<|bot|>\n", 2, -100, "template", 1],
            ["Hel", 30, 30, "response", 1],
            ["lo", 31, 31, "response", 1],
            ["<|end|>", 3, 3, "end of turn", 1],
        ],
        "raw": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    }


@pytest.fixture
def run() -> dict[str, Any]:
    """run.json of a finished run."""
    return {
        "config": {
            "base_model": "models/tiny",
            "datasets": [{"path": "chat.jsonl", "type": "chat_template", "split": None}],
            "lora_r": 16,
            "seed": 42,
            "eot_tokens": None,
            "sequence_len": 256,
        },
        "given": ["base_model", "datasets", "datasets.0.path", "datasets.0.type", "lora_r"],
        "versions": {"newt": "0.1.0", "torch": "2.13.0"},
        "hardware": {"gpus": 0},
        "git": None,
        "started": "2026-01-02T10:00:00+00:00",
        "ended": "2026-01-02T11:12:05+00:00",
        "result": {"global_step": 40, "train_loss": 1.5, "eval": {"eval_loss": 1.0}, "before": {"eval_loss": 2.0}},
        "data": {
            "datasets": [
                {
                    "path": "chat.jsonl",
                    "type": "chat_template",
                    "rows_read": 100,
                    "rows_kept": 98,
                    "dropped": {"too long": 2},
                    "truncated": 0,
                    "tokens": 5000,
                    "trained_tokens": 2000,
                    "notes": {},
                }
            ],
            "histogram": {"edges": [0, 64, 128, 256], "counts": [60, 30, 8]},
            "packing": {"efficiency": 0.983, "bins": 23},
        },
        "model": {
            "name": "models/tiny",
            "total_parameters": 1_000_000,
            "trainable_parameters": 18_000,
            "method": "sft",
            "adapter": "lora",
        },
    }


@pytest.fixture
def metrics() -> list[dict[str, Any]]:
    """40 steps, with an evaluation before the first and after every tenth."""
    events: list[dict[str, Any]] = [{"step": 0, "eval_loss": 2.0, "eval_tokens": 100}]
    for step in range(1, 41):
        events.append(
            {
                "step": step,
                "epoch": step / 20,
                "loss": 1 + math.exp(-step / 8),
                "grad_norm": 1.0,
                "learning_rate": 2e-4 * (1 - step / 40),
                "tokens": step * 1000,
                "trained_tokens": step * 400,
                "tokens_per_second": 1234.0,
                "memory_gib": 1.5,
            }
        )
        if step % 10 == 0:
            events.append({"step": step, "eval_loss": 1 + math.exp(-step / 8), "eval_tokens": 100})
    return events


@pytest.fixture
def folder(tmp_path: Path, run: dict[str, Any], metrics: list[Any], row: dict[str, Any]) -> Callable[..., Path]:
    """Writes the files of a run (None: leave it out; text: as it is) and gives their folder."""

    def make(**changes: Any) -> Path:
        samples = [{"prompt": "Hi", "before": "Hi Hi Hi", "after": "Hello", "reference": "Hello!"}]
        files = {"run": run, "metrics": metrics, "tokens": [row], "samples": samples, **changes}
        for name, content in files.items():
            path = tmp_path / (f"{name}.jsonl" if name == "metrics" else f"{name}.json")
            if isinstance(content, str):
                path.write_text(content)
            elif name == "metrics" and content is not None:
                path.write_text("".join(json.dumps(event) + "\n" for event in content))
            elif content is not None:
                path.write_text(json.dumps(content))
        return tmp_path

    return make
