"""The balancing loss of a mixture of experts, for models whose config asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from newt.losses.causal import trained_tokens
from newt.support.errors import NewtError

LossFn = Callable[[nn.Module, Mapping[str, Tensor], "Tensor | int"], Tensor]


def with_router_loss(loss: LossFn) -> LossFn:
    """A loss that adds the model's balancing loss in training, as its config asks (``output_router_logits``).

    The model's balancing loss is a mean over the tokens of a micro-batch. It is weighted by the micro-batch's share of
    the trained tokens of the step, so that the shares of a step add up to one, however it is split.
    Source: https://arxiv.org/abs/2101.03961, equation 4.

    Raises:
        NewtError: the loss does not run the whole model, which alone computes the balancing loss.
    """

    def compute(model: nn.Module, batch: Mapping[str, Tensor], num_items: Tensor | int) -> Tensor:
        if not model.training:
            return loss(model, batch, num_items)
        inner = unwrapped(model)
        found: list[Tensor] = []
        hook = inner.register_forward_hook(lambda _module, _inputs, output: found.append(output.aux_loss))
        try:
            value = loss(model, batch, num_items)
        finally:
            hook.remove()
        if not found or found[-1] is None:
            raise NewtError("output_router_logits: this loss does not compute the router's: set it to false")
        share = trained_tokens(batch).to(value.device) / num_items
        return value + coefficient(inner) * share * found[-1].to(value.device)

    return compute


def coefficient(model: Any) -> float:
    """Weight of the balancing loss in the model's config."""
    config = getattr(model.config, "text_config", None) or model.config
    for name in ("router_aux_loss_coef", "aux_loss_coef", "aux_loss_alpha"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    return float(getattr(model, "router_aux_loss_coef", 0.0))


def unwrapped(model: Any) -> Any:
    """The transformers model inside of what data parallelism, compilation and peft put around it."""
    for name in ("module", "_orig_mod"):
        model = getattr(model, name, model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model
