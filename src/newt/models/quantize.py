"""Quantization configs of transformers, and what is kept of them beside an adapter for merging."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from newt.config.section import Config
from newt.models.experts import WithExperts, is_expert, quantized_experts
from newt.models.four_bits import through_four_bits
from newt.models.kbit import memory
from newt.support.errors import NewtError
from newt.support.files import write_atomically
from newt.support.optional import require

RECORD = "quantized_base.json"
EXPERTS_UNQUANTIZED = 0.5
"""Share of all parameters that experts may have before a base model in few bits must say what happens to them."""


def bitsandbytes_config(arguments: Mapping[str, Any], *, experts: bool = False) -> Any:
    """A ``BitsAndBytesConfig``.

    Args:
        arguments: its keyword arguments.
        experts: quantize the experts of a mixture too.

    Raises:
        NewtError: bitsandbytes is not installed, or does not take the arguments.
    """
    from transformers import BitsAndBytesConfig

    used_by = "load_in_4bit" if arguments.get("load_in_4bit") else "load_in_8bit"
    require("bitsandbytes", extra="bnb", used_by=used_by)
    return _made(WithExperts if experts else BitsAndBytesConfig, arguments, "bnb_config_kwargs")


def named_config(name: str, arguments: Mapping[str, Any]) -> Any:
    """``Mxfp4Config``, ``FineGrainedFP8Config`` or ``GPTQConfig``.

    Raises:
        NewtError: it does not take the arguments.
    """
    import transformers

    return _made(getattr(transformers, name), arguments, "model_quantization_config_kwargs")


def _made(kind: Any, arguments: Mapping[str, Any], key: str) -> Any:
    try:
        return kind(**arguments)
    except (TypeError, ValueError, AttributeError) as error:
        raise NewtError(f"{key}: {' '.join(str(error).split())}") from error


# --------------------------------------------------------------------------- experts that would stay as they are


def unquantized_experts(config: Any, loader: Any) -> tuple[int, int]:
    """(parameters of experts that bitsandbytes passes by, all parameters) of a model, without reading weights.

    Args:
        config: the transformers config.
        loader: an Auto class of transformers, or a model class.
    """
    model = skeleton(config, loader)
    sizes = [(name, parameter, parameter.numel()) for name, parameter in model.named_parameters()]
    return sum(size for name, p, size in sizes if is_expert(name, p)), sum(size for _, _, size in sizes)


def check_experts(config: Any, loader: Any, quantization: Any, *, acknowledged: bool) -> str | None:
    """What the user must know about experts that bitsandbytes leaves as they are: a line, or None.

    Args:
        config: the transformers config.
        loader: an Auto class of transformers, or a model class.
        quantization: the quantization config that the model will be loaded with, or None.
        acknowledged: the user's config says what happens to experts.

    Raises:
        NewtError: they are most of the model, and the user's config does not say that it may be so.
    """
    bits = getattr(quantization, "load_in_4bit", False) or getattr(quantization, "load_in_8bit", False)
    if not bits or isinstance(quantization, WithExperts) or "expert" not in str(config.to_dict().keys()):
        return None
    found, total = unquantized_experts(config, loader)
    if not found:
        return None
    text = f"{found:,} of {total:,} parameters are experts, which stay in 16 bits ({memory(2 * found)})"
    if found > EXPERTS_UNQUANTIZED * total and not acknowledged:
        raise NewtError(
            f"quantize_moe_experts: {text}: quantizing the rest saves little. Set quantize_moe_experts: true, or "
            "false if it is meant so"
        )
    return f"{text}: quantize_moe_experts: true quantizes them too"


def skeleton(config: Any, loader: Any) -> Any:
    """A model without weights, on the meta device."""
    build = getattr(loader, "from_config", None) or loader._from_config
    with torch.device("meta"):
        return build(config)


# --------------------------------------------------------------------------- what merging must know


@dataclass(frozen=True)
class Held:
    """How the weights of a base model were held in 4 bits while an adapter was trained on it.

    Attributes:
        kind: ``nf4`` or ``fp4``.
        double: double quantization.
        dtype: number type that they were given back in.
        on_cpu: they were quantized on a CPU.
        skip: names of modules that were left as they are.
        experts: experts of a mixture were quantized too.
    """

    kind: str = "nf4"
    double: bool = True
    dtype: str = "bfloat16"
    on_cpu: bool = False
    skip: tuple[str, ...] = ()
    experts: bool = False

    def through(self, weight: Tensor, *, transposed: bool = False) -> Tensor:
        """What training had in place of a weight: float32, of the same shape."""
        value = weight.to(getattr(torch, self.dtype))
        value = value.T.contiguous() if transposed else value
        value = through_four_bits(value, self.kind, self.double, on_cpu=self.on_cpu)
        return (value.T if transposed else value).float()

    def weights(self, model: nn.Module) -> dict[str, bool]:
        """Name of each weight of a full-precision model that was quantized -> it is stored as (in, out)."""
        skips = HfQuantizer.get_modules_to_not_convert(
            model, list(self.skip) or None, getattr(model, "_keep_in_fp32_modules", None), add_default_skips=True
        )
        found = {
            f"{name}.weight": isinstance(module, Conv1D)
            for name, module in model.named_modules()
            if (type(module) is nn.Linear or isinstance(module, Conv1D)) and should_convert_module(name, skips)
        }
        if self.experts:
            found |= {name: False for name, parameter in model.named_parameters() if is_expert(name, parameter)}
        return found

    def put_into(self, model: nn.Module) -> None:
        """Replace the weights of a full-precision model by what training had in their place."""
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, transposed in self.weights(model).items():
                parameters[name].copy_(self.through(parameters[name], transposed=transposed))

    def names(self, config: Any) -> dict[str, bool]:
        """``weights`` of a model of which only the config is known."""
        from transformers import AutoModelForCausalLM

        return self.weights(skeleton(config, AutoModelForCausalLM))


def held_by(model: Any) -> Held | None:
    """How a loaded model's weights are held; None if not in 4 bits."""
    if not getattr(model, "is_loaded_in_4bit", False):
        return None
    config = model.config.quantization_config
    packed = next((p for p in model.parameters() if hasattr(p, "quant_state")), None)
    if packed is None:
        return None
    return Held(
        kind=config.bnb_4bit_quant_type,
        double=bool(config.bnb_4bit_use_double_quant),
        dtype=str(packed.quant_state.dtype).removeprefix("torch."),
        on_cpu=packed.device.type == "cpu",
        skip=tuple(config.llm_int8_skip_modules or ()),
        experts=any(True for _ in quantized_experts(model)),
    )


