"""What each attention implementation needs, compared with what is known of machine and model. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from newt.extend import Facts

Capability = tuple[int, int]


@dataclass(frozen=True)
class Needs:
    """What an implementation needs.

    Attributes:
        gpu: it runs on a CUDA GPU only.
        packages: distributions, one of which must be installed.
        lowest: compute capability that it needs at least.
        beyond: first compute capability that it does not know.
        head_dim: largest head that it computes.
        half: it computes in float16 and bfloat16 only.
        cannot_train: why it cannot be used in training at all.
        cannot_train_on_cpu: why it cannot on a CPU.
    """

    gpu: bool = False
    packages: tuple[str, ...] = ()
    lowest: Capability | None = None
    beyond: Capability | None = None
    head_dim: int | None = None
    half: bool = False
    cannot_train: str = ""
    cannot_train_on_cpu: str = ""


_HUB = Needs(gpu=True, packages=("kernels",), lowest=(8, 0), head_dim=256, half=True)

IMPLEMENTATIONS: Mapping[str, Needs] = {
    "eager": Needs(),
    "sdpa": Needs(),
    "flex_attention": Needs(cannot_train_on_cpu="it has no backward pass there"),
    # transformers takes the kernel of the Hub where the package is missing and ``kernels`` is installed.
    "flash_attention_2": Needs(True, ("flash-attn", "kernels"), (8, 0), None, 256, True),
    "flash_attention_3": Needs(True, ("flash-attn-3", "kernels"), (8, 0), (10, 0), 256, True),
    "flash_attention_4": Needs(True, ("flash-attn-4", "kernels"), (9, 0), (12, 0), 128, True),
    "xformers": Needs(True, ("xformers",), (7, 0), None, 256, True),
    # https://github.com/thu-ml/SageAttention/issues/90: the gradient is cut off at the attention.
    "sage": Needs(
        True, ("sageattention",), (8, 0), (12, 1), 128, True, "it has no backward pass, and cuts the gradient off"
    ),
}
"""Name for ``attn_implementation`` -> what it needs."""

_HUB_NAME = re.compile(r"[^/:|]+/[^/:|]+(?:@[^/:|]+)?(?::[^/:|]+)?")


def needs(name: str) -> Needs | None:
    """What a name needs; ``org/name[@revision][:function]`` is a kernel of the Hub. None: it is no name."""
    return IMPLEMENTATIONS.get(name) or (_HUB if _HUB_NAME.fullmatch(name) else None)


def refusal(name: str, facts: Facts, *, half: bool) -> tuple[str, str] | None:
    """Why an implementation cannot train here, and what to do; None where it can, or nothing is known.

    Args:
        name: a known name.
        facts: of machine and model.
        half: attention computes in float16 or bfloat16.
    """
    found = needs(name)
    assert found is not None, "unknown names are refused before"
    if found.cannot_train:
        return f"{name} cannot train: {found.cannot_train}.", "Use sdpa or flash_attention_2."
    if not facts.known:
        return None
    if not facts.gpus:
        if found.gpu:
            return f"{name} needs a GPU, and there is none.", "Use attn_implementation: sdpa."
        if found.cannot_train_on_cpu:
            return f"{name} cannot train on a CPU: {found.cannot_train_on_cpu}.", "Use sdpa."
        return None
    return _on_gpu(name, found, facts, half=half)


def _on_gpu(name: str, found: Needs, facts: Facts, *, half: bool) -> tuple[str, str] | None:
    if found.packages and not any(package in facts.packages for package in found.packages):
        return f"{name} needs the package {' or '.join(found.packages)}.", "Install it, or use sdpa."
    capability = facts.capability
    here = ".".join(map(str, capability or ()))
    if found.lowest and capability and capability < found.lowest:
        lowest = ".".join(map(str, found.lowest))
        return f"{name} needs compute capability {lowest}, and this GPU has {here}.", "Use sdpa."
    if found.beyond and capability and capability >= found.beyond:
        return f"{name} does not know GPUs of compute capability {here}.", "Use flash_attention_2, or sdpa."
    heads = head_dim(facts.model)
    if found.head_dim and heads and heads > found.head_dim:
        message = f"{name} computes heads of at most {found.head_dim} numbers, and this model has {heads}."
        return message, "Use sdpa or flex_attention."
    if found.half and not half:
        return f"{name} computes in bfloat16 and float16 only.", "Set bf16: true (or fp16: true), or use sdpa."
    return None


def head_dim(model: Mapping[str, Any] | None) -> int | None:
    """Numbers in the largest attention head of a model's config.json, if it says so."""
    if model is None:
        return None
    values = {**model, **(model.get("text_config") or {})}
    layers = values.get("per_layer_config") or {}
    found = [values.get("head_dim"), values.get("global_head_dim"), values.get("v_head_dim")]
    found += [layer.get("head_dim") for layer in layers.values() if isinstance(layer, Mapping)]
    nope, rope = values.get("qk_nope_head_dim"), values.get("qk_rope_head_dim")
    if nope and rope:
        found.append(nope + rope)
    known = [size for size in found if isinstance(size, int)]
    if not known and values.get("hidden_size") and values.get("num_attention_heads"):
        known = [values["hidden_size"] // values["num_attention_heads"]]
    return max(known, default=None)
