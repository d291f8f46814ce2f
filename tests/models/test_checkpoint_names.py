"""Files hold some parameters in parts: they are joined and split as transformers does it."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, MixtralConfig

from newt.models.checkpoint_names import CheckpointNames
from newt.support.errors import NewtError

GATE, DOWN = "model.layers.1.mlp.experts.gate_up_proj", "model.layers.1.mlp.experts.down_proj"


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory):
    """A Mixtral on disk, its tensors as they stand there, and the names of both."""
    folder = tmp_path_factory.mktemp("mixtral")
    torch.manual_seed(0)
    config = MixtralConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=64, num_local_experts=3,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    return folder, tensors, CheckpointNames(AutoConfig.from_pretrained(folder), tensors)


def test_every_parameter_is_what_transformers_loads(mixtral):
    folder, tensors, names = mixtral
    seen = set()
    for name, parameter in AutoModelForCausalLM.from_pretrained(folder).named_parameters():
        parts = names.tensors_of(name)
        seen |= set(parts)
        assert torch.equal(names.join(name, {part: tensors[part] for part in parts}), parameter), name
    assert seen == set(tensors)


def test_splitting_is_the_reverse(mixtral):
    _, tensors, names = mixtral
    for name in (GATE, DOWN, "model.layers.0.mlp.gate.weight"):
        parts = {part: tensors[part] for part in names.tensors_of(name)}
        again = names.split(name, names.join(name, parts))
        assert again.keys() == parts.keys()
        assert all(torch.equal(again[part], parts[part]) for part in parts)
    assert len(names.tensors_of(GATE)) == 6
    assert names.tensors_of(DOWN)[2] == "model.layers.1.block_sparse_moe.experts.2.w2.weight"
    assert names.tensors_of("model.none") == []


def test_experts_are_joined_in_the_order_of_their_numbers(mixtral):
    folder, tensors, _ = mixtral
    names = CheckpointNames(AutoConfig.from_pretrained(folder), reversed(tensors))
    joined = names.join(DOWN, {part: tensors[part] for part in names.tensors_of(DOWN)})
    for number in range(3):
        assert torch.equal(joined[number], tensors[f"model.layers.1.block_sparse_moe.experts.{number}.w2.weight"])


def test_what_transformers_would_write_otherwise_is_refused(mixtral):
    folder, tensors, _ = mixtral
    names = CheckpointNames(AutoConfig.from_pretrained(folder), [*tensors, GATE])
    with pytest.raises(NewtError, match="is stored in another form: use merge_method: legacy"):
        names.split(GATE, torch.zeros(3, 96, 32))
