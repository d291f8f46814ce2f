"""Chat rows to ids and labels: one traced render against re-rendering every turn.

    python benchmarks/render.py [--tokenizer FOLDER] [--rows 64]

The baseline renders, for each trained turn, the conversation up to it with a dummy answer and with the real one,
tokenizes both, and takes the difference for the turn's place. Prints one JSON line for each number of turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"

from transformers import AutoTokenizer

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.tokenize import RowTokenizer
from newt.formats.chat_template import ChatTemplate, ChatTemplateDataset

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "tokenizers" / "qwen3"
WORDS = ("the", "model", "reads", "a", "row", "and", "learns", "what", "it", "must", "write", "when", "nobody", "looks")


def conversation(turns: int, seed: int) -> list[dict[str, str]]:
    draw = random.Random(seed)
    return [
        {"role": "assistant" if i % 2 else "user", "content": " ".join(draw.choices(WORDS, k=draw.randint(20, 60)))}
        for i in range(turns)
    ]


def rerender(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    def ids_of(part: list[dict[str, str]]) -> list[int]:
        return tokenizer.apply_chat_template(part, tokenize=True, return_dict=False)

    ids = ids_of(messages)
    labels = [-100] * len(ids)
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        dummy, real = ids_of([*messages[:i], {**message, "content": "[[dummy]]"}]), ids_of(messages[: i + 1])
        shared = min(len(dummy), len(real))
        begin = next((k for k in range(shared) if dummy[k] != real[k]), shared)
        tail = next((k for k in range(shared) if dummy[-1 - k] != real[-1 - k]), shared)
        end = len(real) - tail + 1  # one more: the stop token
        labels[begin:end] = ids[begin:end]
    return ids, labels


def timed(work: Callable[[], Any], repeats: int = 5) -> float:
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, default=FOLDER)
    parser.add_argument("--rows", type=int, default=64)
    options = parser.parse_args()
    if not options.tokenizer.is_dir():
        print(json.dumps({"skipped": f"there is no tokenizer in {options.tokenizer.name}; name one with --tokenizer"}))
        return
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    cfg = Config({Data: Data(), Template: Template()})
    fmt = ChatTemplate(ChatTemplateDataset(path="rows.jsonl", type="chat_template"), cfg)
    cutter = RowTokenizer(tokenizer, cfg, fmt, 1 << 20)
    per_token: dict[int, float] = {}
    for turns in (2, 16, 64):
        count = max(4, options.rows * 2 // turns)
        rows = [{"messages": conversation(turns, seed)} for seed in range(count)]
        texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows]
        cutter.encode_many([fmt(row) for row in rows])  # compile, verify and fill the caches
        tokens = sum(len(row.input_ids) for [row] in cutter.encode_many([fmt(row) for row in rows]))
        traced = timed(lambda rows=rows: cutter.encode_many([fmt(row) for row in rows]))
        plain = timed(lambda texts=texts: tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False))
        base = timed(lambda rows=rows: [rerender(tokenizer, row["messages"]) for row in rows], repeats=2)
        per_token[turns] = traced / tokens
        line = {
            "turns": turns,
            "tokens": tokens,
            "us_per_token": round(1e6 * traced / tokens, 3),
            "share_tokenizer": round(plain / traced, 3),
            "times_faster_than_rerender": round(base / traced, 2),
            "cost_per_token_against_2_turns": round(per_token[turns] / per_token[2], 3),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
