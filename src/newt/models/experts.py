"""Experts of a mixture-of-experts model in few bits.

transformers holds all experts of a layer in one parameter (experts, out, in), which bitsandbytes passes by: it
quantizes linear layers. Here each such parameter is quantized as soon as it is read, so that only one is in memory in
full at a time. Its module then holds a placeholder, which is filled when the module's forward pass begins and emptied
when it ends. To peft it is a plain parameter, so an adapter is the same whether its base model is quantized or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import BitsAndBytesConfig
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizer_bnb_8bit import Bnb8BitHfQuantizer
from transformers.utils.quantization_config import QuantizationMethod

FOUR, EIGHT = "newt_experts_in_4_bits", "newt_experts_in_8_bits"


def is_expert(name: str, parameter: Tensor) -> bool:
    """Whether a parameter holds the weights of several experts: at least three dimensions, and named so."""
    return parameter.ndim >= 3 and "expert" in name and parameter.is_floating_point()


@dataclass
class Blocks:
    """How a parameter is given back from 4 bits.

    Attributes:
        state: bitsandbytes' ``QuantState`` of the parameter as a matrix of as many columns as ``columns`` says.
        dtype: type of the values that are given back.
        shape: shape of the parameter.
    """

    state: Any
    dtype: torch.dtype
    shape: torch.Size

    @property
    def kind(self) -> str:
        """``nf4`` or ``fp4``."""
        return str(self.state.quant_type)

    def tensors(self) -> list[Tensor]:
        """Everything that is kept besides the packed values."""
        second = [self.state.state2.absmax] if self.state.nested else []
        return [self.state.absmax, *second]

    def full(self, packed: Tensor) -> Tensor:
        """The parameter."""
        from bitsandbytes.functional import dequantize_4bit

        if self.state.absmax.device != packed.device:
            self.state.to(packed.device)
        full: Tensor = dequantize_4bit(packed, self.state)
        return full.reshape(self.shape)


@dataclass
class Rows:
    """How a parameter is given back from int8: one factor for each row.

    Attributes:
        scale: float32 (..., rows, 1).
        dtype: type of the values that are given back.
        shape: shape of the parameter.
    """

    scale: Tensor
    dtype: torch.dtype
    shape: torch.Size
    kind: str = "int8"

    def tensors(self) -> list[Tensor]:
        """Everything that is kept besides the packed values."""
        return [self.scale]

    def full(self, packed: Tensor) -> Tensor:
        """The parameter."""
        self.scale = self.scale.to(packed.device)
        return (packed.float() * self.scale).to(self.dtype)


class Packed(nn.Module):
    """A quantized parameter of the module that holds this one.

    Args:
        values: the packed values.
        state: what is needed to give the parameter back.
    """

    def __init__(self, values: Tensor, state: Blocks | Rows) -> None:
        super().__init__()
        self.register_buffer("values", values, persistent=False)
        self.state = state
        self.dtype, self.shape, self.kind = state.dtype, state.shape, state.kind

    def tensors(self) -> list[Tensor]:
        """Everything that is in memory."""
        return [self.values, *self.state.tensors()]  # type: ignore[list-item]

    @torch.no_grad()
    def forward(self) -> Tensor:
        """The parameter (experts, out, in) in its own number type."""
        values: Any = self.values
        return self.state.full(values)

    def placeholder(self) -> nn.Parameter:
        """A parameter of the full shape that takes no memory. It is no number, so that nobody computes with it."""
        values: Any = self.values
        look: Any = nn.Parameter(
            torch.full((), torch.nan, dtype=self.dtype, device=values.device).expand(*self.shape), requires_grad=False
        )
        look.quant_state = self
        found: nn.Parameter = look
        return found


class QuantizeExperts(ConversionOps):  # type: ignore[misc]
    """Step of loading: experts to few bits, other weights to what bitsandbytes makes of them."""

    def __init__(self, quantizer: Any, others: Any) -> None:
        self.quantizer = quantizer
        self.others = others

    def convert(self, input_dict: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Quantize one parameter, which is the only entry."""
        (name, value), *_ = input_dict.items()
        value = value[0] if isinstance(value, list) else value
        if not is_expert(name, value):
            return dict(self.others.convert(input_dict, **kwargs))
        return {name: quantized(value, self.quantizer.quantization_config)}


