"""Fully sharded data parallelism."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"fsdp_config": {"offload_params": False}}, "FSDP 1 is on its way out"),
        ({"fsdp": ["full_shard"], "fsdp_version": 2}, "fsdp: is an older switch"),
        ({"fsdp_version": 2}, "has no effect: fsdp_config is not set"),
        ({"fsdp_version": 2, "fsdp_config": {"version": 1}}, "fsdp_version: is 2, and fsdp_config.version is 1"),
        (
            {
                "fsdp_final_state_dict_type": "FULL_STATE_DICT",
                "fsdp_version": 2,
                "fsdp_config": {"offload_params": False},
            },
            "is an older place",
        ),
        (
            {
                "fsdp_final_state_dict_type": "FULL_STATE_DICT",
                "fsdp_version": 2,
                "fsdp_config": {"final_state_dict_type": "SHARDED_STATE_DICT"},
            },
            "fsdp_config.final_state_dict_type is SHARDED_STATE_DICT",
        ),
        (
            {"fsdp_version": 1, "fsdp_config": {"cpu_offload_pin_memory": False, "offload_params": True}},
            "false needs FSDP 2",
        ),
        ({"fsdp_version": 2, "fsdp_config": {"cpu_offload_pin_memory": False}}, "false needs offload_params"),
        (
            {"fsdp_version": 2, "fsdp_config": {"auto_wrap_policy": "SIZE_BASED_WRAP"}},
            "SIZE_BASED_WRAP needs min_num_params",
        ),
        (
            {"fsdp_version": 2, "fsdp_config": {"activation_checkpointing": True}, "gradient_checkpointing": True},
            "activation_checkpointing: cannot be used with gradient_checkpointing",
        ),
        ({"fsdp_version": 2, "fsdp_config": {"use_orig_params": True}}, "use_orig_params: has no effect with FSDP 2"),
        (
            {"fsdp_version": 2, "fsdp_config": {"sharding_strategy": "FULL_SHARD"}},
            "FULL_SHARD is reshard_after_forward: true",
        ),
        (
            {"fsdp_version": 2, "fsdp_config": {"offload_params": False}, "optimizer": "adamw_bnb_8bit"},
            "adamw_bnb_8bit cannot be used with FSDP 2. Use adamw_torch_8bit.",
        ),
        (
            {"fsdp_version": 1, "fsdp_config": {"offload_params": True}, "optimizer": "adamw_bnb_8bit"},
            "cannot be used with offload_params of FSDP 1",
        ),
        ({"fsdp_version": 1, "fsdp_config": {"offload_params": False}, "optimizer": "muon"}, "muon needs FSDP 2"),
        (
            {"fsdp_version": 2, "fsdp_config": {"offload_params": False}, "optimizer": "q_galore_adamw8bit"},
            "Set fsdp_config.use_orig_params: true.",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (
            Facts(model={"model_type": "gemma4"}),
            {
                "fsdp_config": {"offload_params": False},
                "adapter": "qlora",
                "load_in_4bit": True,
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
            "FSDP 1 cannot be used with qlora on Gemma 4",
        ),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (
            Facts(model={"model_type": "gemma4"}),
            {
                "fsdp_version": 2,
                "fsdp_config": {"offload_params": False},
                "adapter": "qlora",
                "load_in_4bit": True,
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
        ),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {
            "fsdp_version": 2,
            "fsdp_config": {
                "offload_params": True,
                "cpu_offload_pin_memory": False,
                "cpu_ram_efficient_loading": True,
                "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "transformer_layer_cls_to_wrap": "LlamaDecoderLayer",
                "state_dict_type": "FULL_STATE_DICT",
                "reshard_after_forward": True,
            },
        },
        {"fsdp_config": {"version": "2", "auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": 1000}},
        {"fsdp_version": "2", "fsdp_config": {"activation_checkpointing": True}},
        {"fsdp_version": 2, "fsdp_config": {"offload_params": False}, "optimizer": "adamw_torch_8bit"},
        {"fsdp_version": 2, "fsdp_config": {"offload_params": False}, "optimizer": "muon"},
        {"fsdp_version": 2, "fsdp_config": {"use_orig_params": True}, "optimizer": "q_galore_adamw8bit"},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"fsdp_version": 2, "fsdp_config": {"offload_params": False}}, {"fsdp_version", "fsdp_config"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
