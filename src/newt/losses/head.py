"""What a model does after its last layer: where hidden states meet the output weights, and what becomes of the product.

The hidden states are taken where the output layer gets them, in a call of the whole model: every wrapper around it
(adapter, mixed precision, data parallelism) does its work, and the output layer itself computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from newt.losses.linear_ce import LogitRule
from newt.support.log import note

PROBES = (1.0, 32.0)
"""Factors of the hidden states on which a rule is tried: one cap looks like none where logits are small."""

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""Largest difference of a rule's logits from the model's, as a share of the largest logit."""

SCALES: Mapping[str, Callable[[float], tuple[float, ...]]] = {
    "logit_scale": lambda value: (value,),
    "lm_head_multiplier": lambda value: (value,),
    "logits_scaling": lambda value: (1 / value, value, 1.0),
}
"""Key of config.json -> factors that its models mean by it, the usual one first."""

SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""Keys of config.json that cap the logits."""


@dataclass
class Capture:
    """What the output layer was given.

    Attributes:
        hidden: (batch, seq, hidden).
        dtype: type in which it would have multiplied.
        calls: how often it was called.
        tried: the probes, (batch, probes, hidden).
    """

    hidden: Tensor | None = None
    dtype: torch.dtype = torch.float32
    calls: int = 0
    tried: Tensor | None = None


@dataclass(frozen=True)
class Head:
    """An output layer that is a matrix product and a rule.

    Attributes:
        layer: the product's weight and bias.
        rule: what the model does with the product.
    """

    layer: nn.Linear
    rule: LogitRule


_FOUND: WeakKeyDictionary[nn.Module, LogitRule | str] = WeakKeyDictionary()
"""Model -> its rule, proved on its own logits, or why it has none."""


def base_of(model: nn.Module) -> Any:
    """The transformers model within compilation, data parallelism and adapter."""
    inner: Any = model
    for name in ("module", "_orig_mod"):
        inner = getattr(inner, name, inner)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def output_layer(base: Any) -> nn.Linear | str:
    """The linear layer that makes the logits, or why no plain product does.

    Args:
        base: a transformers model.
    """
    found: Any = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    if hasattr(found, "modules_to_save"):  # a layer that is trained whole beside an adapter
        found = found.original_module if found.disable_adapters else found.modules_to_save[found.active_adapters[0]]
    # Subclasses quantise, shard or adapt the weight.
    if type(found) is not nn.Linear:
        return f"the output layer is {'not known' if found is None else type(found).__name__}"
    if type(found.weight.data) is not Tensor or not found.weight.is_floating_point():
        return "the output weights are not a plain tensor"
    return found


def head_of(model: nn.Module, call: Callable[[], Any]) -> Head | None:
    """The model's head if it is a product and a rule; the reason is noted once if it is not.

    Args:
        model: a causal language model, wrapped or not.
        call: calls it with a batch; done once for each model, to compare the rule with the model's own logits.
    """
    base = base_of(model)
    layer = output_layer(base)
    if base not in _FOUND:
        found = layer if isinstance(layer, str) else _prove(base, layer, call)
        _FOUND[base] = found
        if isinstance(found, str):
            note(f"The loss is computed from all logits: {found}.")
    rule = _FOUND[base]
    return None if isinstance(layer, str) or isinstance(rule, str) else Head(layer, rule)


@contextmanager
def captured(model: nn.Module, *, probe: bool = False) -> Iterator[Capture]:
    """Catch what the output layer gets; it computes no logits, or those of two probes.

    Args:
        model: its forward is called inside the block.
        probe: give the layer the probes of :data:`PROBES` instead of nothing.
    """
    seen = Capture()

    def catch(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        hidden: Tensor = inputs[0]
        kind = hidden.device.type
        seen.calls += 1
        seen.hidden = hidden
        seen.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        if not probe:
            return (hidden[:, :0],)
        factors = torch.tensor(PROBES, device=hidden.device, dtype=hidden.dtype)
        seen.tried = hidden[:, :1].detach() * factors[:, None]
        return (seen.tried,)

    handle = base_of(model).get_output_embeddings().register_forward_pre_hook(catch)
    try:
        yield seen
    finally:
        handle.remove()


def _prove(base: Any, layer: nn.Linear, call: Callable[[], Any]) -> LogitRule | str:
    """The rule that gives the model's own logits."""
    devices = [layer.weight.device] if layer.weight.is_cuda else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices), captured(base, probe=True) as seen:
        logits = call().logits
    if seen.calls != 1 or seen.tried is None or seen.tried.dim() != 3 or seen.tried.device != layer.weight.device:
        return "the output layer is not called once with the hidden states"
    if logits.shape[:2] != seen.tried.shape[:2]:
        return "the logits have another shape than the hidden states"
    with torch.no_grad(), torch.autocast(seen.tried.device.type, enabled=False):
        offset = None if layer.bias is None else layer.bias.to(seen.dtype)
        product = nn.functional.linear(seen.tried.to(seen.dtype), layer.weight.to(seen.dtype), offset)
    for rule in _rules(base.config):
        difference = (rule(product) - logits.float()).abs().max()
        if difference <= TOLERANCE.get(seen.dtype, 1e-4) * logits.float().abs().max():
            return rule
    return f"{type(base).__name__} does more with its logits than scale or cap them"


def _rules(config: Any) -> Iterator[LogitRule]:
    """What the model may do by its config.json, the most likely first."""
    text = config.get_text_config()
    values: dict[str, Any] = {name: getattr(text, name, None) for name in (*SCALES, *SOFTCAPS)}
    scales = next((SCALES[name](values[name]) for name in SCALES if values[name]), (1.0,))
    caps = [float(values[name]) for name in SOFTCAPS if values[name]]
    for cap in (*caps, None):
        for scale in (*scales, *(() if 1.0 in scales else (1.0,))):
            yield LogitRule(float(scale), cap)
