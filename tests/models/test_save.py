"""What is written can be loaded again, and is whole or absent."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tests.helpers import make_config, make_run
from tests.models.tiny import LORA, load, logits, stir
from transformers import AutoModelForCausalLM, AutoTokenizer

from newt.models import save
from newt.models.generate import load_for_inference
from newt.models.save import save_final
from newt.models.tokenizer import load_tokenizer


def test_a_full_model_comes_back(model_dir, tmp_path):
    found = load(model_dir)
    stir(found.model)
    found.tokenizer.chat_template = "{{ 'mine' }}"
    (tmp_path / "checkpoint-1").mkdir()
    save_final(found.model, found.tokenizer, tmp_path, make_config(base_model=str(model_dir)))
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(found.model))
    assert again.config.use_cache is True
    assert found.model.config.use_cache is False
    assert again.generation_config.eos_token_id == 2
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == "{{ 'mine' }}"
    assert (tmp_path / "checkpoint-1").is_dir()
    assert not list(tmp_path.glob(".*"))


def test_an_adapter_comes_back_with_its_tokenizer(model_dir, tmp_path):
    keys = {**LORA, "special_tokens": {"pad_token": "<pad>"}}
    found = load(model_dir, **keys)
    stir(found.model)
    save_final(found.model, found.tokenizer, tmp_path, make_config(base_model=str(model_dir), **keys))
    assert {path.name for path in tmp_path.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
    }
    assert not (tmp_path / "config.json").exists()
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == str(model_dir)
    run = make_run(base_model=str(model_dir), **keys)
    again = load_for_inference(run.load_plan(), load_tokenizer(run.cfg), tmp_path)
    assert torch.equal(logits(again), logits(found.model))


def test_rows_that_were_added_are_saved_with_the_adapter(model_dir, tmp_path):
    """The fresh rows are random: without them the adapter would meet another embedding when it is loaded again."""
    keys = {**LORA, "special_tokens": {"pad_token": "<pad>"}, "shrink_embeddings": True}
    found = load(model_dir, **keys)
    save_final(found.model, found.tokenizer, tmp_path, make_config(base_model=str(model_dir), **keys))
    saved = load_file(tmp_path / "adapter_model.safetensors")
    name = next(name for name in saved if name.endswith("embed_tokens.weight"))
    assert saved[name].shape[0] == 601
    assert torch.equal(saved[name], found.model.get_input_embeddings().weight)
    run = make_run(base_model=str(model_dir), **keys, seed=99)
    again = load_for_inference(run.load_plan(), load_tokenizer(run.cfg), tmp_path)
    assert torch.equal(logits(again), logits(found.model))


def test_a_smaller_model_leaves_no_shards_of_a_larger_one(model_dir, tmp_path):
    (tmp_path / "model-00001-of-00002.safetensors").write_text("old")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    found = load(model_dir)
    save_final(found.model, found.tokenizer, tmp_path, make_config(base_model=str(model_dir)))
    assert [path.name for path in tmp_path.glob("model*")] == ["model.safetensors"]
    AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_failed_save_leaves_the_old_model(model_dir, tmp_path, monkeypatch):
    found = load(model_dir)
    cfg = make_config(base_model=str(model_dir))
    save_final(found.model, found.tokenizer, tmp_path, cfg)
    before = logits(AutoModelForCausalLM.from_pretrained(tmp_path))
    stir(found.model)

    def full_disk(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(type(found.tokenizer), "save_pretrained", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_final(found.model, found.tokenizer, tmp_path, cfg)
    monkeypatch.undo()
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), before)
    assert not list(tmp_path.glob(".*"))


def test_the_config_appears_last(tmp_path):
    source, folder = tmp_path / "new", tmp_path / "out"
    source.mkdir()
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (source / name).write_text("new")
    (folder / "config.json").write_text("old")
    order = []
    replace = save.os.replace

    def watched(old, new):
        order.append(new.name)
        replace(old, new)

    save.os.replace = watched
    try:
        save._move(source, folder)
    finally:
        save.os.replace = replace
    assert order == ["model.safetensors", "tokenizer.json", "config.json"]


def test_a_hybrid_keeps_its_names_when_it_is_saved(tmp_path):
    """Nemotron-H stores ``backbone.`` for ``model.``; its embedding must not be renamed on the way."""
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, NemotronHConfig

    config = NemotronHConfig(
        vocab_size=64, hidden_size=32, layers_block_type=["mamba", "attention", "moe"], num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=32, ssm_state_size=8, mamba_num_heads=4,
        mamba_head_dim=16, n_groups=1, chunk_size=8, n_routed_experts=4, moe_intermediate_size=16,
        moe_shared_expert_intermediate_size=16,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path / "one")
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path / "one", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    again.save_pretrained(tmp_path / "two")  # a model that was loaded remembers how its names were changed
    names = []
    for folder in ("one", "two"):
        with safe_open(tmp_path / folder / "model.safetensors", framework="pt") as file:
            names.append(sorted(file.keys()))
    assert names[0] == names[1]
    assert "backbone.embeddings.weight" in names[0]
