"""Frozen weights in the CPU's memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_model

from newt.models.cpu_weights import LayerWeights, offload_layers, offload_table
from newt.models.lora_linear import fuse_lora
from newt.support.errors import NewtError
from newt.training.offload import offloaded

IDS = torch.arange(3, 35).reshape(2, 16)


class Doubling:
    """A device whose copies are twice the weights: what is computed shows that the copies were used."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.alive: list[weakref.ref[torch.Tensor]] = []
        self.most = 0

    def start(self, tensors: Sequence[torch.Tensor]) -> Any:
        copies = [tensor * 2 for tensor in tensors]
        self.calls.append(len(tensors))
        self.alive = [ref for ref in self.alive if ref() is not None]
        self.alive += [weakref.ref(copy.untyped_storage()) for copy in copies]
        self.most = max(self.most, len(self.alive))
        return lambda: copies


def adapted(kind: str = "llama") -> Any:
    targets = ["q_proj", "v_proj", *([] if "moe" in kind else ["gate_proj", "down_proj"])]
    config = LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
    return get_peft_model(tiny_model(kind).train(), config)


def halve(layers: LayerWeights) -> None:
    for layer in layers.layers:
        for home in layer.homes:
            home.mul_(0.5)


def mean_square(model: Any, batch: Any, num_items: Any) -> torch.Tensor:
    loss: torch.Tensor = model(input_ids=batch["input_ids"], use_cache=False).logits.square().mean()
    return loss


def gradients(model: Any, loss: Any = mean_square) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss(model, {"input_ids": IDS}, 1).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return bool(one) and one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "qwen3_moe"])
def test_gradients_come_from_the_copies_bit_for_bit(kind: str, checkpointing: bool) -> None:
    model = adapted(kind)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    expected, mover = gradients(model), Doubling()
    layers = offload_layers(model, mover)
    halve(layers)
    loss = offloaded(mean_square, None, weights=lambda: layers)
    assert same(gradients(model, loss), expected)
    assert same(gradients(model, loss), expected)  # also when a step follows another


def test_gradients_stay_where_adapted_layers_are_one_operation() -> None:
    model = adapted()
    assert fuse_lora(model)
    expected, mover = gradients(model), Doubling()
    layers = offload_layers(model, mover)
    halve(layers)
    assert same(gradients(model, offloaded(mean_square, None, weights=lambda: layers)), expected)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_three_layers_are_on_the_device_at_most(checkpointing: bool) -> None:
    model, mover = adapted(), Doubling()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    layers = offload_layers(model, mover)
    gradients(model, offloaded(mean_square, None, weights=lambda: layers))
    each = len(layers.layers[0].weights)
    assert each == 9  # seven matrices and two norms
    # Autograd holds matrices of the layer that is computed again until its backward pass is done.
    assert each < mover.most <= 3 * each + 7
    assert len(mover.calls) <= 2 * len(layers.layers) + 1, "a layer is copied once in each direction"


def test_layers_are_fetched_one_ahead() -> None:
    model, started = adapted(), []

    class Recording(Doubling):
        def start(self, tensors: Sequence[torch.Tensor]) -> Any:
            started.append(next(n for n, layer in enumerate(layers.layers) if layer.homes[0] is tensors[0]))
            return super().start(tensors)

    layers = offload_layers(model, Recording())
    layers.use(0)
    assert started == [0, 1]
    layers.use(1)
    layers.use(2)
    layers.use(3)
    assert started == [0, 1, 2, 3]
    assert [layer.there for layer in layers.layers] == [False, False, True, True]
    layers.use(2)
    assert started == [0, 1, 2, 3, 1]  # the way back: layer 2 was still there
    layers.use(1)
    layers.use(0)
    assert started == [0, 1, 2, 3, 1, 0]
    assert layers.layers[0].weights[0].data is not layers.layers[0].homes[0]


def test_on_a_cpu_nothing_is_copied_and_the_model_is_whole() -> None:
    model = adapted()
    expected, held = gradients(model), {name: p.data_ptr() for name, p in model.named_parameters()}
    layers = offload_layers(model)
    assert layers.mover is None
    assert same(gradients(model, offloaded(mean_square, None, weights=lambda: layers)), expected)
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == held


def test_frozen_weights_stay_when_the_model_is_moved() -> None:
    model = adapted()
    layers = offload_layers(model)
    model.to(torch.float64)  # a change of the number type reaches them
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    for layer in layers.layers:
        assert [home.data_ptr() for home in layer.homes] == [weight.data_ptr() for weight in layer.weights]
    inside = {id(weight) for layer in layers.layers for weight in layer.weights}
    model.to("meta")
    for name, parameter in model.named_parameters():
        assert (parameter.device.type == "cpu") == (id(parameter) in inside), name
    assert inside


def test_trained_and_shared_weights_are_left_alone() -> None:
    model = tiny_model("llama").requires_grad_(False)
    first, second = model.model.layers[:2]
    first.mlp.up_proj.weight.requires_grad_(True)
    second.mlp.down_proj.weight = first.mlp.down_proj.weight
    layers = LayerWeights(list(model.model.layers))
    found = {id(weight) for layer in layers.layers for weight in layer.weights}
    assert id(first.mlp.up_proj.weight) not in found
    assert id(first.mlp.down_proj.weight) not in found
    assert id(first.mlp.gate_proj.weight) in found


def test_data_parallelism_leaves_them_to_us() -> None:
    model = adapted()
    offload_layers(model)
    ignored = model._ddp_params_and_buffers_to_ignore
    assert "base_model.model.model.layers.0.mlp.up_proj.weight" in ignored
    assert not any("lora" in name or "embed" in name for name in ignored)


def test_without_frozen_layers_it_is_refused() -> None:
    with pytest.raises(NewtError, match="layer_offloading: the model has no layers with frozen weights"):
        offload_layers(tiny_model("llama"))


@pytest.mark.parametrize("kind", ["gemma3n_text", "gemma4_text", "gemma4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_per_layer_embeddings_on_the_cpu_change_nothing(kind: str, dtype: torch.dtype) -> None:
    model = tiny_model(kind).to(dtype).requires_grad_(False).train()
    head = model.get_output_embeddings().weight.requires_grad_(True)
    keys = {"mm_token_type_ids": torch.zeros_like(IDS)} if kind == "gemma4" else {}

    def run() -> tuple[torch.Tensor, torch.Tensor | None]:
        head.grad = None
        logits = model(input_ids=IDS, use_cache=False, **keys).logits
        logits.float().square().mean().backward()
        return logits.detach(), head.grad

    expected = run()
    names = list(model.state_dict())
    offload_table(model)
    found = run()
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert list(model.state_dict()) == names
    model.to("meta")
    table = next(part for name, part in model.named_modules() if name.endswith("embed_tokens_per_layer"))
    assert {tensor.device.type for tensor in (*table.parameters(), *table.buffers())} == {"cpu"}
    assert model.get_input_embeddings().weight.device.type == "meta"


def test_tables_that_are_absent_or_trained_are_refused() -> None:
    with pytest.raises(NewtError, match="no per-layer embeddings"):
        offload_table(tiny_model("llama"))
    with pytest.raises(NewtError, match="embed_tokens_per_layer is trained"):
        offload_table(tiny_model("gemma3n_text"))
