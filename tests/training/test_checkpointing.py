"""What crosses the border of checkpointed layers, and what is kept inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from newt.losses.causal import causal_loss
from newt.training.checkpointing import enable_selective, mutable_containers

TINY = {
    "vocab_size": 96, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "num_experts": 4, "num_local_experts": 4, "moe_intermediate_size": 8, "num_experts_per_tok": 2,
}  # fmt: skip
KINDS = (
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "phi3", "gpt_neox",
    "granite", "olmo", "cohere",
)  # fmt: skip


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **TINY)).train()


def gradients(model: Any) -> dict[str, torch.Tensor]:
    ids = torch.arange(3, 35).reshape(2, 16)
    model.zero_grad()
    causal_loss(model, {"input_ids": ids, "labels": ids}, 30).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_mutable_crosses_the_border_of_a_layer(kind: str) -> None:
    model, ids = model_of(kind), torch.arange(3, 19)[None]
    assert mutable_containers(model, lambda: model(input_ids=ids, use_cache=False)) == []


def test_a_cache_or_a_list_that_crosses_it_is_found() -> None:
    model, ids = model_of("llama"), torch.arange(3, 19)[None]
    found = mutable_containers(model, lambda: model(input_ids=ids, use_cache=True))
    assert found[0] == "model.layers.0: past_key_values (DynamicCache)"
    layer, hidden = model.model.layers[0], torch.zeros(1, 4, 16)
    positions = model.model.rotary_emb(hidden, torch.arange(4)[None])
    kept = {"position_embeddings": positions, "shared": {"keys": hidden}, "names": ["a"], "pair": (1, [hidden])}
    assert mutable_containers(model, lambda: layer(hidden, **kept)) == [
        "model.layers.0: pair (list)",
        "model.layers.0: shared (dict)",
    ]


@pytest.mark.parametrize("saved", [("attention",), ("mm",), ("attention", "linear")])
def test_selective_checkpointing_keeps_the_gradients(saved: tuple[str, ...]) -> None:
    model = model_of("llama")
    expected = gradients(model)
    enable_selective(model, saved)
    found = gradients(model)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


@pytest.mark.parametrize(("saved", "calls"), [(None, 4), (("attention",), 2)])
def test_attention_is_not_computed_again_where_it_is_kept(saved: tuple[str, ...] | None, calls: int) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            if name.startswith("_scaled_dot_product") and "backward" not in name:
                seen.append(name)
            return func(*args, **(kwargs or {}))

    model = model_of("llama")
    causal_loss(model, {"input_ids": torch.ones(1, 4, dtype=torch.int64), "labels": torch.ones(1, 4).long()}, 1)
    if saved is None:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        enable_selective(model, saved)
    with Count():
        gradients(model)
    assert len(seen) == calls
