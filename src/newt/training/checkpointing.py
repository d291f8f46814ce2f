"""Gradient checkpointing: what crosses the border of a layer, and what is kept inside."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from transformers import Cache, TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer

from newt.losses.head import base_of
from newt.support.errors import NewtError
from newt.training.offload import LEAST_BYTES, MemoryStore

OPERATIONS = {
    "attention": (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_attention_math",
        "_flash_attention_forward",
        "_efficient_attention_forward",
    ),
    "mm": ("mm",),
    "addmm": ("addmm",),
    "bmm": ("bmm",),
    "baddbmm": ("baddbmm",),
    "matmul": ("mm", "bmm"),
    "linear": ("mm", "addmm"),
}
"""Name in a config -> operations of ``torch.ops.aten`` that compute it."""


def mutable_containers(model: nn.Module, call: Callable[[], Any]) -> list[str]:
    """What checkpointed layers are given that can hold tensors and can change: it would differ when computed again.

    A tensor, a tuple of tensors or plain data is recomputed exactly; a list, a dict or a cache that a layer fills is
    filled twice, and gradients through it are lost.

    Args:
        model: a transformers model.
        call: calls it with a batch.

    Returns:
        ``layer name: argument (type)``, sorted; empty where gradient checkpointing is safe.
    """
    found: set[str] = set()

    def look(name: str, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        for key, value in (*enumerate(inputs), *named.items()):
            found.update(f"{name}: {key} ({type(item).__name__})" for item in _mutable(value))

    layers = [(name, part) for name, part in model.named_modules() if isinstance(part, GradientCheckpointingLayer)]
    handles = [part.register_forward_pre_hook(partial(look, name), with_kwargs=True) for name, part in layers]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return sorted(found)


def _mutable(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | frozenset):
        for item in value:
            yield from _mutable(item)
    elif isinstance(value, MutableSequence | MutableSet):
        if not all(isinstance(item, str | int | float | bool) for item in value):
            yield value
    elif isinstance(value, MutableMapping | Cache) or _has_tensors(value):
        yield value


def _has_tensors(value: Any) -> bool:
    """Whether an object of no known kind holds tensors. A block mask does, and nobody changes it."""
    if callable(value) or isinstance(value, Tensor | BlockMask):
        return False
    held = getattr(value, "__dict__", {}).values()
    return any(isinstance(item, Tensor | list | dict) for item in held)


class Borders(TrainerCallback):  # type: ignore[misc]
    """Watches what crosses the borders of checkpointed layers while a model is trained."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Begin: the trainer has switched checkpointing on by now."""
        guard(model)


def guard(model: nn.Module) -> None:
    """Let no container that a layer could change cross the border of a checkpointed layer.

    What layers share through a mapping (keys and values of Gemma 3n and Gemma 4) crosses it as tensors, inputs and
    outputs of the layer: the mapping would otherwise be filled again when a layer is computed again, and hold what is
    in it until the end of the backward pass. Anything else stops the run at its first batch.

    Args:
        model: a model with gradient checkpointing switched on.
    """
    for name, part in model.named_modules():
        function = getattr(part, "_gradient_checkpointing_func", None)
        if function is not None and getattr(function, "func", None) is not _border:
            part._gradient_checkpointing_func = partial(_border, name, function)


def _border(name: str, run: Callable[..., Any], function: Any, *args: Any) -> Any:
    named: Mapping[str, Any] = getattr(function, "keywords", {})
    shared = {key: value for key, value in named.items() if isinstance(value, MutableMapping)}
    for key, value in (*enumerate(args), *named.items()):
        for item in () if key in shared else _mutable(value):
            raise NewtError(
                f"gradient_checkpointing: {name} is given a {type(item).__name__} ({key}) that it could change, and "
                "gradients would be wrong when it is computed again. Set gradient_checkpointing: false."
            )
    if not shared:
        return run(function, *args)
    others = {key: value for key, value in named.items() if key not in shared}
    return _run_explicitly(run, partial(function.func, *function.args, **others), shared, args)


def _run_explicitly(
    run: Callable[..., Any], function: Callable[..., Any], shared: Mapping[str, Any], args: tuple[Any, ...]
) -> Any:
    """Run a layer with copies of the mappings; tensors that it reads are inputs, those that it adds are outputs."""
    kinds = {key: type(held) for key, held in shared.items()}
    inputs: list[Tensor] = []
    given = {key: {inner: _without(value, inputs) for inner, value in held.items()} for key, held in shared.items()}
    added: dict[str, dict[Any, Any]] = {}
    count, lone = len(inputs), True

    def call(*values: Any) -> Any:
        nonlocal lone
        before = {key: {i: _with(v, values[:count]) for i, v in held.items()} for key, held in given.items()}
        copies = {key: kinds[key](held) for key, held in before.items()}
        found = function(*values[count:], **copies)
        outputs: list[Tensor] = []
        for key, held in copies.items():
            new = {inner: value for inner, value in held.items() if before[key].get(inner) is not value}
            added[key] = {inner: _without(value, outputs) for inner, value in new.items()}
        lone = not isinstance(found, tuple)
        return (*outputs, found) if lone else (*outputs, *found)

    results = run(call, *inputs, *args)
    size = sum(_tensors(value) for held in added.values() for value in held.values())
    for key, held in added.items():
        for inner, value in held.items():
            shared[key][inner] = _with(value, results[:size])
    return results[size] if lone else results[size:]


