"""Settings of an adapter that a model cannot follow: one line that says what can."""

import re

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from newt.models.adapter_checks import is_or_ends_with, no_match
from newt.models.adapters import attach_lora
from newt.support.errors import NewtError

SHAPE = {
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "head_dim": 16, "moe_intermediate_size": 32, "num_experts_per_tok": 2,
    "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None,
}  # fmt: skip
KINDS = {
    "deepseek_v3": {
        "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16,
        "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    },
    "glm4_moe": {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    "qwen3_next": {
        "num_experts": 4, "shared_expert_intermediate_size": 32, "linear_num_value_heads": 4,
        "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
}  # fmt: skip
DORA = {"r": 4, "lora_alpha": 8, "use_dora": True}


def model(kind):
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SHAPE, **KINDS[kind]}))


@pytest.mark.parametrize("kind", KINDS)
def test_dora_with_all_linear_layers_names_those_that_it_can_adapt(kind):
    with pytest.raises(
        NewtError, match=r"^peft_use_dora: DoRA cannot adapt experts.* lora_target_linear targets"
    ) as error:
        attach_lora(model(kind), None, linear=True, options=dict(DORA))
    text = str(error.value)
    assert "(down_proj, gate_proj, up_proj). Remove peft_use_dora, or adapt other layers alone" in text
    names = re.search(r"lora_target_modules: \[(.+)\]$", text)[1].split(", ")
    attach_lora(model(kind), names, linear=False, options=dict(DORA))


def test_dora_with_names_of_experts():
    message = r"lora_target_modules targets them \(down_proj, gate_proj, up_proj\)\. Remove peft_use_dora$"
    with pytest.raises(NewtError, match=message):
        attach_lora(model("glm4_moe"), ["gate_proj", "up_proj", "down_proj"], linear=False, options=dict(DORA))


def test_names_in_lists_mean_whole_parts():
    assert is_or_ends_with("layers.0.q_proj", "q_proj")
    assert not is_or_ends_with("layers.0.qq_proj", "q_proj")
    assert no_match("q_prj", ["a.q_proj", "a.0"]) == "'q_prj' matches no module of this model. The model has: q_proj."
