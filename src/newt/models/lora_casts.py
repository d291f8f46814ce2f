"""LoRA layers without conversions that autocast makes anyway.

peft converts the input of every adapted layer to the adapter's float32, and autocast converts it straight back: two
copies of each activation that change nothing, and on wide layers a tenth of the time of a forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class OutsideAutocast:
    """True where autocast is off: there, an input must have the number type of the adapter.

    It asks at every call, because a model is trained under autocast and answers prompts without.
    """

    def __bool__(self) -> bool:
        return not (torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu"))


def skip_casts(model: nn.Module) -> None:
    """Let the plain LoRA layers of a model convert their input only where autocast is off.

    ``cast_input_dtype_enabled`` is peft's switch for it (see ``peft.helpers.disable_input_dtype_casting``). Variants
    such as DoRA compute norms in the input's type, and keep the conversion.
    """
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "cast_input_dtype_enabled")]
    for layer in layers:
        if isinstance(layer.base_layer, nn.Linear) and not getattr(layer, "lora_variant", None):
            layer.cast_input_dtype_enabled = OutsideAutocast()
