"""Which parameters an optimizer gets, in which groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn
from transformers.trainer_pt_utils import get_parameter_names

from newt.support.errors import NewtError

Groups = list[dict[str, Any]]

NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""Parameter names that weight decay leaves alone, with those of ``nn.LayerNorm``: the rule of transformers."""

SAVED = "modules_to_save.default.weight"


def decaying(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay shrinks: no biases, no norms."""
    return set(get_parameter_names(model, [nn.LayerNorm], NOT_DECAYED))


def plain_groups(model: nn.Module, rate: float, decay: float) -> Groups:
    """One learning rate for all trained parameters; biases and norms do not decay."""
    shrunk = decaying(model)
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups: Groups = [
        {"name": "all", "params": [p for n, p in trained if n in shrunk], "lr": rate, "weight_decay": decay},
        {"name": "all without decay", "params": [p for n, p in trained if n not in shrunk], "lr": rate,
         "weight_decay": 0.0},
    ]  # fmt: skip
    return [group for group in groups if group["params"]]


def rated_groups(
    model: nn.Module,
    shrunk: Collection[str],
    *,
    rate: float,
    decay: float,
    embedding_rate: float,
    modules: Mapping[str, tuple[Sequence[str], float]],
) -> Groups:
    """Groups with learning rates of their own: those of named modules, of embeddings, and the rest.

    A parameter belongs to the first entry of ``modules`` that names a part of its name, else to the embeddings if it
    is one (they do not decay), else to the rest.

    Args:
        model: the model.
        shrunk: names of the parameters that weight decay shrinks.
        rate: peak learning rate of the rest.
        decay: weight decay.
        embedding_rate: peak learning rate of the embeddings and the output layer.
        modules: name of a group -> (parts of parameter names, peak learning rate).

    Raises:
        NewtError: an entry matches no trained parameter.
    """
    rates = {**{name: found for name, (_, found) in modules.items()}, "embeddings": embedding_rate, "rest": rate}
    found: dict[tuple[str, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = _group_of(name, modules, model)
            found.setdefault((group, name in shrunk and group != "embeddings"), []).append(parameter)
    for name, (parts, _) in modules.items():
        if (name, True) not in found and (name, False) not in found:
            raise NewtError(
                f"lr_groups: no trained parameter matches {', '.join(map(repr, parts))} of the group {name}. "
                f"Trained are: {_some(model)}"
            )
    return [
        {"name": name if shrinks or name == "embeddings" else f"{name} without decay", "params": found[name, shrinks],
         "lr": peak, "weight_decay": decay if shrinks else 0.0}
        for name, peak in rates.items()
        for shrinks in (True, False)
        if (name, shrinks) in found
    ]  # fmt: skip


def _group_of(name: str, modules: Mapping[str, tuple[Sequence[str], float]], model: nn.Module) -> str:
    for group, (parts, _) in modules.items():
        if any(part in name for part in parts):
            return group
    return "embeddings" if is_embedding(name, model) else "rest"


def is_embedding(name: str, model: nn.Module) -> bool:
    """Whether a parameter is the weight of an embedding or of the output layer, or of a module that is trained beside
    an adapter."""
    if name.endswith(SAVED) or "embed_tokens" in name or "lm_head" in name:
        return True
    owner = model.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, nn.Embedding) or owner is _output_layer(model)


def _output_layer(model: nn.Module) -> Any:
    get = getattr(model, "get_output_embeddings", None)
    return get() if get is not None else None


def _some(model: nn.Module) -> str:
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def split(groups: Groups, chosen: Collection[int], ours: Mapping[str, Any], others: Mapping[str, Any]) -> Groups:
    """Split each group in two: parameters whose ``id`` is in ``chosen``, and the others; each half gets further keys.

    Args:
        groups: parameter groups.
        chosen: ids of parameters.
        ours: keys of the first half.
        others: keys of the second half.
    """
    halves = (
        {**group, "params": [p for p in group["params"] if (id(p) in chosen) == inside], **keys}
        for group in groups
        for inside, keys in ((True, ours), (False, others))
    )
    return [half for half in halves if half["params"]]
