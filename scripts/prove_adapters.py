"""Whether adapters train, reload and merge in a tiny model of an architecture, and how its loss can be computed."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from measure_isolation import logits, samples
from peft import PeftModel
from tiny_models import tiny_model
from torch import Tensor

from newt.config.load import load
from newt.config.section import Config
from newt.extend import Facts
from newt.losses.causal import causal_loss, plain_causal_loss, takes_positions, trained_positions
from newt.models.adapters import attach_lora, expert_targets, linear_names
from newt.models.experts import is_expert
from newt.models.kbit import prepare_for_adapter
from newt.models.load import build_model
from newt.models.merge import merge_lora
from newt.models.quantize import held_by
from newt.registry import sections
from newt.run import EntryType, Run
from newt.support.errors import NewtError

YES = "yes"
LEGACY = "merge_method: legacy"
STEPS = 5
RATE, ALL_WEIGHTS_RATE = 3e-3, 1e-3
EXACT = 1e-5
"""Largest difference of logits, as a share of the largest, that is rounding."""
SHARE = 0.5
"""Least share of the weights in 4 bits of a tiny model, whose embeddings are large."""


class UnprovedError(Exception):
    """A proof failed; the text is the reason."""


def adapter_proofs(kind: str, extra: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Proof -> "yes", or why not.

    Args:
        kind: model type.
        extra: inputs that the model needs in training besides.
    """
    inputs = dict(extra or {})
    return {
        "full": _answer(lambda: _trains(_model(kind), inputs, ALL_WEIGHTS_RATE)),
        "lora": _answer(lambda: _adapter(kind, inputs)),
        "dora": _answer(lambda: _dora(kind, inputs)),
        "qlora": _answer(lambda: _quantized(kind, inputs)),
        "merge": _answer(lambda: _merges(kind, inputs)),
        "fused_loss": _answer(lambda: _loss_without_logits(kind, inputs)),
    }


def _answer(proof: Callable[[], None]) -> str:
    try:
        proof()
    except Exception as error:  # noqa: BLE001  any error of any library is the answer to be written down
        return " ".join((str(error) or type(error).__name__).split())[:240]
    return YES


def _model(kind: str) -> Any:
    model = tiny_model(kind)
    with torch.no_grad():  # weights of the size that training begins with
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.div_(5)
    return model


