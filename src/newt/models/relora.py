"""ReLoRA's restarts: the adapter goes into the base weights and begins anew. https://arxiv.org/abs/2307.05695

After a restart an adapter only makes sense on the base that it left behind, so that base is kept next to it: a whole
model in the folder ``relora``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from newt.models.quiet import quiet
from newt.support.errors import NewtError

FOLDER = "relora"
MOMENTS = (("exp_avg", "exp_avg_sq"), ("state1", "state2"))
"""Names of Adam's two moments: in torch, in bitsandbytes."""

Prune = Literal["magnitude", "random", "reset"]
RATIOS: dict[str, float] = {"magnitude": 0.9, "random": 0.9, "reset": 0.999}
"""Share of the moments that is forgotten, by method."""


def check_restartable(model: Any) -> None:
    """Refuse adapters that a restart cannot put into the base without changing what the model computes.

    Raises:
        NewtError: names the reason.
    """
    base = model.get_base_model()
    ends = base.get_input_embeddings(), base.get_output_embeddings()
    tied = ends[1] is not None and _weight(ends[0]) is _weight(ends[1])
    if tied and any(hasattr(end, "lora_embedding_A") and (end.lora_A or end.lora_embedding_A) for end in ends):
        raise NewtError(
            "relora: the embedding and the output layer are one weight, and a restart would change both. Take them "
            "out of lora_target_modules, or name them in lora_modules_to_save"
        )
    if not any(True for _ in _lora_layers(model)):
        raise NewtError("relora: the model has no LoRA layers")


def restart(model: Any, *, on_cpu: bool = False) -> None:
    """Add every adapted layer's update to its base weight, and give the adapter its first values again.

    Args:
        model: peft's wrapper; changed in place.
        on_cpu: compute on the CPU, layer by layer.
    """
    name = model.active_adapter
    begin = model.peft_config[name].init_lora_weights
    for layer in _lora_layers(model):
        device = _weight(layer).device
        if on_cpu:
            layer.to("cpu")
        with torch.no_grad():
            layer.merge(adapter_names=[name])
            layer.merged_adapters.clear()
            layer.reset_lora_parameters(name, begin if isinstance(begin, str) else True)
            for magnitude in getattr(layer, "lora_magnitude_vector", {}).values():  # DoRA: the new base has its sign
                magnitude.weight.abs_()
        if on_cpu:
            layer.to(device)


def prune(optimizer: Any, model: nn.Module, method: Prune, ratio: float | None = None) -> int:
    """Forget most of what Adam knows of the adapter: the values are set to zero.

    Args:
        optimizer: an Adam-like optimizer.
        model: the model; parameters with ``lora_`` in their name are the adapter's.
        method: the smallest values by magnitude, or random ones; ``reset`` is random and nearly all.
        ratio: share that is forgotten; default: 0.9, ``reset``: 0.999.

    Returns:
        number of values that were set to zero.

    Raises:
        NewtError: the optimizer has no such state.
    """
    share = RATIOS[method] if ratio is None else ratio
    count = 0
    found = False
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {}) if "lora_" in name else {}
        for first, second in MOMENTS:
            if state.get(second) is not None:
                sizes = _values(state, second)
                if sizes is None:
                    raise NewtError(f"relora: the moments of {type(optimizer).__name__} have no zero. Use adamw_torch")
                found = True
                kept = _kept(sizes, method, share)
                # A first moment whose second is gone would make a step of any size.
                values = _values(state, first) if method == "magnitude" else None
                both = kept if values is None else kept & _kept(values, method, share)
                _forget(state, second, ~kept)
                _forget(state, first, ~both)
                count += int((~kept).sum() + (~both).sum())
    if not found:
        raise NewtError(f"relora: {type(optimizer).__name__} has no moments that can be pruned. Use adamw_torch")
    return count