def write_record(model: Any, folder: Path) -> None:
    """Keep ``Held`` beside an adapter, for merging; nothing for a base model that is not in 4 bits."""
    if (held := held_by(model)) is not None:
        write_atomically(folder / RECORD, json.dumps(asdict(held), indent=2) + "\n")


def read_record(folder: Path, cfg: Config) -> Held | None:
    """How the base was held when the adapter of a folder was trained: as was kept, else as the config says.

    Raises:
        NewtError: the record is damaged.
    """
    path = folder / RECORD
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return Held(**{**found, "skip": tuple(found["skip"])})
        except (ValueError, TypeError, KeyError) as error:
            raise NewtError(f"{path} is damaged: remove it, and the config decides") from error
    if not cfg.value("load_in_4bit") and cfg.value("adapter") != "qlora":
        return None
    further = cfg.value("bnb_config_kwargs") or {}
    return Held(
        kind=further.get("bnb_4bit_quant_type", "nf4"),
        double=further.get("bnb_4bit_use_double_quant", True),
        dtype=str(dtype_of_run(cfg)).removeprefix("torch."),
        skip=tuple(further.get("llm_int8_skip_modules") or ()),
        experts=bool(cfg.value("quantize_moe_experts")),
    )


def dtype_of_run(cfg: Config) -> torch.dtype:
    """The number type that a config names for a frozen base; bfloat16 where it names none."""
    kinds = {"float32": torch.float32, "float16": torch.float16, "fp16": torch.float16}
    return next((dtype for key, dtype in kinds.items() if cfg.value(key)), torch.bfloat16)
