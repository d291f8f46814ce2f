"""Twenty steps on a base model in 4 bits, with an evaluation in the middle, against a bare loop that has none."""

import json

import pytest
import torch
from tests.golden.test_loss_curves import bare_loop, config, curve, rows_of
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, set_seed

import newt

pytest.importorskip("bitsandbytes")

__all__ = ["config"]  # the fixture


def test_qlora_with_an_evaluation_in_the_middle(config, chat_file, tmp_path):
    from peft import LoraConfig, get_peft_model

    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(chat_file.read_text().splitlines()[:4]) + "\n")
    modules = ["q_proj", "v_proj", "down_proj"]
    config |= {
        "adapter": "qlora",
        "load_in_4bit": True,
        "lora_r": 4,
        "lora_alpha": 16,
        "lora_target_modules": modules,
        "test_datasets": [{"path": str(few), "type": "chat_template", "split": "train"}],
        "eval_steps": 7,
    }
    newt.train(config)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
    )
    base = AutoModelForCausalLM.from_pretrained(
        config["base_model"], quantization_config=quantization, dtype=torch.float32
    )
    set_seed(42)
    lora = LoraConfig(r=4, lora_alpha=16, target_modules=modules, task_type="CAUSAL_LM")
    expected = bare_loop(get_peft_model(base, lora), rows_of(config, chat_file))
    assert expected[-1] < expected[0] - 0.1
    assert curve(config) == pytest.approx(expected, rel=2e-4)
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert sum("eval_loss" in line for line in lines) >= 3
