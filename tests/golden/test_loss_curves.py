"""Twenty steps of each method, against a bare loop in plain torch that shares no code with Newt's training room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, set_seed

import newt

STEPS, RATE = 20, 1e-2


@pytest.fixture
def config(model_dir: Path, chat_file: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "base_model": str(model_dir),
        "datasets": [{"path": str(chat_file), "type": "chat_template"}],
        "sequence_len": 128,
        # One batch holds every row, so the curve does not depend on their order.
        "micro_batch_size": 16,
        "gradient_accumulation_steps": 4,
        "max_steps": STEPS,
        "learning_rate": RATE,
        "lr_scheduler": "constant",
        "warmup_steps": 0,
        "optimizer": "adamw_torch",
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "float32": True,
        "save_strategy": "no",
        "report_samples": 0,
        "dataset_num_proc": 1,
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "output_dir": str(tmp_path / "run"),
    }


def bare_loop(model: torch.nn.Module, rows: list[dict[str, list[int]]]) -> list[float]:
    """Losses of full-batch AdamW, written as in a textbook."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for number, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[number, :length] = torch.tensor(row["input_ids"])
        labels[number, :length] = torch.tensor(row["labels"])
        mask[number, :length] = 1
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    losses = []
    model.train()
    for _ in range(STEPS):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def curve(config: dict[str, Any]) -> list[float]:
    lines = (Path(config["output_dir"]) / "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


def rows_of(config: dict[str, Any], chat_file: Path) -> list[dict[str, list[int]]]:
    return newt.tokenize(config, [json.loads(line) for line in chat_file.read_text().splitlines()])


@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
def test_full_fine_tuning(config, chat_file, packing):
    if packing:
        # 64 rows fit into far fewer sequences; one micro-batch then holds them all.
        config |= {"sample_packing": True, "micro_batch_size": 64, "gradient_accumulation_steps": 1}
    newt.train(config)
    expected = bare_loop(AutoModelForCausalLM.from_pretrained(config["base_model"]), rows_of(config, chat_file))
    assert expected[-1] < expected[0] - 1
    assert curve(config) == pytest.approx(expected, rel=2e-4)


def test_lora(config, chat_file):
    from peft import LoraConfig, get_peft_model

    modules = ["q_proj", "v_proj", "down_proj"]
    config |= {"adapter": "lora", "lora_r": 4, "lora_alpha": 16, "lora_target_modules": modules}
    newt.train(config)
    base = AutoModelForCausalLM.from_pretrained(config["base_model"])
    set_seed(42)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=16, target_modules=modules, task_type="CAUSAL_LM"))
    expected = bare_loop(model, rows_of(config, chat_file))
    assert expected[-1] < expected[0]
    assert curve(config) == pytest.approx(expected, rel=2e-4)
