"""What crosses the border of checkpointed layers, and what is kept inside."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from tiny_models import tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, cache_utils

from newt.losses.causal import causal_loss
from newt.registry import FAMILIES
from newt.support.errors import NewtError
from newt.training import checkpointing
from newt.training.checkpointing import enable_selective, guard, layer_kinds, mutable_containers

TINY = {
    "vocab_size": 96, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "num_experts": 4, "num_local_experts": 4, "moe_intermediate_size": 8, "num_experts_per_tok": 2,
}  # fmt: skip
KINDS = sorted(kind for family in FAMILIES for kind in family.model_types)
SHARING = {"gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text", "gemma3n_text", "deepseek_v4"}
"""Kinds whose layers get a mapping that holds tensors."""


IDS = torch.arange(3, 35).reshape(2, 16)


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
    model = tiny_model(kind).train()
    zeros = next(family.zeros for family in FAMILIES if kind in family.model_types)
    batch = {"input_ids": IDS, **{name: torch.zeros_like(IDS) for name in zeros}}
    found = mutable_containers(model, lambda: model(**batch, use_cache=False))
    assert bool(found) == (kind in SHARING), found
    # With the guard every kind trains with checkpointing, and layers get copies of what they share.
    model.gradient_checkpointing_enable({"use_reentrant": False})
    guard(model)
    model(**batch, use_cache=False).logits.float().mean().backward()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", ["gemma4_text", "gemma3n_text"])
def test_shared_keys_and_values_cross_it_as_tensors(kind: str, reentrant: bool) -> None:
    model = tiny_model(kind, num_kv_shared_layers=2).train()
    expected = gradients(model)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    guard(model)
    guard(model)  # once is enough, twice does no harm
    for _ in range(2):
        found = gradients(model)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(value, found[name]), name


def test_without_the_guard_the_reentrant_form_loses_their_gradients() -> None:
    model = tiny_model("gemma4_text", num_kv_shared_layers=2).train()
    expected = gradients(model)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    found = gradients(model)
    assert any(not torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize("guarded", [False, True])
def test_what_layers_share_is_not_held_until_the_backward_pass(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Any]] = []
    if not hasattr(cache_utils, "KVSharingDict"):
        pytest.skip("this transformers shares keys and values in a plain dict")
    begin = cache_utils.KVSharingDict.__init__

    def counting(self: Any, *args: Any) -> None:
        begin(self, *args)
        made.append(weakref.ref(self))

    monkeypatch.setattr(cache_utils.KVSharingDict, "__init__", counting)
    model = tiny_model("gemma4_text", num_kv_shared_layers=2).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    if guarded:
        guard(model)
    gc.disable()
    try:
        loss = model(input_ids=IDS, use_cache=False).logits.float().mean()
        alive = [ref for ref in made if ref() is not None]
        assert bool(alive) != guarded
        loss.backward()
        del loss
        assert not [ref for ref in made if ref() is not None] or not guarded
    finally:
        gc.enable()


def test_a_real_run_is_stopped_by_what_cannot_be_passed_as_tensors() -> None:
    model = model_of("llama")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    guard(model)
    layer, hidden = model.model.layers[1], torch.zeros(1, 4, 16, requires_grad=True)
    positions = model.model.rotary_emb(hidden, torch.arange(4)[None])
    with pytest.raises(NewtError, match=r"model\.layers\.1 is given a list \(states\) that it could change"):
        layer(hidden, position_embeddings=positions, states=[hidden])
    layer(hidden, position_embeddings=positions, names=["a"], states=(hidden,), held={"a": (hidden, None, 3)})


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


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "gemma4_text"])
@pytest.mark.parametrize("saved", [("attention",), ("attention", "linear")])
def test_kept_results_may_wait_elsewhere(kind: str, saved: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "LEAST_BYTES", 0)
    puts = []
    put = checkpointing.MemoryStore.put
    monkeypatch.setattr(checkpointing.MemoryStore, "put", lambda self, tensor: puts.append(1) or put(self, tensor))
    model = tiny_model(kind, "sdpa").train()
    expected = gradients(model)
    enable_selective(model, saved, sliding_window=True, offload=True)
    guard(model)
    found = gradients(model)
    assert len(puts) >= model.config.num_hidden_layers
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def attentions(model: Any) -> int:
    """How often attention is computed in a step."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            if name.startswith("_scaled_dot_product") and "backward" not in name:
                seen.append(name)
            return func(*args, **(kwargs or {}))

    with Count():
        model(input_ids=IDS, use_cache=False).logits.float().mean().backward()
    return len(seen)


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, 6),  # two of four layers have a window, and are cheap to compute again
        ({"sliding_window": True}, 4),
        ({"sliding_window": True, "recomputed": ("full_attention",)}, 6),
        ({"recomputed": ("full_attention",)}, 8),
        ({"sliding_window": True, "offload": True}, 4),
        ({"offload": True}, 6),
    ],
)
def test_which_layers_keep_attention(options: dict[str, Any], calls: int) -> None:
    model = tiny_model("gemma3_text", "sdpa").train()
    assert sorted(layer_kinds(model).values()) == ["full_attention"] * 2 + ["sliding_attention"] * 2
    enable_selective(model, ("attention",), **options)
    assert attentions(model) == calls


def test_kinds_of_layers_come_from_the_window_where_nothing_is_said() -> None:
    assert set(layer_kinds(tiny_model("llama")).values()) == {"full_attention"}
    assert set(layer_kinds(tiny_model("mistral")).values()) == {"sliding_attention"}
    with pytest.raises(NewtError, match="no layers of type 'linear_attention'; it has: full_attention"):
        enable_selective(tiny_model("llama"), ("attention",), recomputed=("linear_attention",))