class _Place(int):
    """Stands for the tensor of this number."""


def _without(value: Any, tensors: list[Tensor]) -> Any:
    """The same value with numbers for its tensors, which are added to a list."""
    if isinstance(value, tuple):
        return tuple(_without(item, tensors) for item in value)
    if not isinstance(value, Tensor):
        return value
    tensors.append(value)
    return _Place(len(tensors) - 1)


def _with(value: Any, tensors: tuple[Any, ...]) -> Any:
    """The value that :func:`_without` was given."""
    if isinstance(value, tuple):
        return tuple(_with(item, tensors) for item in value)
    return tensors[value] if isinstance(value, _Place) else value


def _tensors(value: Any) -> int:
    return sum(map(_tensors, value)) if isinstance(value, tuple) else int(isinstance(value, _Place))


def enable_selective(
    model: Any,
    saved: Collection[str],
    *,
    sliding_window: bool = False,
    recomputed: Collection[str] = (),
    offload: bool = False,
) -> None:
    """Checkpoint each layer, and keep the results of some operations inside.

    Args:
        model: a transformers model, or an adapter around one.
        saved: keys of :data:`OPERATIONS`.
        sliding_window: also keep the results of attention in layers with a sliding window.
        recomputed: kinds of layers that keep nothing.
        offload: what is kept waits in the CPU's memory.

    Raises:
        NewtError: the model has no layers of a kind that is named.
    """
    model.gradient_checkpointing_enable({"use_reentrant": False})
    kinds = layer_kinds(model)
    if unknown := sorted(set(recomputed) - set(kinds.values())):
        what = f"the model has no layers of type {unknown[0]!r}; it has: {', '.join(sorted(set(kinds.values())))}."
        raise NewtError(f"selective_checkpointing.recompute_layer_types: {what}")
    store = MemoryStore(overlap=True) if offload else None
    for layer in (part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)):
        kind = kinds.get(layer)
        slides = kind == "sliding_attention" and not sliding_window
        keys = [] if kind in recomputed else [key for key in saved if not (slides and key == "attention")]
        names = frozenset(name for key in keys for name in OPERATIONS[key])
        if names:
            layer._gradient_checkpointing_func = partial(
                checkpoint, use_reentrant=False, context_fn=partial(_contexts, names, store)
            )


def layer_kinds(model: Any) -> dict[nn.Module, str]:
    """Decoder layer -> its kind, such as ``full_attention`` or ``sliding_attention``."""
    config = base_of(model).config.get_text_config()
    count = getattr(config, "num_hidden_layers", None)
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    one = "sliding_attention" if slides else "full_attention"
    kinds = getattr(config, "layer_types", None) or [one] * (count or 0)
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    found = [part for part in lists if all(isinstance(layer, GradientCheckpointingLayer) for layer in part)]
    return {layer: kind for part in found for layer, kind in zip(part, kinds, strict=False)}


def _contexts(names: Collection[str], store: MemoryStore | None) -> tuple[Any, Any]:
    """What a layer runs in, the first time and when it is computed again."""
    if store is None:
        make: Any = create_selective_checkpoint_contexts
        first, again = make(partial(_policy, names))
        return first, again
    kept: deque[Any] = deque()
    return _Keep(names, store, kept), _Give(names, kept)


def _policy(names: Collection[str], context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if _name(operation) in names else CheckpointPolicy.PREFER_RECOMPUTE


def _name(operation: Any) -> str:
    return getattr(getattr(operation, "overloadpacket", operation), "__name__", "")


class _Keep(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the results of some operations in a store."""

    def __init__(self, names: Collection[str], store: MemoryStore, kept: deque[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names, self.store, self.kept = names, store, kept

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if _name(func) in self.names:
            self.kept.append(tuple(map(self._keep, result)) if isinstance(result, tuple) else self._keep(result))
        return result

    def _keep(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.detach()
        return value if value.nbytes < LEAST_BYTES else self.store.put(value)


class _Give(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives these results, in the same order, instead of computing them again."""

    def __init__(self, names: Collection[str], kept: deque[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names, self.kept = names, kept

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _name(func) not in self.names:
            return func(*args, **(kwargs or {}))
        found = self.kept.popleft()
        return tuple(map(self._give, found)) if isinstance(found, tuple) else self._give(found)

    def _give(self, value: Any) -> Any:
        found = value() if callable(value) and not isinstance(value, Tensor) else value
        return found.detach() if isinstance(found, Tensor) else found
