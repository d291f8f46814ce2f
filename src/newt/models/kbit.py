"""Base models whose weights take few bits: what must be done after loading, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from newt.models.four_bits import BLOCK, through_four_bits
from newt.support.errors import NewtError

GIB, MIB = 2**30, 2**20


def is_quantized(model: Any) -> bool:
    """Whether the model was loaded with weights in few bits."""
    return bool(getattr(model, "is_quantized", False))


def settle(model: Any) -> None:
    """Make a freshly loaded model safe to train, to evaluate and to merge; nothing for one that is not quantized.

    bitsandbytes stores a 4-bit weight in another order at the first evaluation on a CPU with AVX512-BF16 (from the
    switch below: a public attribute of ``Linear4bit``). The weight can then neither be given back in full, as merging
    does, nor pass a gradient to its input, and neither is noticed: training would go on with a few layers.

    Raises:
        NewtError: layers whose weights bitsandbytes gives back wrongly on a CPU, or none that it has quantized.
    """
    _refuse_unquantized(model)
    wrong: list[str] = []
    for name, module in model.named_modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            on_cpu = module.weight.device.type == "cpu"
            if on_cpu and not gives_back(module.in_features, module.weight.quant_type):
                wrong.append(name.rpartition(".")[2])
    if wrong:
        names = ", ".join(dict.fromkeys(wrong))
        raise NewtError(
            f"load_in_4bit: on a CPU bitsandbytes gives weights back wrongly whose rows are no multiple of {BLOCK} "
            f"values long. Leave them as they are: bnb_config_kwargs: {{llm_int8_skip_modules: [{names}]}}"
        )


def _refuse_unquantized(model: Any) -> None:
    """bitsandbytes quantizes ``nn.Linear``, not the classes derived from it, and says nothing."""
    key = next((f"load_in_{bits}bit" for bits in (4, 8) if getattr(model, f"is_loaded_in_{bits}bit", False)), None)
    if key and not any(is_packed(parameter) for parameter in model.parameters()):
        head = model.get_output_embeddings()
        kinds = dict.fromkeys(
            type(module).__name__ for module in model.modules() if isinstance(module, nn.Linear) and module is not head
        )
        raise NewtError(
            f"{key}: bitsandbytes quantizes none of this model's layers ({', '.join(kinds)}): it would be as large as "
            f"before. Remove {key}, and use adapter: lora"
        )


@lru_cache
def gives_back(columns: int, kind: str) -> bool:
    """Whether bitsandbytes gives a 4-bit matrix of so many columns back rightly on a CPU.

    It reads the magnitudes of a row's blocks as if each row began with a new block, which is so only in rows of whole
    blocks. Its path for other widths is right, so it is tried.
    """
    if columns % BLOCK == 0:
        return True
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = torch.linspace(-1, 1, 8 * columns).reshape(8, columns) ** 3
    packed, state = quantize_4bit(weight, quant_type=kind)
    return torch.equal(dequantize_4bit(packed, state), through_four_bits(weight, kind, double=False))


def prepare_for_adapter(model: Any, checkpointing: Mapping[str, Any] | None) -> None:
    """Freeze a quantized model before it gets an adapter.

    Norms, embeddings and output layer stay in the number type of the arithmetic. (Widely used recipes cast them to
    float32 and, once the adapter is there, back again: the same weights in the end, with more memory on the way.)

    Args:
        model: a quantized transformers model.
        checkpointing: arguments of activation checkpointing, or None without it. Its reentrant form loses the gradient
            where no input of a layer needs one, so the embedding's output is made to need one.
    """
    model.requires_grad_(False)
    if (checkpointing or {}).get("use_reentrant"):
        model.enable_input_require_grads()


def size_of(parameter: Any) -> int:
    """Number of values that a parameter stands for; a packed one holds several in one number."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return int(parameter.numel())
    size = 1
    for side in state.shape:
        size *= int(side)
    return size


def format_of(parameter: Any) -> str:
    """How a parameter is held: ``nf4``, ``fp4``, ``int8``, or its number type, such as ``bfloat16``."""
    if is_packed(parameter):
        state = getattr(parameter, "quant_state", None)
        return str(getattr(state, "kind", None) or getattr(state, "quant_type", None) or "int8")
    return str(parameter.dtype).removeprefix("torch.")


def is_packed(parameter: Any) -> bool:
    """Whether a parameter is held in 4 or 8 bits by bitsandbytes."""
    return hasattr(parameter, "quant_state") or type(parameter).__name__ in ("Params4bit", "Int8Params")


def holdings(model: nn.Module) -> tuple[int, int, int]:
    """(values in few bits, all values, bytes of all parameters with what is needed to give them back)."""
    packed = total = size = 0
    for parameter in model.parameters():
        values = size_of(parameter)
        total += values
        packed += values if is_packed(parameter) else 0
        size += sum(tensor.numel() * tensor.element_size() for tensor in _tensors(parameter))
    return packed, total, size


def _tensors(parameter: Any) -> Iterator[Any]:
    """What of a parameter is in memory: its values, and what is needed to give them back."""
    state: Any = getattr(parameter, "quant_state", None)
    if hasattr(state, "tensors"):  # experts: the parameter is a placeholder
        yield from state.tensors()
        return
    yield parameter
    if state is not None:
        yield state.absmax
        if state.nested:
            yield state.state2.absmax
    if (rows := getattr(parameter, "SCB", None)) is not None:
        yield rows


def memory(size: int) -> str:
    """A number of bytes as text."""
    return f"{size / GIB:.2f} GiB" if size >= 0.1 * GIB else f"{size / MIB:.1f} MiB"


def describe(model: nn.Module) -> str:
    """One line for the user: how much of the model is in few bits, and the memory of its weights."""
    packed, total, size = holdings(model)
    if not packed:  # held in a form of their own, which is not counted here
        method = getattr(model, "quantization_method", "")
        return f"the base model's weights are quantized ({getattr(method, 'value', method)})"
    bits = "4" if getattr(model, "is_loaded_in_4bit", False) else "8"
    return (
        f"{packed:,} of {total:,} parameters of the base model are held in {bits} bits: {memory(size)}, "
        f"instead of {memory(2 * total)} in 16 bits"
    )
