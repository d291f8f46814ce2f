"""Checkpoints whose weights are stored in few bits: whether an adapter can be trained on them. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

READ_BY = {
    "mxfp4": "Mxfp4Config",
    "fp8": "FineGrainedFP8Config",
    "mxfp8": "FineGrainedFP8Config",
    "compressed-tensors": "CompressedTensorsConfig",
}
"""How weights are stored -> the class that reads them: the value of ``model_quantization_config``."""

NEEDS = {"awq": ("gptqmodel", "gptqmodel"), "torchao": ("torchao", "'newt-tune[torchao]'")}
"""How weights are stored -> the package that reads them, and what pip installs."""

INT8, FLOAT8 = "Int8WeightOnlyConfig", "Float8WeightOnlyConfig"
"""Types of torchao whose weights pass a gradient on, the second in bfloat16 alone. Those that quantize activations too
do not, and transformers trains on none of fewer bits."""

FULL = "Take the checkpoint that is not quantized."


def refusal(stored: Mapping[str, Any], packages: Mapping[str, str], bf16: bool) -> tuple[str, str] | None:
    """Why an adapter cannot be trained on such weights, and what to do. None: it can.

    Args:
        stored: ``quantization_config`` of a config.json, of a method that no key asks for.
        packages: installed distributions.
        bf16: the run computes in bfloat16.
    """
    method = str(stored.get("quant_method", "unknown method"))
    if method == "hqq":
        return "its weights are quantized (hqq), which transformers 5 cannot read.", FULL
    if method not in NEEDS:
        return f"Newt trains nothing on weights that are quantized by {method}.", FULL
    package, install = NEEDS[method]
    if package not in packages:
        message = f"its weights are quantized ({method}), and reading them needs the package {package}."
        return message, f"pip install {install}"
    return _torchao_refusal(stored, bf16) if method == "torchao" else None


def _torchao_refusal(stored: Mapping[str, Any], bf16: bool) -> tuple[str, str] | None:
    kind = _torchao(stored)
    if kind not in (INT8, FLOAT8):
        return f"its weights are quantized by {kind} of torchao, which cannot be trained on.", FULL
    if kind == FLOAT8 and not bf16:
        return f"its weights are quantized by {kind} of torchao, which computes in bfloat16.", "Set bf16: true."
    return None


def _torchao(stored: Mapping[str, Any]) -> str:
    kind = stored.get("quant_type")
    default = kind.get("default", kind) if isinstance(kind, Mapping) else kind
    return str(default.get("_type", "a type unknown here")) if isinstance(default, Mapping) else str(default)
