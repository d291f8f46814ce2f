"""Freezing parameters, or rows of them, in place."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from newt.support.errors import NewtError

MEDIA = frozenset({
    "vision_tower", "vision_model", "vision_encoder", "embed_vision", "multi_modal_projector", "visual",
    "audio_tower", "audio_model", "embed_audio",
})  # fmt: skip
"""Names of modules that read images or sound."""

Rows = tuple[int, "int | None"]


def train_only(model: nn.Module, chosen: Sequence[tuple[str, Rows | None]]) -> None:
    """Freeze everything but the chosen parameters.

    Rows that are not chosen get no gradient. Weight decay would still shrink them, and some optimizers mix rows, so
    each such parameter knows its rows (``frozen_rows``), and they are put back after each step.

    Args:
        model: changed in place.
        chosen: regular expressions, matched at the start of full parameter names, with the rows (start, stop) of the
            first dimension that are trained, or None for all.

    Raises:
        NewtError: an expression matches nothing, or rows lie beyond the parameter.
    """
    named: list[tuple[str, Any]] = list(model.named_parameters(remove_duplicate=False))
    for _, parameter in named:
        parameter.requires_grad = False
    rows: dict[int, Tensor | None] = {}
    for expression, limits in chosen:
        hits = [(name, parameter) for name, parameter in named if re.match(expression, name)]
        if not hits:
            examples = ", ".join(name for name, _ in named[:: max(1, len(named) // 4)][:4])
            raise NewtError(
                f"unfrozen_parameters: {expression!r} matches no parameter. The model has names such as {examples}"
            )
        for name, parameter in hits:
            parameter.requires_grad = True
            rows[id(parameter)] = _union(rows, parameter, _mask(name, parameter, limits))
    for parameter in {id(parameter): parameter for _, parameter in named}.values():
        mask = rows.get(id(parameter))
        if mask is not None:
            parameter.register_hook(_keep(mask))
            parameter.newt_frozen_rows = ~mask


def frozen_rows(parameter: Any) -> Tensor | None:
    """True for each row of a trained parameter that must not change; None if all may."""
    found: Tensor | None = getattr(parameter, "newt_frozen_rows", None)
    return found


def trained_size(parameter: Any) -> int:
    """Number of values of a parameter that are trained."""
    if not parameter.requires_grad:
        return 0
    rows = frozen_rows(parameter)
    held = 0 if rows is None else int(rows.sum()) * (parameter.numel() // len(rows))
    return int(parameter.numel()) - held


def freeze_media(model: nn.Module) -> int:
    """Freeze the modules that read images or sound; returns the number of parameters in them.

    Raises:
        NewtError: the model has none.
    """
    count = 0
    for name, parameter in model.named_parameters():
        if MEDIA & set(name.split(".")):
            parameter.requires_grad = False
            count += parameter.numel()
    if not count:
        raise NewtError("freeze_mm_modules: this model has no modules that read images or sound. Remove the key")
    return count


def _mask(name: str, parameter: Tensor, limits: Rows | None) -> Tensor | None:
    """True for each trained row; None for all rows."""
    if limits is None:
        return None
    size = parameter.shape[0]
    start, stop = limits[0], size if limits[1] is None else limits[1]
    if stop > size or start >= size:
        last = max(start, stop - 1)
        raise NewtError(f"unfrozen_parameters: there is no row {last} in {name}, which has {size} rows, from 0 on")
    mask = torch.zeros(size, dtype=torch.bool)
    mask[start:stop] = True
    return mask


def _union(rows: dict[int, Tensor | None], parameter: Tensor, mask: Tensor | None) -> Tensor | None:
    if id(parameter) not in rows:
        return mask
    before = rows[id(parameter)]
    return None if before is None or mask is None else before | mask


def _keep(mask: Tensor) -> Callable[[Tensor], Tensor]:
    """Hook that sets the gradient of all other rows to zero."""

    def hook(grad: Tensor) -> Tensor:
        shape = (-1, *(1 for _ in grad.shape[1:]))
        return grad * mask.to(grad.device).view(shape)

    return hook
