"""Adapters that begin from training data; peft finds their directions, in the base model without an adapter.

EVA (https://arxiv.org/abs/2410.07170): A begins as the main directions of what a layer reads, B as zero; layers whose
inputs need more directions get more of the ranks. CorDA (https://arxiv.org/abs/2406.05223): B A begins as the part of
the weight that matters most for what the layer reads. LoRA-GA (https://arxiv.org/abs/2407.05000): as main directions of
the weight's gradient. The last two take their beginning out of the base, so that the model computes the same at first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from newt.extend import FirstBatches
from newt.losses.causal import IGNORED
from newt.models.adapter_files import adapter_config
from newt.models.adapters import PEFT_ERRORS, attach_lora, expert_targets, target_modules
from newt.models.kbit import is_quantized
from newt.models.portable import lora_layers, read_beginning, remember_beginning, take_out
from newt.support.errors import NewtError
from newt.support.log import note, progress

ROWS = {"eva": 512, "corda": 256, "lora_ga": 64}
"""Way to begin -> rows of the training data that it looks at. The papers of CorDA and LoRA-GA use 256, and 8 to 64."""

MOST_PASSES = 300
"""Batches after which the directions of EVA must have settled."""

PADDING = {"input_ids": 0, "attention_mask": 0, "labels": IGNORED}

KEY = "peft_init_lora_weights"


def attach_from_data(
    model: Any,
    modules: str | Sequence[str] | None,
    *,
    linear: bool,
    options: Mapping[str, Any],
    data: FirstBatches,
    float32: bool = True,
) -> Any:
    """The model with a new LoRA adapter that begins from training data, or with that of the checkpoint to go on from.

    Args:
        model: a transformers model.
        modules: names, or one regular expression; see ``attach_lora``.
        linear: also target every linear layer except the output layer.
        options: further arguments of ``peft.LoraConfig``; ``init_lora_weights`` is ``eva``, ``corda`` or ``lora_ga``.
        data: the training data, and the checkpoint. With one, the data are not looked at.
        float32: hold the adapter in float32.

    Raises:
        NewtError: the adapter does not fit the model, or the data are too few.
    """
    init = str(options["init_lora_weights"])
    plain = {**options, "init_lora_weights": True}
    if torch.cuda.is_available() and not is_quantized(model):
        model.to("cuda")
    if data.checkpoint is not None:
        if init == "eva":
            saved = adapter_config(data.checkpoint)
            decided = {key: saved.get(key) or {} for key in ("rank_pattern", "alpha_pattern")}
            return attach_lora(model, saved["target_modules"], linear=False, options=plain | decided, float32=float32)
        adapted = attach_lora(model, modules, linear=linear, options=plain, float32=float32)
        _begin_as(adapted, read_beginning(adapted, data.checkpoint))
        return adapted
    targets = _targets(model, modules, linear)
    with _explained(init), progress(f"Preparing the adapter ({init})", None) as advance:
        batches = [_moved(batch, model.device) for batch in data.rows(ROWS[init])]
        found = FINDERS[init](model, _config(targets, options), batches, _Passes(data.loss, advance))
    adapted = attach_lora(model, modules, linear=linear, options=plain, float32=float32)
    with _explained(init):
        found(adapted, float32)
    rows = sum(len(batch["input_ids"]) for batch in batches)
    note(f"The adapter begins from {rows} rows of the training data ({KEY}: {init}).")
    return adapted


class _Passes:
    """Runs batches through the model, and counts them."""

    def __init__(self, loss: Callable[[nn.Module, Mapping[str, Tensor]], Tensor], advance: Callable[[int], None]):
        self.loss, self.advance, self.done = loss, advance, 0

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        self.advance(1)
        self.done += 1
        return self.loss(model, batch)


Found = Callable[[Any, bool], None]
"""(model with a plain adapter, hold it in float32) -> nothing: makes the adapter begin from what was found."""


def _eva(model: Any, config: Any, batches: list[dict[str, Tensor]], passes: _Passes) -> Found:
    from peft.tuners.lora.eva import get_eva_state_dict, initialize_lora_eva_weights
    from peft.tuners.tuners_utils import cast_adapter_dtype

    needed = round(max([config.r, *config.rank_pattern.values()]) * config.eva_config.rho)
    enough = list(_joined(batches, needed))
    if not enough:
        raise NewtError(
            f"{KEY}: eva needs {needed} trained tokens, twice lora_r, and the data have fewer. Lower lora_r, or use "
            "pissa"
        )

    def forward(model: Any, batch: Mapping[str, Tensor]) -> None:
        if passes.done >= MOST_PASSES:
            raise NewtError(
                f"{KEY}: the directions of eva have not settled after {MOST_PASSES} batches. Lower lora_r, or use pissa"
            )
        passes(model, batch)

    state = get_eva_state_dict(
        model,
        enough,
        config,
        forward_fn=forward,
        prepare_model_inputs_fn=_trained,
        gather_distributed_inputs=False,
        show_progress_bar=False,
    )

    def begin(adapted: Any, float32: bool) -> None:
        own = adapted.peft_config["default"]
        own.init_lora_weights, own.eva_config = "eva", config.eva_config
        named = {f"base_model.model.{name}": directions for name, directions in state.items()}
        initialize_lora_eva_weights(adapted, eva_state_dict=named)
        # From here on it is a plain adapter with other ranks.
        own.init_lora_weights, own.eva_config = True, None
        cast_adapter_dtype(adapted, "default", autocast_adapter_dtype=float32)

    return begin


def _trained(batch: Mapping[str, Tensor], config: Any) -> Tensor:
    """Places (row, position) of the trained tokens, int64 (n, 2)."""
    trained: Tensor = batch["labels"] != config.eva_config.label_mask_value
    return trained.nonzero()


def _joined(batches: Sequence[Mapping[str, Tensor]], needed: int) -> Iterator[dict[str, Tensor]]:
    """Neighbouring batches as one, until each has so many trained tokens. No gradient is kept, so there is room."""
    group: list[Mapping[str, Tensor]] = []
    for batch in batches:
        group.append(batch)
        if sum(int((one["labels"] != IGNORED).sum()) for one in group) < needed:
            continue
        longest = max(one["labels"].shape[1] for one in group)
        yield {
            key: torch.cat([functional.pad(one[key], (0, longest - one[key].shape[1]), value=fill) for one in group])
            for key, fill in PADDING.items()
        }
        group = []


def _corda(model: Any, config: Any, batches: list[dict[str, Tensor]], passes: _Passes) -> Found:
    from peft.tuners.lora.corda import preprocess_corda

    def run() -> None:
        for row in _rows(batches):  # peft takes the inputs of one text at a time
            passes(model, row)

    training = model.training
    preprocess_corda(model, config, run_model=run)
    model.train(training)
    return lambda adapted, float32: _begin_by(adapted, lambda layer: layer.corda_init("default", "corda"))


def _lora_ga(model: Any, config: Any, batches: list[dict[str, Tensor]], passes: _Passes) -> Found:
    from peft.tuners.lora.loraga import get_target_modules, preprocess_loraga

    def run() -> None:
        for batch in batches:
            torch.autograd.backward(passes(model, batch))

    preprocess_loraga(model, config, run)
    without = [name for name, layer in get_target_modules(model, config) if not hasattr(layer, "_peft_loraga_grad")]
    if without:
        raise NewtError(f"{KEY}: lora_ga needs the gradient of {without[0]}, which gets none")
    return lambda adapted, float32: _begin_by(
        adapted, lambda layer: layer.lora_ga_init("default", config.lora_ga_config)
    )


FINDERS: dict[str, Callable[[Any, Any, list[dict[str, Tensor]], _Passes], Found]] = {
    "eva": _eva,
    "corda": _corda,
    "lora_ga": _lora_ga,
}


def _begin_by(adapted: Any, init: Callable[[Any], None]) -> None:
    """Let peft find the matrices of each layer; what they take out of the base is computed here.

    A resumed run takes it out again from the stored matrices, and must get the same bits.
    """
    beginning: dict[str, Tensor] = {}
    for name, layer in lora_layers(adapted):
        weight, pair = layer.get_base_layer().weight, (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
        before, dtypes = weight.data, [matrix.dtype for matrix in pair]
        init(layer)
        weight.data = before
        for side, matrix, dtype in zip("AB", pair, dtypes, strict=True):
            matrix.data = matrix.data.to(dtype)
            beginning[f"{name}.lora_{side}.weight"] = matrix.data
    _begin_as(adapted, beginning)


def _begin_as(adapted: Any, beginning: Mapping[str, Tensor]) -> None:
    """Put matrices into the adapter, and take what they do out of the base."""
    for name, layer in lora_layers(adapted):
        for side, linear in (("A", layer.lora_A["default"]), ("B", layer.lora_B["default"])):
            linear.weight.data = beginning[f"{name}.lora_{side}.weight"].to(linear.weight).contiguous()
        take_out(layer)
    remember_beginning(adapted)


def _targets(model: Any, modules: str | Sequence[str] | None, linear: bool) -> Any:
    targets = target_modules(model, modules, linear)
    if expert_targets(model, targets):
        raise NewtError(f"{KEY}: experts are one parameter, and cannot begin from data. Use true or gaussian")
    return targets


def _config(targets: Any, options: Mapping[str, Any]) -> Any:
    from peft.tuners.lora.config import CordaConfig, EvaConfig, LoraConfig, LoraGAConfig

    init = options["init_lora_weights"]
    kind = {"eva": EvaConfig, "corda": CordaConfig, "lora_ga": LoraGAConfig}[init]()
    return LoraConfig(target_modules=targets, task_type="CAUSAL_LM", **options, **{f"{init}_config": kind})


def _rows(batches: Sequence[Mapping[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Each row alone, (1, length), without padding."""
    for batch in batches:
        for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
            yield {key: value[row : row + 1, :length] for key, value in batch.items()}


def _moved(batch: Mapping[str, Tensor], device: Any) -> dict[str, Tensor]:
    return {key: value.to(device) for key, value in batch.items()}


@contextmanager
def _explained(init: str) -> Iterator[None]:
    """What peft says as one line; it warns of settings that it is given here in another way."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (*PEFT_ERRORS, LookupError, ArithmeticError) as error:
        raise NewtError(f"{KEY}: peft cannot begin with {init}: {' '.join(str(error).split())[:400]}") from error
