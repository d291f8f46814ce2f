"""Weights that are much larger in one layer than the same weight in the others."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from newt.support.errors import NewtError

KEY = "normalize_weight_scales"
_LAYER = re.compile(r"\.\d+(?=\.)")


@dataclass(frozen=True)
class Scale:
    """Standard deviation of a weight, and the median over its siblings (the weight itself is one of them)."""

    name: str
    deviation: float
    median: float

    @property
    def ratio(self) -> float:
        """How many times the median it is."""
        return self.deviation / self.median if self.median else 1.0


def normalize(model: nn.Module, pattern: str, threshold: float, *, dry_run: bool = False) -> list[str]:
    """Rescale weights in place whose standard deviation is more than ``threshold`` times that of their siblings.

    Args:
        model: the model; its weights may be in 16 bits.
        pattern: regular expression, searched in the names of parameters.
        threshold: above 1.
        dry_run: change nothing.

    Returns:
        Lines for the user: a summary, then one for each of these weights.

    Raises:
        NewtError: the pattern matches no weight, or weights that are quantized.
    """
    scales = find_scales(model, pattern)
    outliers = [scale for scale in scales if scale.ratio > threshold]
    parameters = dict(model.named_parameters())
    for scale in outliers if not dry_run else ():
        _multiply(parameters[scale.name], scale.median / scale.deviation)
    did = "would be rescaled (dry_run)" if dry_run else "rescaled"
    largest = max(scale.ratio for scale in scales)
    head = (
        f"{KEY}: {pattern!r} matches {len(scales)} weights, at most {largest:.2f} times the median of their siblings; "
        f"{len(outliers)} {did}"
    )
    width = max((len(scale.name) for scale in outliers), default=0)
    return [head, *(_line(scale, width) for scale in outliers)]


def find_scales(model: nn.Module, pattern: str) -> list[Scale]:
    """The scale of every weight that matches, beside the median of its siblings: the same name in any layer.

    Raises:
        NewtError: see ``normalize``.
    """
    matching = [name for name, _ in model.named_parameters() if re.search(pattern, name)]
    if not matching:
        raise NewtError(f"{KEY}: {pattern!r} matches no parameter of this model")
    families = {family_of(name) for name in matching}
    deviations: dict[str, dict[str, float]] = defaultdict(dict)
    for name, parameter in model.named_parameters():
        if (family := family_of(name)) in families:
            if not parameter.is_floating_point():
                raise NewtError(f"{KEY}: {name} is quantized, and cannot be rescaled. Remove the rule {pattern!r}")
            deviations[family][name] = deviation_of(parameter)
    medians = {family: statistics.median(found.values()) for family, found in deviations.items()}
    return [Scale(name, deviations[family_of(name)][name], medians[family_of(name)]) for name in matching]


def family_of(name: str) -> str:
    """A parameter's name without the number of its layer: the first one."""
    return _LAYER.sub("", name, count=1)


def deviation_of(weight: Tensor) -> float:
    """Standard deviation, in float32 at least; 0 for a single value."""
    return float(weight.detach().float().std()) if weight.numel() > 1 else 0.0


def _multiply(weight: Tensor, factor: float) -> None:
    """In float32: a factor that was rounded to 16 bits would be off by up to 0.4 %."""
    with torch.no_grad():
        weight.copy_(weight.float() * factor)


def _line(scale: Scale, width: int) -> str:
    return f"  {scale.name:{width}}  std {scale.deviation:.3g}, median {scale.median:.3g}: {scale.ratio:.2f} times"
