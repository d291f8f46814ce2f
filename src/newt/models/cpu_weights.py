"""Frozen weights that stay in the CPU's memory: those of layers, which visit the device, and tables that never do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers.modeling_layers import GradientCheckpointingLayer

from newt.support.errors import NewtError

TABLE = "embed_tokens_per_layer"
"""Name of the module that holds the embeddings of each layer (Gemma 3n, Gemma 4)."""


class Mover(Protocol):
    """Copies weights to a device."""

    def start(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """Begin to copy; the result waits for the copies and gives them."""


class CudaMover:
    """Copies on a stream of its own, beside the computation."""

    def __init__(self, device: torch.device) -> None:
        """Make one for a CUDA device."""
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """Begin to copy pinned tensors."""
        with torch.cuda.stream(self.stream):
            copies = [tensor.to(self.device, non_blocking=True) for tensor in tensors]
            done = self.stream.record_event()

        def wait() -> list[Tensor]:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(done)
            for copy in copies:
                # The memory must not be given to others before the computation has read it.
                copy.record_stream(current)
            return copies

        return wait


@dataclass
class Layer:
    """One layer whose frozen weights live in the CPU's memory.

    Attributes:
        weights: its frozen parameters.
        homes: their values in the CPU's memory, pinned where there is a GPU.
        copies: gives those on the device, once they were asked for.
        there: the parameters hold the values on the device.
    """

    weights: list[nn.Parameter]
    homes: list[Tensor] = field(default_factory=list)
    copies: Callable[[], list[Tensor]] | None = None
    there: bool = False

    def go_home(self) -> None:
        """Let go of the copies on the device: frozen weights do not change there."""
        for weight, home in zip(self.weights, self.homes, strict=True):
            weight.data = home
        self.copies, self.there = None, False


class LayerWeights:
    """Frozen weights of layers, on the device one layer ahead of the computation, forward and backward.

    A layer is fetched when one of its modules is called, so also when it is computed again in the backward pass. What
    autograd keeps of a fetched weight is kept as its name (:meth:`keep`), so that it does not hold the copy.
    """

    def __init__(self, layers: Sequence[nn.Module], mover: Mover | None = None) -> None:
        """Take the frozen weights of layers.

        Args:
            layers: in the order in which they are called.
            mover: copies weights; None: one for the CUDA device that the model is moved to, and nothing on a CPU.
        """
        self.mover = mover
        self.layers = [Layer(weights) for weights in _frozen(layers)]
        self.current = 0
        self.numbers = {id(weight): number for number, layer in enumerate(self.layers) for weight in layer.weights}
        for number, module in enumerate(layers):
            device = next((weight.device for weight in self.layers[number].weights), None)
            self._settle(number, device)
            stay(module, self.layers[number].weights, partial(self._settle, number))
            for part in module.modules():
                part.register_forward_pre_hook(lambda *_, number=number: self.use(number))

    def _settle(self, number: int, device: torch.device | None) -> None:
        """Take the values as they are now: after loading, and after the model was moved to a device."""
        layer = self.layers[number]
        if layer.there:
            layer.go_home()
        layer.homes = [_at_home(weight.data) for weight in layer.weights]
        layer.go_home()
        if self.mover is None and device is not None and device.type == "cuda":
            self.mover = CudaMover(device)

    def use(self, number: int) -> None:
        """Bring a layer to the device, and begin to bring the one that comes after it in this direction."""
        if self.mover is None or (number == self.current and self.layers[number].there):
            return
        # The first layer is the end of a backward pass and the begin of a forward pass.
        ahead = number + 1 if number >= self.current or number == 0 else number - 1
        for other, layer in enumerate(self.layers):
            # The layer before stays: where the direction changes, it is the next one.
            if layer.copies is not None and other not in (number, self.current, ahead):
                layer.go_home()
        self._fetch(number)
        layer = self.layers[number]
        if not layer.there and layer.copies is not None:
            for weight, copy in zip(layer.weights, layer.copies(), strict=True):
                weight.data = copy
            layer.there = True
        if 0 <= ahead < len(self.layers):
            self._fetch(ahead)
        self.current = number

    def _fetch(self, number: int) -> None:
        layer = self.layers[number]
        if layer.copies is None and self.mover is not None:
            layer.copies = self.mover.start(layer.homes)

    def keep(self, tensor: Tensor) -> Callable[[], Tensor] | None:
        """Keep a weight, or a view of one, for the backward pass as what it is; None: it is not of these layers."""
        weight: Any = tensor if id(tensor) in self.numbers else tensor._base
        number = self.numbers.get(id(weight))
        if number is None or self.mover is None:
            return None
        view = None if weight is tensor else (tensor.size(), tensor.stride(), tensor.storage_offset())

        def back() -> Tensor:
            self.use(number)
            found: Tensor = weight if view is None else weight.detach().as_strided(*view)
            return found

        return back


def _frozen(layers: Sequence[nn.Module]) -> list[list[nn.Parameter]]:
    """Frozen parameters of each layer's modules; those that layers share stay on the device."""
    seen: dict[int, int] = {}
    found = []
    for layer in layers:
        inside = {id(weight): weight for child in layer.children() for weight in child.parameters()}
        # Packed weights of few bits carry more than their values along.
        found.append([w for w in inside.values() if not w.requires_grad and type(w) is nn.Parameter])
        for key in inside:
            seen[key] = seen.get(key, 0) + 1
    return [[weight for weight in weights if seen[id(weight)] == 1] for weights in found]


