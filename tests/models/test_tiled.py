"""MLPs in tiles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from newt.models.tiled import tile_mlps, tiled
from newt.support.errors import NewtError

TINY = {
    "vocab_size": 96, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def model_of(kind: str, **keys: Any) -> Any:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **TINY, **keys)).train()


def gradients(model: Any) -> dict[str, torch.Tensor]:
    ids = torch.arange(3, 29).reshape(2, 13)
    model.zero_grad()
    model(input_ids=ids, use_cache=False).logits.square().mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["llama", "phi3", "gpt_neox"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_stay(kind: str, checkpointing: bool) -> None:
    model = model_of(kind)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    expected, names = gradients(model), list(model.state_dict())
    tile_mlps(model, 4)
    assert list(model.state_dict()) == names
    found = gradients(model)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-7, rtol=1e-4, msg=name)


def test_gradients_stay_with_an_adapter() -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["up_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(model_of("llama"), config)
    expected = gradients(model)
    tile_mlps(model, 3)
    found = gradients(model)
    assert expected
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-7, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("tiles", "lengths"), [(3, [5, 5, 3]), (None, [13]), (99, [1] * 13)])
def test_tiles(tiles: int | None, lengths: list[int]) -> None:
    seen = []
    call = tiled(lambda part: seen.append(part.shape[1]) or part * 2, tiles)
    hidden = torch.randn(1, 13, 2)
    with torch.no_grad():
        assert torch.equal(call(hidden), hidden * 2)
    assert seen == lengths


def test_experts_are_left_alone() -> None:
    with pytest.raises(NewtError, match="no dense MLP"):
        tile_mlps(model_of("mixtral", num_local_experts=2), 2)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "qwen3"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_usual_mlp_gives_what_the_models_own_does(kind: str, checkpointing: bool) -> None:
    model = model_of(kind, head_dim=8)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    expected = gradients(model)
    calls = []
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(lambda *_: calls.append(1))
    own = type(model.model.layers[0].mlp).forward
    tile_mlps(model, 4, own=False)
    assert all(layer.mlp.training for layer in model.model.layers)
    calls.clear()
    try:
        type(model.model.layers[0].mlp).forward = None  # the model's own is not called any more
        found = gradients(model)
    finally:
        type(model.model.layers[0].mlp).forward = own
    assert calls
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-7, rtol=1e-4, msg=name)


def test_another_mlp_than_the_usual_one_is_refused() -> None:
    with pytest.raises(NewtError, match=r"Phi3MLP has no gate_proj. Set tiled_mlp_use_original_mlp: true"):
        tile_mlps(model_of("phi3"), 2, own=False)
    model = model_of("llama")
    kind = type(model.model.layers[0].mlp)

    class Other(kind):  # type: ignore[misc, valid-type]
        def forward(self, x: Any) -> Any:
            return super().forward(x) * 2

    for layer in model.model.layers:
        layer.mlp.__class__ = Other
    torch.nn.init.normal_(model.model.layers[0].mlp.down_proj.weight)
    with pytest.raises(NewtError, match="Other computes something else"):
        tile_mlps(model, 2, own=False)
