"""Twenty steps on a base model in 4 bits, with an evaluation in the middle, against a bare loop that has none."""

import json
from pathlib import Path

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


def test_plain_peft_reads_the_adapter_without_a_difference(config, chat_file):
    from peft import PeftModel
    from tests.helpers import make_run
    from tests.models.tiny import logits

    from newt.models.load import load_model
    from newt.models.tokenizer import load_tokenizer

    config |= {"adapter": "qlora", "load_in_4bit": True, "lora_r": 4, "lora_alpha": 16, "lora_target_linear": True}
    newt.train({**config, "max_steps": 3})
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
    )
    base = AutoModelForCausalLM.from_pretrained(
        config["base_model"], quantization_config=quantization, dtype=torch.float32
    )
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # its arithmetic in evaluation, on some CPUs, rounds more
            module.support_avx512bf16_for_cpu = False
    before = logits(base)
    plain = logits(PeftModel.from_pretrained(base, config["output_dir"]))
    run = make_run(**{**config, "lora_model_dir": config["output_dir"]})
    ours = logits(load_model(run.load_plan(), load_tokenizer(run.cfg)).model)
    assert torch.equal(plain, ours)
    assert (plain - before).abs().max() > 1e-3


def test_it_lowers_the_loss_on_real_text_also_after_evaluations(config, tmp_path):
    """The licence's text; on some CPUs weights were repacked in evaluation, and gave no gradient after."""
    text = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
    texts = [text[begin : begin + 200] for begin in range(0, 10_000, 200)]
    for name, part in (("train", texts[:42]), ("held_out", texts[42:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in part))
    newt.train(
        config
        | {
            "adapter": "qlora",
            "load_in_4bit": True,
            "lora_r": 16,
            "lora_alpha": 32,
            "lora_target_linear": True,
            "datasets": [{"path": str(tmp_path / "train.jsonl"), "type": "completion"}],
            "test_datasets": [{"path": str(tmp_path / "held_out.jsonl"), "type": "completion", "split": "train"}],
            "gradient_accumulation_steps": 1,
            "max_steps": 24,
            "eval_steps": 6,
        }
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    held_out = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert len(held_out) >= 4
    assert held_out[1] < held_out[0] - 0.05
    assert held_out[-1] < held_out[1] - 0.01