def _batch(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    ids = samples()[0].repeat(2, 1)
    return {"input_ids": ids, "labels": ids, **{key: torch.zeros_like(ids) for key in inputs}}


def _trains(model: Any, inputs: Mapping[str, Any], rate: float = RATE) -> None:
    """A few steps on one batch lower its loss, which is measured in evaluation: some routers draw in training."""
    batch = _batch(inputs)
    count = 2 * (batch["input_ids"].shape[1] - 1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    before = _loss(model, batch, count)
    torch.manual_seed(0)
    model.train()
    for _ in range(STEPS):
        causal_loss(model, batch, count).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = _loss(model, batch, count)
    if not after < before:
        raise UnprovedError(f"the loss does not fall: {before:.3f}, {after:.3f}")


def _loss(model: Any, batch: Mapping[str, Any], count: int) -> float:
    with torch.no_grad():
        return float(causal_loss(model.eval(), batch, count))


def _adapted(
    kind: str, inputs: Mapping[str, Any], layers: Sequence[str] | None = None, **options: Any
) -> tuple[Any, Any]:
    base = _model(kind)
    options = {"r": 4, "lora_alpha": 8, **options}
    model = attach_lora(copy.deepcopy(base), layers, linear=not layers, options=options)
    _trains(model, inputs)
    return base, model


def _adapter(kind: str, inputs: Mapping[str, Any], layers: Sequence[str] | None = None, **options: Any) -> None:
    """It trains, and plain peft reloads it with no difference."""
    base, model = _adapted(kind, inputs, layers, **options)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = PeftModel.from_pretrained(base, folder).eval()
    _same(again, model, 0.0, "reloaded")


def _dora(kind: str, inputs: Mapping[str, Any]) -> None:
    """On every linear layer; where a name of one also means experts, which are parameters, on the others."""
    base = _model(kind)
    layers = _layers_alone(base)
    _adapter(kind, inputs, layers, use_dora=True)
    if len(layers) < len(linear_names(base)):
        raise UnprovedError("yes, where lora_target_modules names no experts")


def _merges(kind: str, inputs: Mapping[str, Any]) -> None:
    """``newt merge-lora`` on files: the merged model computes what base and adapter did."""
    base, model = _adapted(kind, inputs)
    legacy = False
    with TemporaryDirectory() as name:
        folder = Path(name)
        base.save_pretrained(folder / "base")
        model.peft_config["default"].base_model_name_or_path = str(folder / "base")
        model.save_pretrained(folder / "adapter")
        cfg = _config(folder / "base")
        try:
            merge_lora(cfg, folder / "adapter", folder / "merged", verify=False)
        except NewtError as error:
            if LEGACY not in str(error):
                raise
            merge_lora(cfg, folder / "adapter", folder / "merged", method="legacy", verify=False)
            legacy = True
        merged = type(base).from_pretrained(folder / "merged").eval()
    _same(merged, model, EXACT, "merged")
    if legacy:
        raise UnprovedError(f"yes, with {LEGACY}")


def _config(folder: Path, **keys: Any) -> Config:
    given = {"base_model": str(folder), "datasets": [{"path": "rows.jsonl", "type": "chat_template"}]}
    given |= {"learning_rate": 1e-3, "micro_batch_size": 1, "gradient_accumulation_steps": 1, **keys}
    loaded = load(given, (), sections=sections(), entry_type=EntryType())
    if loaded.config is None or loaded.problems:
        raise UnprovedError("; ".join(map(str, loaded.problems)))
    return loaded.config


def _quantized(kind: str, inputs: Mapping[str, Any]) -> None:
    """What ``load_in_4bit`` loads computes what its 4-bit weights say, and LoRA on it trains after an evaluation.

    Experts are quantized too: a model of which they stay in full is none in 4 bits.
    """
    base = _model(kind)
    experts = any(is_expert(name, parameter) for name, parameter in base.named_parameters())
    targets = {"lora_target_modules": _layers_alone(base)} if experts else {"lora_target_linear": True}
    with TemporaryDirectory() as folder:
        base.save_pretrained(folder)
        qlora = {"adapter": "qlora", "load_in_4bit": True, "quantize_moe_experts": experts, **targets}
        cfg = _config(Path(folder), **qlora, float32=True, lora_r=4, lora_alpha=8)
        plan = Run(cfg, Facts(model=base.config.to_dict())).load_plan()
        model = build_model(plan, [])
        full = type(base).from_pretrained(folder, dtype=torch.float32)
    held = held_by(model)
    if held is None:
        raise UnprovedError("bitsandbytes quantizes none of its layers")
    held.put_into(full)
    _same(model, full, EXACT, "in 4 bits")
    share = sum(full.get_parameter(name).numel() for name in held.weights(full)) / base.num_parameters()
    if share < SHARE:
        raise UnprovedError(f"only {share:.0%} of its weights are quantized")
    prepare_for_adapter(model, None)
    model = plan.adapter.get()(model)
    logits(model.eval(), samples()[0])
    _trains(model, inputs)
    if experts:
        raise UnprovedError("yes, with quantize_moe_experts: true")


def _layers_alone(model: Any) -> list[str]:
    """Names of linear layers that mean no experts."""
    return [name for name in linear_names(model) if not _reaches_experts(model, name)]


def _reaches_experts(model: Any, name: str) -> bool:
    """Whether peft adapts experts, which are parameters, for this name of a layer."""
    try:
        return bool(expert_targets(model, [name]))
    except NewtError:  # a part of what is fused into them
        return True


def _loss_without_logits(kind: str, inputs: Mapping[str, Any]) -> None:
    """The loss and the gradients that are computed without the logits are those of the logits."""
    model, batch = _model(kind).train(), _batch(inputs)
    batch["labels"] = batch["labels"].clone()
    batch["labels"][:, :9] = -100
    expected = _slopes(model, plain_causal_loss(model, batch, 1))
    said = io.StringIO()
    with redirect_stderr(said):
        found = _slopes(model, causal_loss(model, batch, 1))
    _agree(found, expected)
    if text := said.getvalue().strip():
        reason = text.removeprefix("The loss is computed from all logits: ").rstrip(".")
        raise UnprovedError(f"{reason}{_chosen(model, batch, expected)}")


def _chosen(model: Any, batch: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    if not takes_positions(model):
        return "; it computes logits at all positions"
    positions = {"loss_positions": trained_positions(batch["labels"])}
    _agree(_slopes(model, plain_causal_loss(model, {**batch, **positions}, 1)), expected)
    return "; it computes logits at trained positions alone"


def _slopes(model: Any, loss: Tensor) -> dict[str, Tensor]:
    """The loss, and the gradient of each parameter."""
    model.zero_grad()
    loss.backward()
    return {"": loss.detach(), **{name: p.grad for name, p in model.named_parameters() if p.grad is not None}}


def _agree(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    if found.keys() != expected.keys():
        raise UnprovedError("other parameters get a gradient than from the logits")
    for name, slope in expected.items():
        difference = float((found[name] - slope).abs().max())
        if not difference <= 1e-4 * float(slope.abs().max()) + 1e-6:
            raise UnprovedError(f"{f'the gradient of {name}' if name else 'the loss'} differs by {difference:.1g}")


def _same(one: Any, other: Any, tolerance: float, what: str) -> None:
    ids = samples()[0]
    expected = logits(other.eval(), ids)
    difference = float((logits(one.eval(), ids) - expected).abs().max() / expected.abs().max())
    if not difference <= tolerance:
        raise UnprovedError(f"{what}, its logits differ by {difference:.1g}")
