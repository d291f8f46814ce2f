"""What the training loop costs: our step over the same work in a bare loop.

python benchmarks/step_overhead.py [MODEL_DIR] [--lora] [--steps 8] [--rounds 3] [--tokens 256] [--threads 1]

A: forward, loss, backward, clipping, optimizer and schedule, in ten lines of torch. B: the same batches through our
trainer. The two take turns (A-B-A-B); the numbers are medians of single steps. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, get_scheduler

from newt.config.core import SECTIONS
from newt.config.section import Config
from newt.data.pack import best_fit_decreasing
from newt.extend import DataPlan, TrainPlan
from newt.losses.causal import causal_loss, trained_tokens
from newt.training.batches import TOKENS
from newt.training.build import build_trainer

LEARNING_RATE = 1e-5


class Rows:
    """Random rows, half of each trained."""

    def __init__(self, count: int, tokens: int, vocabulary: int) -> None:
        rng = np.random.default_rng(0)
        self.lengths = rng.integers(tokens // 8, tokens // 2, count).astype(np.int32)
        self.ids = [rng.integers(10, vocabulary, length).astype(np.int32) for length in self.lengths]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        ids = self.ids[index]
        labels = ids.copy()
        labels[: len(ids) // 2] = -100
        return {"input_ids": ids, "labels": labels}


class Clock(TrainerCallback):
    """Time of each step, from the end of the one before."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the time."""
        finish()
        self.times.append(time.perf_counter())


def finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def make_model(options: argparse.Namespace) -> Any:
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    if options.lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def make_trainer(options: argparse.Namespace, output_dir: str, clock: Clock) -> Any:
    settings = {
        "base_model": options.model,
        "output_dir": output_dir,
        "micro_batch_size": options.micro,
        "gradient_accumulation_steps": options.accumulation,
        "sequence_len": options.tokens,
        "max_steps": options.steps,
        "save_strategy": "no",
    }
    cfg = Config({s: s(**{k: v for k, v in settings.items() if k in s.model_fields}) for s in SECTIONS})
    plan, data_plan = TrainPlan(cfg), DataPlan(cfg, ())
    plan.loss.fill(causal_loss, by="benchmark")
    plan.args.fill(by="benchmark", learning_rate=LEARNING_RATE, optim="adamw_torch_fused", bf16=options.bf16)
    plan.callbacks.append(lambda: clock)
    data_plan.pack.fill(lambda lengths, seed: best_fit_decreasing(lengths, options.tokens, seed), by="benchmark")
    model = make_model(options)
    rows = Rows(options.steps * options.micro * options.accumulation * 4, options.tokens, model.config.vocab_size)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    loaded = SimpleNamespace(model=model, tokenizer=tokenizer)
    return build_trainer(plan, data_plan, loaded, SimpleNamespace(train=rows, eval=None))


def bare_times(options: argparse.Namespace, output_dir: str) -> list[float]:
    """Seconds of each step of the bare loop."""
    trainer = make_trainer(options, output_dir, Clock())
    batches = iter(list(trainer.get_train_dataloader()))
    model = trainer.model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], LEARNING_RATE, fused=True)
    schedule = get_scheduler("linear", optimizer, 0, options.steps)
    device = next(model.parameters()).device
    times = []
    for _ in range(options.steps):
        finish()
        begin = time.perf_counter()
        micro = [next(batches) for _ in range(options.accumulation)]
        count = sum(trained_tokens(batch) for batch in micro)
        for batch in micro:
            inputs = {key: value.to(device) for key, value in batch.items() if key != TOKENS}
            with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
                loss = causal_loss(model, inputs, count.to(device))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        finish()
        times.append(time.perf_counter() - begin)
    return times


def our_times(options: argparse.Namespace, output_dir: str) -> list[float]:
    """Seconds of each step of the trainer, but the first."""
    clock = Clock()
    make_trainer(options, output_dir, clock).train()
    return [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="quickstart/model")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--micro", type=int, default=1)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if not Path(options.model).is_dir():
        print(json.dumps({"skipped": f"there is no model in {options.model}; make quickstart puts one there"}))
        return
    torch.set_num_threads(options.threads)
    bare: list[float] = []
    ours: list[float] = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            # Both without their first step, which pays for memory and optimizer state.
            bare += bare_times(options, folder)[1:]
            ours += our_times(options, folder)
    result = {
        "model": Path(options.model).name,
        "lora": options.lora,
        "tokens_per_step": options.tokens * options.micro * options.accumulation,
        "steps": len(ours),
        "bare_seconds": round(median(bare), 5),
        "our_seconds": round(median(ours), 5),
        "overhead_percent": round(100 * (median(ours) / median(bare) - 1), 2),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
