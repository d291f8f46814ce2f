"""Tiny random models of any causal architecture that transformers knows, for proofs and tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

LAYERS, HEADS, HEAD, WINDOW, EXPERTS = 4, 4, 16, 8, 4
WIDTH = HEADS * HEAD
LARGEST = 30_000_000

SMALL: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "word_embed_proj_dim", "embedding_size"), WIDTH),
    **dict.fromkeys(("lru_width", "attn_hidden_size", "hidden_size_per_layer_input", "width"), WIDTH),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "ffn_hidden_size", "n_inner", "d_ff"), 128),
    **dict.fromkeys(("mlp_intermediate_size", "dense_intermediate_size", "intermediate_size_mlp"), 128),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 64),
    **dict.fromkeys(("shared_intermediate_size", "moe_shared_expert_intermediate_size"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads", "num_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "n_kv_heads"), 2),
    **dict.fromkeys(("swa_num_attention_heads",), HEADS),
    **dict.fromkeys(("swa_num_key_value_heads",), 2),
    **dict.fromkeys(("head_dim", "global_head_dim", "attention_head_dim", "kv_channels", "d_kv"), HEAD),
    **dict.fromkeys(("v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "swa_head_dim", "swa_v_head_dim"), HEAD),
    **dict.fromkeys(("index_head_dim", "kda_head_dim"), HEAD),
    **dict.fromkeys(("index_n_heads",), 2),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 64),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "mamba_d_head", "mamba_head_dim"), HEAD),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), HEADS),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 2 * HEADS),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), HEAD),
    **dict.fromkeys(("mamba_d_ssm",), 2 * WIDTH),
    **dict.fromkeys(("mamba_n_groups", "n_groups"), 1),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), WINDOW),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 128),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length"), 256),
    **dict.fromkeys(("sliding_window", "window_size", "attention_chunk_size", "attention_window_size"), WINDOW),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"), EXPERTS),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "num_experts_per_token", "top_k_experts", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace", "decoder_sparse_step"), 1),
    **dict.fromkeys(("attention_dropout", "hidden_dropout", "dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    **dict.fromkeys(("num_kv_shared_layers",), 0),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
"""Config key -> value of a tiny model. A window is shorter than the samples of the tests, so that it matters; rows
of weights are whole blocks of 64 values, which bitsandbytes gives back rightly on a CPU."""

NULLABLE = ("head_dim",)
"""Keys that are made small even where their default is null."""

_MLA = {"num_key_value_heads": HEADS}
_AXIAL = {"axial_pos_shape": (16, 16), "axial_pos_embds_dim": (16, 48)}

FURTHER: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "bailing_hybrid", "deepseek_v3", "deepseek_v32", "glm4_moe_lite"), _MLA),
    **dict.fromkeys(("glm_moe_dsa", "kimi_linear", "longcat_flash", "minicpm3", "youtu"), _MLA),
    "bamba": {"attn_layer_indices": [1, 3]},
    "codegen": {"rotary_dim": 8},
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in ("full_attention", "sliding_attention")
        }
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"hidden_size": WIDTH, "ffn_hidden_size": 128, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {**_MLA, "num_experts_per_tok": 2, "n_routed_experts": EXPERTS, "topk_method": "greedy"},
    "dots1": {"n_routed_experts": EXPERTS, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 1},
    **dict.fromkeys(("dots3_note_text",), _MLA),
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gptj": {"rotary_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": HEAD},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "nemotron": {"head_dim": HEAD, "num_key_value_heads": 2},
    "qwen4_exp_text": {"num_key_value_heads": 2, "num_attention_heads": HEADS},
    "zamba2": {"layer_types": ["mamba", "hybrid", "mamba", "hybrid"], "n_mamba_heads": 8, "mamba_headdim": HEAD},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": _AXIAL,
    "zaya": {"num_experts_per_tok": 1},
}
"""Model type -> keys that it needs besides, because its sizes depend on each other."""


def model_types() -> list[str]:
    """Every causal architecture of the installed transformers, sorted."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(kind: str, **keys: Any) -> Any:
    """The config of a tiny model: its own keys made small, and those of its parts (text, vision ...)."""
    values = AutoConfig.for_model(kind).to_dict()
    settings = _small(values)
    for part, held in values.items():
        if isinstance(held, dict) and held.get("model_type"):
            own = FURTHER.get(held["model_type"], {})
            settings[part] = {"model_type": held["model_type"], **_small(held), **own}
    return AutoConfig.for_model(kind, **{**settings, **FURTHER.get(kind, {}), **keys})


def _small(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in SMALL.items() if key in values}
    found = {key: value for key, value in found.items() if values[key] is not None or key in NULLABLE}
    if values.get("layer_types"):  # every kind of layer
        kinds = list(dict.fromkeys(values["layer_types"]))
        found["layer_types"] = [kinds[number % len(kinds)] for number in range(LAYERS)]
    return found


def tiny_model(kind: str, attention: str | None = None, **keys: Any) -> Any:
    """A tiny model with weights larger than at the start of training, so that attention has something to say.

    Raises:
        ValueError: it is not tiny.
    """
    config = tiny_config(kind, **keys)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in _build(config, attention).parameters())
    if size > LARGEST:
        raise ValueError(f"the smallest {kind} has {size:,} parameters")
    torch.manual_seed(0)
    model = _build(config, attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return model


def _build(config: Any, attention: str | None) -> Any:
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)
