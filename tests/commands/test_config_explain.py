"""Every value with its origin, and the derived numbers with their rules."""

from __future__ import annotations

import json


def read(newt, *arguments):
    code, out, err = newt("config-explain", *arguments, "--format", "json")
    assert code == 0, err
    return json.loads(out)


def test_origins(newt, write_config):
    config = write_config()
    lines = config.read_text().splitlines()
    shown = read(newt, config, "--lora-r", "8", "--all")["keys"]
    assert shown["lora_r"] == {"value": 8, "from": "--lora-r"}
    assert shown["lora_alpha"] == {"value": 8, "from": f"{config}:{lines.index('lora_alpha: 8') + 1}"}
    assert shown["seed"] == {"value": 42, "from": "default"}
    assert shown["datasets.0.type"]["value"] == "chat_template"
    assert shown["datasets.0.type"]["from"].startswith(f"{config}:")
    assert shown["max_grad_norm"] == {"value": None, "from": "default"}


def test_without_all_only_what_asks_for_something(newt, write_config):
    shown = read(newt, write_config())["keys"]
    assert "max_grad_norm" not in shown
    assert "seed" in shown


def test_derived_numbers(newt, write_config):
    config = write_config(gradient_accumulation_steps=3, float32=None, bf16="auto", warmup_ratio=0.3, max_steps=9)
    derived = read(newt, config, "--assume", "gpus=4,capability=8.0")["derived"]
    assert derived["processes"]["value"] == 4
    assert derived["global batch"]["value"] == 2 * 3 * 4
    assert derived["global batch"]["rule"].startswith("2 x 3 x 4")
    assert derived["tokens of a step"]["value"] == 24 * 128
    assert derived["evaluation batch"]["value"] == 2
    assert derived["precision"]["value"] == "bf16"
    assert derived["warm-up steps"]["value"] == 3
    assert derived["adapter scale"]["value"] == 2.0
    assert derived["model family"]["value"] == "llama"
    old = read(newt, config, "--assume", "gpus=1,capability=7.5")["derived"]
    assert old["precision"]["value"] == "fp16"


def test_batch_size_is_explained_by_its_rule(newt, write_config):
    config = write_config(gradient_accumulation_steps=None, batch_size=8)
    assert read(newt, config)["derived"]["gradient accumulation"] == {
        "value": 4,
        "rule": "batch_size / micro_batch_size",
    }


def test_only_some_keys(newt, write_config):
    config = write_config()
    assert list(read(newt, config, "--only", "lora-r", "--only", "SEED")["keys"]) == ["lora_r", "seed"]
    assert "datasets.0.path" in read(newt, config, "--only", "datasets")["keys"]
    code, out, err = newt("config-explain", config, "--only", "lora_rr")
    assert (code, out, err) == (2, "", "there is no key 'lora_rr'. Did you mean lora_r?\n")


def test_the_table_and_secrets(newt, write_config):
    config = write_config(comet_api_key="abc123")
    _, out, _ = newt("config-explain", config)
    assert "abc123" not in out
    assert "(hidden)" in out
    row = next(line for line in out.splitlines() if line.startswith("learning_rate"))
    assert row.split()[1] == "0.01"


def test_a_config_with_problems_is_shown_with_them(newt, write_config):
    code, out, err = newt("config-explain", write_config(seed="x"))
    assert code == 2
    assert "learning_rate" in out
    assert "seed: must be a whole number, got 'x'." in err


def test_a_file_that_cannot_be_read(newt, tmp_path):
    code, out, err = newt("config-explain", tmp_path / "no.yml")
    assert (code, out) == (2, "")
    assert "does not exist" in err