def _values(state: Mapping[str, Any], name: str) -> Tensor | None:
    """A moment as numbers, also where it is held in 8 bits; None where there is none."""
    moment: Any = state.get(name)
    values: Tensor
    if hasattr(moment, "qmap"):  # torchao
        values = moment.dequantize()
        return None if _zero(moment.qmap) is None else values
    if moment is None or moment.is_floating_point():
        values = moment
        return values
    number = name[-1]  # bitsandbytes: one magnitude for each block of codes
    qmap, sizes = state.get(f"qmap{number}"), state.get(f"absmax{number}")
    if qmap is None or sizes is None or _zero(qmap) is None:
        return None
    values = qmap[moment.flatten().long()]
    block = -(-values.numel() // sizes.numel())
    block = 1 << (block - 1).bit_length()  # the last block may be shorter than the others
    scales: Tensor = sizes.repeat_interleave(block)[: values.numel()]
    return (values * scales).view(moment.shape)


def _forget(state: Mapping[str, Any], name: str, gone: Tensor) -> None:
    """Set values of a moment to zero. In 8 bits that is the code of zero, and all other values stay bit for bit."""
    moment = state[name]
    if hasattr(moment, "qmap"):
        codes = moment.codes.view(gone.shape)
        codes.masked_fill_(gone, _zero(moment.qmap))
    elif moment.is_floating_point():
        moment.masked_fill_(gone, 0)
    else:
        moment.masked_fill_(gone, _zero(state[f"qmap{name[-1]}"]))


def _zero(qmap: Tensor) -> int | None:
    """The code of zero; None in types that have none, as that of the second moment in 4 bits."""
    place = int(qmap.abs().argmin())
    return place if qmap[place] == 0 else None


def _kept(values: Tensor, method: Prune, share: float) -> Tensor:
    """True for each value that stays."""
    if method != "magnitude":
        return torch.rand_like(values, dtype=torch.float32) >= share
    sizes = values.abs().float()
    # torch.quantile is limited to 16 million values; the threshold is the value at that place of the sorted list.
    place = min(int(share * (sizes.numel() - 1)), sizes.numel() - 1)
    return sizes > sizes.flatten().kthvalue(place + 1).values if share else torch.ones_like(sizes, dtype=torch.bool)


def save_base(model: Any, folder: Path) -> None:
    """Write the base as it is now, a whole model, into a folder."""
    base = model.get_base_model()
    with quiet():
        base.save_pretrained(folder, state_dict=dict(_base_state(base)))


def name_base(folder: Path, base: Path) -> None:
    """Say in an adapter's folder which base it fits: without it the adapter is wrong.

    Args:
        folder: holds the adapter.
        base: where its base will be.
    """
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "base_model_name_or_path": str(base)}, indent=2) + "\n", encoding="utf-8")


def load_base(model: Any, source: Path) -> None:
    """Put back the base that ``save_base`` wrote.

    Args:
        model: peft's wrapper, or the bare model.
        source: the folder.

    Raises:
        NewtError: it is missing, or of another model.
    """
    if not (source / "config.json").is_file():
        raise NewtError(f"{source.parent} holds no base of ReLoRA: the folder {source.name} is missing")
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    with quiet():
        stored = type(base).from_pretrained(source, dtype="auto").state_dict()
    state = dict(_base_state(base))
    wrong = sorted(name for name in state if name not in stored or stored[name].shape != state[name].shape)
    if wrong:
        raise NewtError(f"{source} belongs to another model: {len(wrong)} tensors differ, such as {wrong[0]}")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(stored[name])


def _base_state(base: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names of the bare model, and its tensors without those of the adapter."""
    for name, tensor in base.state_dict().items():
        if "lora_" not in name and ".modules_to_save." not in name and "trainable_tokens_" not in name:
            yield name.replace(".base_layer.", ".").replace(".original_module.", "."), tensor


def _lora_layers(model: Any) -> Iterator[Any]:
    for module in model.modules():
        if hasattr(module, "lora_A") and hasattr(module, "merge") and hasattr(module, "reset_lora_parameters"):
            yield module


def _weight(layer: Any) -> Tensor:
    weight: Tensor = (layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer).weight
    return weight
