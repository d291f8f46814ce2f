"""``newt train`` on a tiny model of each family: two steps with an adapter on packed rows, or a refusal."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file
from tiny_models import tiny_model
from transformers import AutoTokenizer

PACKED = (
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "gemma4_text",
    "phi3", "gpt2", "gpt_neox", "gpt_oss", "falcon", "deepseek_v3", "granite", "olmo", "olmo2", "cohere", "cohere2",
)  # fmt: skip
RECURRENT = ("jamba", "granitemoehybrid", "qwen3_next", "recurrent_gemma", "nemotron_h")
SHORT = {"max_steps": 2, "logging_steps": 1, "val_set_size": None, "report_samples": 1}


@pytest.fixture
def write_model(tokenizer_dir, tmp_path):
    """Writes a tiny model of an architecture with the tests' tokenizer."""

    def write(kind):
        rows = {"vocab_size": 608, **({"vocab_size_per_layer_input": 608} if kind == "gemma4_text" else {})}
        if kind == "granitemoehybrid":  # as published; without attention it has no cache to generate with
            rows["layer_types"] = ["mamba", "attention"] * 2
        model = tiny_model(kind, **rows, eos_token_id=2, pad_token_id=0, bos_token_id=None)
        model.save_pretrained(tmp_path / kind)
        AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(tmp_path / kind)
        return str(tmp_path / kind)

    return write


def train(newt, config, tmp_path):
    code, out, err = newt("train", config)
    assert code == 0, err or out
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("kind", PACKED)
def test_two_packed_steps_with_an_adapter(kind, newt, write_config, write_model, tmp_path):
    keys = {**SHORT, "base_model": write_model(kind)}
    losses = train(newt, write_config(**keys), tmp_path)
    assert len(losses) == 2
    weights = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert all(weights[name].any() for name in weights if "lora_B" in name), "every B left zero"
    assert (tmp_path / "run" / "chat_template.jinja").is_file()


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_state_is_refused_packed_and_trained_apart(kind, newt, write_config, write_model, tmp_path):
    keys = {**SHORT, "base_model": write_model(kind)}
    code, out, err = newt("train", write_config(**keys))
    assert code == 2
    assert f"packed samples do not stay apart in {kind} models: " in out + err
    assert not (tmp_path / "run" / "adapter_model.safetensors").exists()
    assert len(train(newt, write_config(**keys, sample_packing=False), tmp_path)) == 2