def quantized(value: Tensor, config: Any) -> nn.Parameter:
    """A parameter in 4 or 8 bits, with what is needed to give it back as its ``quant_state``."""
    if config.load_in_4bit:
        from bitsandbytes.functional import quantize_4bit

        packed, blocks = quantize_4bit(
            value.reshape(-1, _columns(value.numel())),
            compress_statistics=config.bnb_4bit_use_double_quant,
            quant_type=config.bnb_4bit_quant_type,
        )
        state: Blocks | Rows = Blocks(blocks, value.dtype, value.shape)
    else:
        scale = (value.float().abs().amax(dim=-1, keepdim=True) / 127).clamp(min=1e-12)
        packed, state = (value.float() / scale).round().to(torch.int8), Rows(scale, value.dtype, value.shape)
    parameter: Any = nn.Parameter(packed, requires_grad=False)
    parameter.quant_state = state
    found: nn.Parameter = parameter
    return found


def _columns(size: int) -> int:
    """Columns of a matrix that bitsandbytes gives back rightly on a CPU: see ``kbit.gives_back``."""
    return next(columns for columns in (64, 8, 2, 1) if size % columns == 0)


class _WithExperts:
    """What both quantizers do besides their own work."""

    quantization_config: Any

    def param_needs_quantization(self, model: Any, param_name: str, **kwargs: Any) -> bool:
        """Weights of linear layers, and experts."""
        if super().param_needs_quantization(model, param_name, **kwargs):  # type: ignore[misc]
            return True
        parameter = model.get_parameter_or_buffer(param_name)
        # A parameter that was set already is packed.
        return hasattr(parameter, "quant_state") or is_expert(param_name, parameter)

    def get_quantize_ops(self) -> Any:
        """The step for one parameter."""
        return QuantizeExperts(self, super().get_quantize_ops())  # type: ignore[misc]

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        model = super()._process_model_after_weight_loading(model, **kwargs)  # type: ignore[misc]
        for module in list(model.modules()):
            _close(module)
        # From here on it is a model of bitsandbytes to everyone.
        self.quantization_config.quant_method = QuantizationMethod.BITS_AND_BYTES
        model.quantization_method = QuantizationMethod.BITS_AND_BYTES
        return model


@register_quantizer(FOUR)
class FourBitQuantizer(_WithExperts, Bnb4BitHfQuantizer):  # type: ignore[misc]
    """Linear layers and experts in 4 bits."""


@register_quantizer(EIGHT)
class EightBitQuantizer(_WithExperts, Bnb8BitHfQuantizer):  # type: ignore[misc]
    """Linear layers and experts in 8 bits."""


class WithExperts(BitsAndBytesConfig):  # type: ignore[misc]
    """The config that selects these quantizers."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quant_method = FOUR if self.load_in_4bit else EIGHT


SUFFIX = "_packed"


def _close(module: nn.Module) -> None:
    """From parameters that were just quantized to placeholders, which are filled for each forward pass."""
    # Linear layers of bitsandbytes hold packed parameters too, and read them themselves.
    names = [name for name, p in module._parameters.items() if type(p) is nn.Parameter and hasattr(p, "quant_state")]
    for name in names:
        parameter: Any = module._parameters[name]
        packed = Packed(parameter.data, parameter.quant_state)
        setattr(module, name, packed.placeholder())
        module.add_module(f"{name}{SUFFIX}", packed)
    if names:
        module.register_forward_pre_hook(_fill)
        # Also when the pass ends by an exception: activation checkpointing ends the repeated one early by one.
        module.register_forward_hook(_empty, always_call=True)


def _fill(module: nn.Module, *_: Any) -> None:
    for name, packed in _packed(module):
        _put(module, name, nn.Parameter(packed(), requires_grad=False))


def _empty(module: nn.Module, *_: Any) -> None:
    for name, packed in _packed(module):
        _put(module, name, packed.placeholder())


def _packed(module: nn.Module) -> list[tuple[str, Packed]]:
    found = [(name, child) for name, child in module.named_children() if isinstance(child, Packed)]
    return [(name.removesuffix(SUFFIX), child) for name, child in found]


def _put(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Set a parameter; peft moves it into a parametrization while it adds its update."""
    if parametrize.is_parametrized(module, name):
        module.parametrizations[name].original = parameter  # type: ignore[union-attr, index]
    else:
        setattr(module, name, parameter)


def quantized_experts(model: nn.Module) -> Iterator[tuple[str, Packed]]:
    """(full name, packed parameter) of all experts that are held in few bits."""
    for name, module in model.named_modules():
        if isinstance(module, Packed):
            yield name.removesuffix(SUFFIX), module
