"""What a saved adapter does to each weight."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import make_config
from tests.models.tiny import LORA, load, stir
from transformers import AutoConfig, AutoModelForCausalLM, MixtralConfig

from newt.models.adapter_files import adapter_config
from newt.models.adapter_updates import read_updates
from newt.models.checkpoint_names import CheckpointNames
from newt.models.save import save_final
from newt.support.errors import NewtError


def saved(base, folder, **keys):
    """An adapter with random weights in a folder; its settings and the names of its base."""
    found = load(base, **{**LORA, **keys})
    stir(found.model)
    save_final(found.model, found.tokenizer, folder, make_config(base_model=str(base), **{**LORA, **keys}))
    return adapter_config(folder), names_of(base)


def names_of(base):
    return CheckpointNames(AutoConfig.from_pretrained(base), load_file(base / "model.safetensors"))


def test_single_rows_are_told_from_whole_embeddings(model_dir, tmp_path):
    settings, names = saved(model_dir, tmp_path, peft_trainable_token_indices={"embed_tokens": [5, 17], "lm_head": [3]})
    updates = read_updates(tmp_path, settings, names)
    embedding, head = updates["model.embed_tokens.weight"], updates["lm_head.weight"]
    assert (embedding.row_numbers, head.row_numbers) == ((5, 17), (3,))
    assert (embedding.rows.shape, embedding.whole, embedding.a) == ((2, 64), None, None)
    settings["trainable_token_indices"] = {"embed_tokens": [5]}
    with pytest.raises(NewtError, match="does not say which rows of lm_head it trained"):
        read_updates(tmp_path, settings, names)
    settings["trainable_token_indices"] = [5]
    with pytest.raises(NewtError, match=r"has 2 rows for model\.embed_tokens\.weight, its config 1"):
        read_updates(tmp_path, settings, names)


@pytest.fixture(scope="module")
def mixtral(model_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtral")
    torch.manual_seed(0)
    config = MixtralConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=608, num_local_experts=3, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for path in model_dir.glob("*token*"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "chat_template.jinja").write_bytes((model_dir / "chat_template.jinja").read_bytes())
    return folder


EXPERTS = {"lora_target_linear": None, "lora_target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}


def test_each_wrapped_parameter_is_found_whatever_its_adapter_is_called(mixtral, tmp_path):
    settings, names = saved(mixtral, tmp_path, **EXPERTS)
    updates = read_updates(tmp_path, settings, names)
    experts = "model.layers.0.mlp.experts"
    assert set(updates) == {f"{experts}.gate_up_proj", f"{experts}.down_proj"}
    assert updates[f"{experts}.gate_up_proj"].a.shape == (3 * 4, 32)
    assert updates[f"{experts}.down_proj"].a.shape == (3 * 4, 48)
    assert updates[f"{experts}.down_proj"].b.shape == (32, 4 * 3)


def test_half_an_adapter_of_experts_is_refused(mixtral, tmp_path):
    settings, names = saved(mixtral, tmp_path, **EXPERTS)
    path = tmp_path / "adapter_model.safetensors"
    weights = load_file(path)
    weights.pop(min(key for key in weights if "lora_B" in key))
    save_file(weights, path)
    with pytest.raises(NewtError, match=r"one of the two matrices of .*experts\.\w+ is missing"):
        read_updates(tmp_path, settings, names)


def test_experts_that_the_base_has_not_are_refused(mixtral, model_dir, tmp_path):
    settings, _ = saved(mixtral, tmp_path, **EXPERTS)
    with pytest.raises(NewtError, match="does not fit the base"):
        read_updates(tmp_path, settings, names_of(model_dir))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_parameters"]
