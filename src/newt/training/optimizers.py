"""From a name and its numbers to an optimizer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from transformers.trainer_utils import check_target_module_exists

from newt.support.errors import NewtError
from newt.training.combined import Combined, Layerwise, load_exactly, place_projectors
from newt.training.groups import Groups, decaying, is_embedding, plain_groups, split
from newt.training.optimizer_table import Entry

MakeGroups = Callable[[nn.Module, "set[str]"], Groups]

PROJECTORS = (
    "galore_torch.galore_projector:GaLoreProjector",
    "apollo_torch.random_projector:GradientProjector",
    "apollo_torch.svd_projector:GaLoreProjector",
)
"""Classes in the state of GaLore and APOLLO."""


@dataclass(frozen=True)
class Wanted:
    """What the config asks for.

    Attributes:
        name: the value of ``optimizer``.
        entry: its entry in the table.
        rate: peak learning rate.
        decay: weight decay.
        options: arguments of its class.
        target: keys of the groups of ``modules``.
        modules: modules whose gradients are projected: ``all_linear``, a pattern, or parts of names.
        others: arguments of the AdamW that updates what is not a matrix.
        matrix_rate: learning rate of matrices, where they have their own.
        folder: where its package lies, when it is not installed.
        in_backward: each weight is updated as soon as its gradient is there.
    """

    name: str
    entry: Entry
    rate: float
    decay: float
    options: Mapping[str, Any] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    modules: str | Sequence[str] | None = None
    others: Mapping[str, Any] = field(default_factory=dict)
    matrix_rate: float | None = None
    folder: str | None = None
    in_backward: bool = False


def make_optimizer(model: nn.Module, wanted: Wanted, make_groups: MakeGroups | None = None) -> Optimizer:
    """Make the optimizer of a model.

    Args:
        model: the model, with its adapter, on its device.
        wanted: which optimizer.
        make_groups: rule for parameter groups; default: one rate, no decay of biases and norms.

    Raises:
        NewtError: a package is missing, or no parameter is left for it.
    """
    kind = _find_class(wanted)
    given = {
        name: getattr(torch, value) if name.endswith("_dtype") else value for name, value in wanted.options.items()
    }
    options = {**given, **_of_device(wanted.entry, model)}
    if wanted.entry.kind == "fused":
        return kind(model, lr=wanted.rate, weight_decay=wanted.decay, **options)  # type: ignore[no-any-return]
    groups = make_groups(model, decaying(model)) if make_groups else plain_groups(model, wanted.rate, wanted.decay)

    def build(some: Groups) -> Optimizer:
        return kind(some, lr=wanted.rate, weight_decay=wanted.decay, **options)  # type: ignore[no-any-return]

    optimizer = _of_kind(model, wanted, groups, build)
    if "bitsandbytes" in wanted.entry.packages:
        _keep_embeddings_whole(model, optimizer)
    load_exactly(optimizer)
    return optimizer


def _of_kind(model: nn.Module, wanted: Wanted, groups: Groups, build: Callable[[Groups], Optimizer]) -> Optimizer:
    if wanted.entry.kind == "matrices":
        return _with_adamw(model, wanted, groups, build)
    if wanted.entry.target:
        torch.serialization.add_safe_globals([_load(path) for path in PROJECTORS if _module_is_there(path)])
        groups = split(groups, _targets(model, wanted), wanted.target, {})
    one_by_one = wanted.in_backward or wanted.entry.kind == "layerwise"
    optimizer = Layerwise(groups, build) if one_by_one else build(groups)
    if wanted.entry.target:
        for part in optimizer.parts if isinstance(optimizer, Layerwise) else (optimizer,):
            part.register_step_pre_hook(place_projectors)
    return optimizer


def _find_class(wanted: Wanted) -> Any:
    if wanted.folder:
        folder = str(Path(wanted.folder).expanduser())
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        return _load(wanted.entry.make)
    except ImportError as error:
        raise NewtError(
            f"optimizer: {wanted.name} cannot be loaded: {error}. {how_to_install(wanted.entry)}"
        ) from error


def how_to_install(entry: Entry) -> str:
    """What to do when the package of an optimizer is missing."""
    if not entry.extra:
        return f"Install {entry.package} from its sources." if entry.package else ""
    return f"pip install 'newt-tune[{entry.extra}]'"


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _module_is_there(path: str) -> bool:
    try:
        _load(path)
    except ImportError:
        return False
    return True


def _of_device(entry: Entry, model: nn.Module) -> dict[str, Any]:
    """Arguments that depend on where the model is."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    return {"triton": False} if entry.package == "torch-optimi" and on_cpu else {}


def _targets(model: nn.Module, wanted: Wanted) -> set[int]:
    """Ids of the weights whose gradients are projected."""
    modules = wanted.modules
    every = isinstance(modules, str) and modules.replace("_", "-") == "all-linear"
    found = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
        if every or check_target_module_exists(modules, name)
    }
    if not found:
        raise NewtError(f"optim_target_modules: no trained linear layer matches {modules!r}.")
    return found


def _with_adamw(model: nn.Module, wanted: Wanted, groups: Groups, build: Callable[[Groups], Optimizer]) -> Optimizer:
    """Matrices in the one optimizer; embeddings, output layer, vectors and all else in AdamW."""
    chosen = {
        id(parameter)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.ndim == 2 and not is_embedding(name, model)
    }
    halves = split(groups, chosen, {"matrices": True}, {"matrices": False})
    matrices = [group for group in halves if group["matrices"]]
    rest = [group for group in halves if not group["matrices"]]
    if not matrices:
        raise NewtError(f"optimizer: {wanted.name} updates matrices, and none is trained. Use adamw_torch.")
    if wanted.matrix_rate is not None:
        for group in matrices:
            group["lr"] = wanted.matrix_rate * group["lr"] / wanted.rate

    def make(some: Groups) -> Optimizer:
        if some[0]["matrices"]:
            return build(some)
        return AdamW(some, lr=wanted.rate, weight_decay=wanted.decay, **wanted.others)

    if wanted.in_backward:
        return Layerwise([*matrices, *rest], make)
    return Combined([make(half) for half in (matrices, rest) if half])


def _keep_embeddings_whole(model: nn.Module, optimizer: Optimizer) -> None:
    """Keep the moments of embeddings in 32 bits: few rows of a gradient are not 0, which 8 bits hold badly.

    The package keeps such wishes in one manager of the whole process, by the ``id`` of a weight, which a later weight
    can have too. Here each optimizer has a manager of its own, which lives no longer than the weights.
    """
    from bitsandbytes.optim import GlobalOptimManager

    weights = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    manager = GlobalOptimManager.__new__(GlobalOptimManager)
    manager.initialize()
    manager.override_config(weights, key_value_dict={"optim_bits": 32})
    parts: Sequence[Any] = optimizer.parts if isinstance(optimizer, Combined) else [optimizer]
    for part in parts:
        part.mng = manager
