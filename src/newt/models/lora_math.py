"""The arithmetic of a LoRA merge: one base weight and its update to one new weight.

The update of a weight W (out, in) is ``scale * B @ A`` with A (r, in), B (out, r) and scale ``alpha / r``
(rank-stabilized: ``alpha / sqrt(r)``, https://arxiv.org/abs/2312.03732). DoRA (https://arxiv.org/abs/2402.09353)
then gives each output its learned norm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from newt.support.errors import NewtError


@dataclass
class Update:
    """What the adapter holds for one weight: low-rank factors, rows, or the whole new weight.

    Attributes:
        a, b: factors of a layer (r, in) and (out, r), of a convolution, or of experts: (experts * r, in), with the
            experts outermost, and (out, r * experts), with the experts innermost.
        embedding_a, embedding_b: (r, rows) and (width, r).
        magnitude: DoRA's norms.
        whole: the new weight.
        rows: new values of the rows ``row_numbers``.
        in_out: experts are stored as (experts, in, out).
    """

    a: Tensor | None = None
    b: Tensor | None = None
    embedding_a: Tensor | None = None
    embedding_b: Tensor | None = None
    magnitude: Tensor | None = None
    whole: Tensor | None = None
    rows: Tensor | None = None
    row_numbers: tuple[int, ...] = ()
    in_out: bool = False


def _scale(name: str, settings: Mapping[str, Any], rank: int) -> float:
    """alpha / r of a weight, with the patterns for single modules; ``rank`` is the size of its matrices."""
    module = name.removesuffix(".weight")
    alpha = _by_pattern(settings.get("alpha_pattern") or {}, module, settings["lora_alpha"])
    wanted = _by_pattern(settings.get("rank_pattern") or {}, module, settings["r"])
    if wanted != rank or rank <= 0:
        raise NewtError(f"The adapter's {module} has rank {rank}, but its config says {wanted}")
    return float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that the module's name ends with (peft's rule)."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def merged_weight(weight: Tensor, update: Update, name: str, settings: Mapping[str, Any]) -> Tensor:
    """A base weight with its update: float32 arithmetic, the base's number type and shape."""
    if update.whole is not None:
        weight = update.whole.to(weight.dtype)
    if update.rows is not None:
        weight = weight.index_copy(0, torch.tensor(update.row_numbers), update.rows.to(weight.dtype))
    if update.a is None and update.embedding_a is None:
        return weight
    base = weight.float()
    delta = _delta(update, name, settings, tuple(base.shape))
    if delta.shape != base.shape:
        raise NewtError(f"The adapter does not fit {name}: its update is {tuple(delta.shape)}, not {tuple(base.shape)}")
    new = base + delta
    if update.magnitude is not None:
        new = _with_norms(new, update.magnitude.float(), transposed=_transposed(settings) or update.a is None)
    return new.to(weight.dtype).contiguous()


def _delta(update: Update, name: str, settings: Mapping[str, Any], shape: tuple[int, ...]) -> Tensor:
    if update.embedding_a is not None and update.embedding_b is not None:
        a, b = update.embedding_a.float(), update.embedding_b.float()  # (r, rows), (width, r)
        return (b @ a).T * _scale(name, settings, a.shape[0])
    assert update.a is not None and update.b is not None
    a, b = update.a.float(), update.b.float()
    if len(shape) == 3 and a.ndim == 2:
        return _experts_delta(a, b, shape[0], in_out=update.in_out) * _scale(name, settings, a.shape[0] // shape[0])
    if a.ndim > 2:
        return _convolution_delta(a, b, shape) * _scale(name, settings, a.shape[0])
    delta = (b @ a) * _scale(name, settings, a.shape[0])
    return delta.T if _transposed(settings) else delta


def _experts_delta(a: Tensor, b: Tensor, experts: int, *, in_out: bool) -> Tensor:
    """peft stacks the rows of A by expert, and lets the expert run fastest in the columns of B."""
    a = a.reshape(experts, -1, a.shape[-1])
    b = b.reshape(b.shape[0], -1, experts)
    return torch.einsum("ore,eri->eio" if in_out else "ore,eri->eoi", b, a)


def _convolution_delta(a: Tensor, b: Tensor, shape: tuple[int, ...]) -> Tensor:
    """B is 1x1 with shape (out, r, 1...), A has the kernel: (r, in / groups, *kernel)."""
    return (b.flatten(1) @ a.flatten(1)).reshape(shape)


def _transposed(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("fan_in_fan_out"))


def _with_norms(weight: Tensor, magnitude: Tensor, *, transposed: bool) -> Tensor:
    """Scale every output's weights to its learned norm."""
    shape: tuple[int, ...]
    if transposed:
        norms, shape = weight.norm(dim=0), (1, -1)
    else:
        norms, shape = weight.flatten(1).norm(dim=1), (-1, *([1] * (weight.ndim - 1)))
    factors: Tensor = (magnitude.flatten() / norms).reshape(shape)
    return weight * factors