def _at_home(tensor: Tensor) -> Tensor:
    home = tensor.to("cpu")
    return home.pin_memory() if torch.cuda.is_available() and not home.is_pinned() else home


def stay(
    module: nn.Module, tensors: Collection[Tensor], moved: Callable[[torch.device], None] = lambda device: None
) -> None:
    """Let some of a module's tensors stay where they are when it is moved. They follow changes of the number type.

    Args:
        module: the module, or one that holds it.
        tensors: parameters and buffers of it.
        moved: is told the device that everything else went to.
    """
    names = {id(tensor) for tensor in tensors}
    move: Any = module._apply

    def apply(function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        devices: list[torch.device] = []

        def chosen(tensor: Tensor) -> Tensor:
            if id(tensor) not in names:
                return function(tensor)
            sample = function(torch.empty(0, dtype=tensor.dtype, device=tensor.device))
            devices.append(sample.device)
            return tensor.to(sample.dtype)

        move(chosen, recurse)
        if devices:
            moved(devices[0])
        return module

    # On the instance: torch asks nothing else when it moves a module.
    vars(module)["_apply"] = apply


def offload_layers(model: nn.Module, mover: Mover | None = None) -> LayerWeights:
    """Keep the frozen weights of a model's layers in the CPU's memory.

    Args:
        model: a transformers model, or an adapter around one, with everything frozen that shall be.
        mover: see :class:`LayerWeights`.

    Raises:
        NewtError: it has no layers with frozen weights.
    """
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    found = LayerWeights(layers, mover)
    if not found.numbers:
        raise NewtError("layer_offloading: the model has no layers with frozen weights.")
    _leave_to_us(model, [weight for layer in found.layers for weight in layer.weights])
    return found


def offload_table(model: nn.Module) -> None:
    """Keep the embeddings of each layer in the CPU's memory: tokens are looked up there, and their rows moved.

    Args:
        model: a transformers model, or an adapter around one.

    Raises:
        NewtError: the model has none, or they are trained.
    """
    named: Any = model.named_modules()
    found: list[Any] = [part for name, part in named if name.endswith(TABLE) and isinstance(part, nn.Embedding)]
    if not found:
        raise NewtError("ple_cpu_offload: the model has no per-layer embeddings.")
    for part in found:
        if part.weight.requires_grad:
            raise NewtError(f"ple_cpu_offload: {TABLE} is trained, and has to be on the device. Remove one.")
        with torch.no_grad():
            for tensor in (*part.parameters(), *part.buffers()):
                tensor.data = tensor.data.to("cpu")
        stay(part, [*part.parameters(), *part.buffers()])
        # On the instance, as the names of its weights must stay.
        part.forward = partial(_looked_up, part.forward)
        _leave_to_us(model, list(part.parameters()))


def _looked_up(forward: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    return forward(ids.to("cpu")).to(ids.device)


def _leave_to_us(model: nn.Module, weights: Collection[nn.Parameter]) -> None:
    """Frozen weights elsewhere are none of data parallelism's business: it wants all on one kind of device."""
    names = {id(weight) for weight in weights}
    known = getattr(model, "_ddp_params_and_buffers_to_ignore", [])
    ignored = [name for name, weight in model.named_parameters() if id(weight) in names]
    leave: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    leave(model, {*known, *ignored})
