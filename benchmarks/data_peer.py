"""The rows of data.py through Axolotl, installed for another interpreter: its speed, and where the labels agree."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from data import TEMPLATES, Ours, conversation, model_folder, prose, say

TURNS = 16


def peer(options: argparse.Namespace) -> None:
    """Preprocess the same rows with both; one process, CPU time without the start of the program."""
    python = options.peer_python
    if python is None:
        say("peer", None, skipped="name an interpreter with Axolotl: --peer-python PYTHON")
        return
    for template in TEMPLATES:
        folder = options.tokenizers / template
        if folder.is_dir():
            _compare(python, folder, 512 if options.quick else 2048)


def _compare(python: Path, folder: Path, count: int) -> None:
    words = prose()
    rows = [{"messages": conversation(TURNS, seed, words)} for seed in range(count)]
    with tempfile.TemporaryDirectory() as work:
        model = model_folder(folder, Path(work))
        start, _ = _preprocess(python, model, rows[:4], Path(work) / "few")
        whole, theirs = _preprocess(python, model, rows, Path(work) / "all")
    ours = Ours(folder, fast=True)
    ours(rows[:4])
    begin = time.process_time()
    made = ours(rows)
    seconds = time.process_time() - begin
    same = sum(theirs.get(tuple(row.input_ids.tolist())) == row.labels.tolist() for row in made)
    alike = [
        label == other
        for row in made
        for label, other in zip(row.labels.tolist(), theirs.get(tuple(row.input_ids.tolist()), ()), strict=False)
    ]
    agree = sum(alike) / max(1, len(alike))
    known = sum(tuple(row.input_ids.tolist()) in theirs for row in made)
    say(
        f"peer {folder.name}", None, rows=count, turns=TURNS, their_seconds=round(whole - start, 3),
        our_seconds=round(seconds, 3), times_faster=round((whole - start) / seconds, 1),
        rows_with_equal_ids=known, rows_with_equal_labels=same,
        share_of_equal_labels=round(agree, 5),
    )  # fmt: skip


def _preprocess(python: Path, model: Path, rows: list[dict[str, Any]], work: Path) -> tuple[float, dict[Any, Any]]:
    """CPU seconds of ``axolotl preprocess``, and ids -> labels of what it prepared."""
    work.mkdir()
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "base_model": str(model),
        "datasets": [{"path": str(work / "rows.jsonl"), "type": "chat_template", "ds_type": "json"}],
        "chat_template": "tokenizer_default",
        "dataset_prepared_path": str(work / "prepared"),
        "dataset_num_proc": 1,
        "dataset_processes": 1,
        "shuffle_merged_datasets": False,
        "sequence_len": 65536,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "num_epochs": 1,
        "learning_rate": 0.0001,
        "optimizer": "adamw_torch",
        "bf16": False,
        "output_dir": str(work / "out"),
    }
    (work / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    quiet = {"AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(python.parent / "axolotl"), "preprocess", str(work / "config.yml")]
    done = subprocess.run(command, env={**os.environ, **quiet}, cwd=work, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = sorted((work / "prepared").glob("*/dataset_info.json"))
    if not found:
        raise SystemExit(f"{' '.join(command)} prepared nothing:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    from datasets import load_from_disk

    prepared = load_from_disk(str(found[0].parent))
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, {tuple(row["input_ids"]): row["labels"] for row in prepared}
