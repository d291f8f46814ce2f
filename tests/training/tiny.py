"""Helpers of the training tests; also run as a program by the tests that kill a run.

python tiny.py MODEL_DIR OUTPUT_DIR '{"lora": true, ...}'
"""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from newt.config.core import SECTIONS, Model
from newt.config.section import Config
from newt.data.pack import best_fit_decreasing
from newt.extend import DataPlan, TrainPlan
from newt.losses.causal import causal_loss
from newt.training.build import build_trainer
from newt.training.fit import Outcome, fit

CAPACITY = 48


class Rows:
    """Random token rows; the first third of each is not trained."""

    def __init__(self, count: int, seed: int = 0, longest: int = 30) -> None:
        rng = np.random.default_rng(seed)
        self.lengths = rng.integers(5, longest, count).astype(np.int32)
        self.ids = [rng.integers(3, 600, length).astype(np.int32) for length in self.lengths]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        ids = self.ids[index]
        labels = ids.copy()
        labels[: len(ids) // 3] = -100
        return {"input_ids": ids, "labels": labels}


@dataclass
class Data:
    train: Any
    eval: Any = None
    fingerprint: str = "data"


def config(output_dir: Path, **settings: Any) -> Config:
    settings = {
        "base_model": "tiny",
        "output_dir": str(output_dir),
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "sequence_len": CAPACITY,
        **settings,
    }
    sections = {}
    for section in SECTIONS:
        sections[section] = section(**{key: settings.pop(key) for key in list(settings) if key in section.model_fields})
    assert not settings, settings
    assert Model in sections
    return Config(sections)


def plans(cfg: Config, *, packed: bool = True, **args: Any) -> tuple[TrainPlan, DataPlan]:
    plan, data_plan = TrainPlan(cfg), DataPlan(cfg, ())
    plan.loss.fill(causal_loss, by="test")
    plan.args.fill(by="test", **{"learning_rate": 1e-2, "optim": "adamw_torch", **args})
    if packed:
        for slot in (data_plan.pack, data_plan.pack_eval):
            slot.fill(lambda lengths, seed: best_fit_decreasing(lengths, CAPACITY, seed), by="test")
    return plan, data_plan


def load(model_dir: Path, *, lora: bool = False, dropout: float = 0.1, seed: int = 1) -> Any:
    set_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(model_dir, attention_dropout=0.0 if lora else dropout)
    if lora:
        from peft import LoraConfig, get_peft_model

        target = ["q_proj", "v_proj", "down_proj"]
        model = get_peft_model(
            model, LoraConfig(r=4, lora_dropout=dropout, target_modules=target, task_type="CAUSAL_LM")
        )
    return types.SimpleNamespace(model=model, tokenizer=AutoTokenizer.from_pretrained(model_dir))


def make(
    model_dir: Path,
    output_dir: Path,
    *,
    data: Data | None = None,
    lora: bool = False,
    packed: bool = True,
    dropout: float = 0.1,
    callbacks: Any = (),
    evaluations: Any = (),
    args: Any = None,
    **settings: Any,
) -> tuple[Any, Config]:
    """A trainer and its config."""
    cfg = config(output_dir, **settings)
    plan, data_plan = plans(cfg, packed=packed, **(args or {}))
    plan.callbacks.extend(callbacks)
    plan.evaluations.extend(evaluations)
    data = data or Data(Rows(40))
    return build_trainer(plan, data_plan, load(model_dir, lora=lora, dropout=dropout), data), cfg


def run(model_dir: Path, output_dir: Path, **options: Any) -> tuple[Outcome, Any]:
    trainer, cfg = make(model_dir, output_dir, **options)
    return fit(trainer, cfg), trainer


def trained(trainer: Any) -> dict[str, torch.Tensor]:
    """Trained weights by name."""
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Equal bit for bit."""
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


if __name__ == "__main__":
    torch.set_num_threads(1)
    options = json.loads(sys.argv[3])
    outcome, trainer = run(Path(sys.argv[1]), Path(sys.argv[2]), **options)
    if outcome.stopped_by:
        sys.exit({"SIGINT": 130, "SIGTERM": 143}[outcome.stopped_by])
    torch.save(trained(trainer), Path(sys.argv[2]) / "final.pt")
