"""The parts of data.py that need whole datasets: processes, memory, packing, streaming, and the wait for data."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from data import conversation, model_folder, prose, say

TWO, MEMORY, FIRST_BATCH, WAIT = 1.8, 1.2, 2.0, 0.005
BOUND, SECONDS, BALANCE = 1.001, 0.1, 1.01
BOUNDED = ("lognormal", "long tail", "reasoning", "uniform")
"""Distributions of lengths that are packed next to perfectly."""
STEP_FLOPS = 4e14
"""Arithmetic that a large GPU does in a second in practice."""
PARAMETERS = 1e9
"""A small model: its steps are the shortest that data must keep up with."""


def write_rows(path: Path, count: int, turns: int) -> Path:
    """A file of conversations; 1,000 different ones, repeated."""
    words = prose()
    lines = [json.dumps({"messages": conversation(turns, seed, words)}) + "\n" for seed in range(min(count, 1000))]
    with path.open("w") as file:
        for i in range(count):
            file.write(lines[i % len(lines)])
    return path


def config(options: argparse.Namespace, rows: Path, **more: Any) -> dict[str, Any]:
    """Settings that prepare the rows of a file."""
    model = rows.parent / "model"
    if not model.is_dir():
        model_folder(options.tokenizers / "qwen3", rows.parent)
    return {
        "base_model": str(model), "datasets": [{"path": str(rows), "type": "chat_template"}], "sequence_len": 4096,
        "micro_batch_size": 1, "gradient_accumulation_steps": 1, "num_epochs": 1, "learning_rate": 1e-4,
        "output_dir": str(rows.parent / "out"), "reinit_weights": True,
        "dataset_prepared_path": str(rows.parent / "prepared"), **more,
    }  # fmt: skip


def measured(settings: dict[str, Any]) -> dict[str, float]:
    """Seconds and peak memory (KiB) of a process that prepares the data of a config."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import json, data_scale; "
        "data_scale.prepare_here(json.loads(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def prepare_here(settings: dict[str, Any]) -> None:
    """Prepare, and print what it took; children count for memory as well."""
    from newt.commands.shared import open_run
    from newt.commands.steps import open_tokenizer
    from newt.data.prepare import prepare

    run = open_run(settings)
    tokenizer = open_tokenizer(run)
    begin = time.perf_counter()
    prepare(run.data_plan(), tokenizer, force=True)
    seconds = time.perf_counter() - begin
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"seconds": seconds, "memory": memory}))


def with_tokenizer(work: Callable[[argparse.Namespace, Path], None]) -> Callable[[argparse.Namespace], None]:
    """Run with a folder of its own, or say why not."""

    def run(options: argparse.Namespace) -> None:
        if not (options.tokenizers / "qwen3").is_dir():
            say(work.__name__, None, skipped="no tokenizer qwen3; name their folder with --tokenizers")
            return
        with tempfile.TemporaryDirectory() as folder:
            work(options, Path(folder))

    return run


@with_tokenizer
def processes(options: argparse.Namespace, folder: Path) -> None:
    """Two processes against one."""
    count = 8_000 if options.quick else 100_000
    rows = write_rows(folder / "rows.jsonl", count, 4)
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(1 if options.quick else 2):
        for workers, found in times.items():
            found.append(measured(config(options, rows, dataset_num_proc=workers))["seconds"])
    ratio = min(times[1]) / min(times[2])
    met = ratio >= TWO if (os.cpu_count() or 1) >= 2 and not options.quick else None
    say("processes", met, rows=count, one=round(min(times[1]), 2), two=round(min(times[2]), 2), ratio=round(ratio, 3))


@with_tokenizer
def memory(options: argparse.Namespace, folder: Path) -> None:
    """Peak memory of many rows against few."""
    few, many = (15_000, 60_000) if options.quick else (10_000, 1_000_000)
    peaks = [
        measured(config(options, write_rows(folder / f"{count}.jsonl", count, 2), dataset_num_proc=1))["memory"]
        for count in (few, many)
    ]
    ratio = peaks[1] / peaks[0]
    say("memory", ratio <= MEMORY, rows=[few, many], mib=[round(p / 1024) for p in peaks], ratio=round(ratio, 3))


def packing(options: argparse.Namespace) -> None:
    """What packing.py measures, against the targets."""
    script = Path(__file__).parent / "packing.py"
    command = [sys.executable, str(script), "200000" if options.quick else "1000000"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    for line in done.stdout.splitlines():
        found = json.loads(line)
        limits = {"seconds_per_million": SECONDS, "packed_slowest_over_mean_balanced": BALANCE}
        if found.get("lengths") in BOUNDED:
            limits["bins_over_lower_bound"] = BOUND
        checks = [found[key] <= limit for key, limit in limits.items() if key in found]
        say("packing", all(checks) if checks else None, **found)


@with_tokenizer
def stream(options: argparse.Namespace, folder: Path) -> None:
    """The first block of a streamed dataset, whatever its size: this is what training waits for."""
    from newt.commands.shared import open_run
    from newt.commands.steps import open_tokenizer
    from newt.data.stream import Stream

    seconds = []
    for count in (1_000, 20_000 if options.quick else 200_000):
        rows = write_rows(folder / f"{count}.jsonl", count, 4)
        run = open_run(config(options, rows, streaming=True, max_steps=10, dataset_prepared_path=None))
        tokenizer, plan = open_tokenizer(run), run.data_plan()
        begin = time.perf_counter()
        Stream(plan, tokenizer).first  # noqa: B018 - it is made when it is asked for
        seconds.append(time.perf_counter() - begin)
    say("stream", max(seconds) <= FIRST_BATCH, seconds_to_first_block=[round(s, 3) for s in seconds])


@with_tokenizer
def wait(options: argparse.Namespace, folder: Path) -> None:
    """The time to pick and collate a packed batch, as a share of the shortest step that a large GPU makes of it."""
    import numpy as np

    from newt.commands.shared import open_run
    from newt.commands.steps import open_tokenizer
    from newt.data.collate import PackedCollator
    from newt.data.pack import best_fit_decreasing
    from newt.data.prepare import prepare

    count, length = (2_000, 4096) if options.quick else (20_000, 4096)
    rows = write_rows(folder / "rows.jsonl", count, 8)
    run = open_run(config(options, rows, dataset_num_proc=1))
    tokenizer = open_tokenizer(run)
    made = prepare(run.data_plan(), tokenizer).train
    order, offsets = best_fit_decreasing(made.lengths, length, 0)
    bins = [order[a:b] for a, b in pairwise(offsets)]
    collate = PackedCollator(tokenizer.pad_token_id or 0, length)
    micro, times = 8, []
    for start in range(0, min(len(bins), 40 * micro) - micro + 1, micro):
        begin = time.perf_counter()
        collate([[made[int(i)] for i in one] for one in bins[start : start + micro]])
        times.append(time.perf_counter() - begin)
    step = 6 * PARAMETERS * micro * length / STEP_FLOPS
    share = float(np.median(times)) / step
    milliseconds = round(1e3 * float(np.median(times)), 3)
    say("wait", share <= WAIT, ms_per_batch=milliseconds, ms_per_step=round(1e3 * step), share=round(share, 5))


SECTIONS = {"processes": processes, "memory": memory, "packing": packing, "stream": stream, "wait": wait}
