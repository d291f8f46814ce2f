"""How fast data are made: everything that the project promises about it, one line of JSON for each promise.

    python benchmarks/data.py [--quick] [--tokenizers FOLDER] [--only chat,processes,memory,packing,stream,wait]
    python benchmarks/data.py --only peer --peer-python PYTHON

``chat``: chat rows to ids and labels, against rendering and tokenizing the conversation anew for every turn (the usual
way: with a dummy answer and with the real one; the labels are where the two differ). CPU time of one core, the sides
take turns. ``peer``: the same rows through Axolotl, installed for another interpreter. The rest is in data_scale.py.
``--tokenizers`` holds folders named qwen3 and llama3_1. Every line says whether its target is met.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAYON_NUM_THREADS"] = "1"

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "tokenizers"
TEMPLATES = ("qwen3", "llama3_1")
SIZES = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 65536,
}  # fmt: skip
CONFIGS = {
    "qwen3": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 151936, **SIZES},
    "llama3_1": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, **SIZES},
}
FAST, STANDARD, FLAT = 20.0, 3.0, 1.2
"""Targets: times faster than the baseline at 16 turns, with and without the extra; cost per token, 64 turns to 2."""


def say(what: str, met: bool | None, **numbers: Any) -> None:
    """Print one result; ``met`` is None where there is no target."""
    print(json.dumps({"what": what, **numbers, **({} if met is None else {"met": met})}), flush=True)


def prose() -> list[str]:
    """Words of English text, with their punctuation: the language reference that comes with Python."""
    from pydoc_data.topics import topics

    return " ".join(topics[name] for name in sorted(topics)).split(" ")


def conversation(turns: int, seed: int, words: list[str]) -> list[dict[str, str]]:
    """Turns of 20 to 60 words, user and assistant in turn."""
    draw = random.Random(seed)
    messages = []
    for i in range(turns):
        count = draw.randint(20, 60)
        begin = draw.randrange(len(words) - count)
        text = " ".join(words[begin : begin + count])
        messages.append({"role": "assistant" if i % 2 else "user", "content": text})
    return messages


def model_folder(tokenizer: Path, folder: Path) -> Path:
    """A folder with a tokenizer and the config of a model; preparing data needs no weights."""
    model = folder / "model"
    shutil.copytree(tokenizer, model, copy_function=shutil.copyfile)
    (model / "config.json").write_text(json.dumps(CONFIGS[tokenizer.name]))
    return model


def rerender(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """The baseline: ids and labels of one conversation."""

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


def cpu(work: Callable[[], Any]) -> float:
    """CPU seconds."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


class Ours:
    """Our path from rows to ids and labels, with or without the faster tokenizer."""

    def __init__(self, folder: Path, fast: bool) -> None:
        from transformers import AutoTokenizer

        from newt.config.core import Data, Template
        from newt.config.section import Config
        from newt.data.tokenize import RowTokenizer
        from newt.formats.chat_template import ChatTemplate, ChatTemplateDataset

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        cfg = Config({Data: Data(), Template: Template()})
        self.fmt = ChatTemplate(ChatTemplateDataset(path="rows.jsonl", type="chat_template"), cfg)
        self.rows = RowTokenizer(self.tokenizer, cfg, self.fmt, 1 << 20)
        if fast:
            self.rows.texts.speed_up([])
        else:
            self.rows.texts.keep_standard()
        self.is_fast = self.rows.texts.is_fast

    def __call__(self, rows: list[dict[str, Any]]) -> list[Any]:
        """Token rows."""
        return [made for [made] in self.rows.encode_many([self.fmt(row) for row in rows])]


def chat(options: argparse.Namespace) -> None:
    """Chat rows to ids and labels."""
    words = prose()
    for template in TEMPLATES:
        folder = options.tokenizers / template
        if not folder.is_dir():
            say(f"chat {template}", None, skipped="no such tokenizer; name their folder with --tokenizers")
            continue
        sides = {False: Ours(folder, False), True: Ours(folder, True)}
        if not sides[True].is_fast:
            say(f"chat {template}", None, skipped="the extra fast is not installed")
            del sides[True]
        _chat(template, sides, words, options.quick)


def _turns(sides: dict[bool, Ours], rows: list[dict[str, Any]], repeats: int) -> dict[Any, list[float]]:
    """CPU seconds of the baseline and of each side, which take turns."""
    times: dict[Any, list[float]] = {"base": [], **{fast: [] for fast in sides}}
    for _ in range(repeats):
        times["base"].append(cpu(lambda: [rerender(sides[False].tokenizer, row["messages"]) for row in rows]))
        for fast, ours in sides.items():
            times[fast].append(min(cpu(lambda ours=ours: ours(rows)) for _ in range(3)))
    return times


def _chat(template: str, sides: dict[bool, Ours], words: list[str], quick: bool) -> None:
    per_token: dict[tuple[bool, int], float] = {}
    for turns in (2, 16, 64):
        count = max(4, (32 if quick else 128) * 2 // turns)
        rows = [{"messages": conversation(turns, seed, words)} for seed in range(count)]
        tokens = sum(len(made.input_ids) for made in sides[False](rows))
        times = _turns(sides, rows, 2 if quick else 5)
        for fast in sides:
            ratio = median(base / ours for base, ours in zip(times["base"], times[fast], strict=True))
            per_token[fast, turns] = min(times[fast]) / tokens
            flat = per_token[fast, turns] / per_token[fast, 2]
            target = FAST if fast else STANDARD
            met = ratio >= target if turns == 16 else flat <= FLAT if turns == 64 else None
            say(
                f"chat {template}", met, turns=turns, fast=fast, tokens=tokens, times_faster=round(ratio, 2),
                us_per_token=round(1e6 * per_token[fast, turns], 3), cost_per_token_to_2_turns=round(flat, 3),
            )  # fmt: skip


SECTIONS = ("chat", "processes", "memory", "packing", "stream", "wait", "peer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tokenizers", type=Path, default=FOLDER)
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--peer-python", type=Path)
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: choose from {', '.join(SECTIONS)}")
    import data_peer
    import data_scale

    work = {"chat": chat, "peer": data_peer.peer, **data_scale.SECTIONS}
    for name in chosen:
        work[name](options)


if __name__ == "__main__":
    main()
