"""Whether adapters train, reload and merge in a tiny model of an architecture, and how its loss can be computed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from measure_isolation import logits, samples
from peft import PeftModel
from tiny_models import tiny_model
from torch import Tensor

from newt.losses.causal import causal_loss, takes_positions, trained_positions
from newt.models.adapters import attach_lora
from newt.support.errors import NewtError

YES = "yes"
LEGACY = "merge_method: legacy"
STEPS = 5
RATE = 3e-3
EXACT = 1e-5
"""Largest difference of logits, as a share of the largest, that is rounding."""


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
        "full": _answer(lambda: _trains(_model(kind), inputs)),
        "lora": _answer(lambda: _adapter(kind, inputs)),
        "dora": _answer(lambda: _adapter(kind, inputs, use_dora=True)),
        "qlora": _answer(lambda: _quantized(kind, inputs)),
        "merge": _answer(lambda: _merges(kind, inputs)),
        "fused_loss": _answer(lambda: _loss_of_chosen_positions(kind)),
    }


def _answer(proof: Callable[[], None]) -> str:
    try:
        proof()
    except Exception as error:  # noqa: BLE001  any error of any library is the answer to be written down
        return " ".join((str(error) or type(error).__name__).split())[:160]
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


def _trains(model: Any, inputs: Mapping[str, Any]) -> None:
    """A few steps on one batch lower its loss, and every trained weight gets a gradient or none of its kind does."""
    model.train()
    batch = _batch(inputs)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    losses = []
    for _ in range(STEPS):
        loss = causal_loss(model, batch, 2 * (batch["input_ids"].shape[1] - 1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    if not losses[-1] < losses[0]:
        raise UnprovedError(f"the loss does not fall: {losses[0]:.3f}, {losses[-1]:.3f}")
    model.eval()


def _adapted(kind: str, inputs: Mapping[str, Any], **options: Any) -> tuple[Any, Any]:
    base = _model(kind)
    model = attach_lora(copy.deepcopy(base), None, linear=True, options={"r": 4, "lora_alpha": 8, **options})
    _trains(model, inputs)
    return base, model


def _adapter(kind: str, inputs: Mapping[str, Any], **options: Any) -> None:
    """It trains, and plain peft reloads it with no difference."""
    base, model = _adapted(kind, inputs, **options)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = PeftModel.from_pretrained(base, folder).eval()
    _same(again, model, 0.0, "reloaded")


def _merges(kind: str, inputs: Mapping[str, Any]) -> None:
    """``newt merge-lora`` on files: the merged model computes what base and adapter did."""
    from newt.config.load import load
    from newt.models.merge import merge_lora
    from newt.registry import sections
    from newt.run import EntryType

    base, model = _adapted(kind, inputs)
    legacy = False
    with TemporaryDirectory() as name:
        folder = Path(name)
        base.save_pretrained(folder / "base")
        model.peft_config["default"].base_model_name_or_path = str(folder / "base")
        model.save_pretrained(folder / "adapter")
        given = {"base_model": str(folder / "base"), "datasets": [{"path": "rows.jsonl", "type": "chat_template"}]}
        given |= {"learning_rate": 1e-3, "micro_batch_size": 1, "gradient_accumulation_steps": 1}
        loaded = load(given, (), sections=sections(), entry_type=EntryType())
        try:
            merge_lora(loaded.config, folder / "adapter", folder / "merged", verify=False)
        except NewtError as error:
            if LEGACY not in str(error):
                raise
            merge_lora(loaded.config, folder / "adapter", folder / "merged", method="legacy", verify=False)
            legacy = True
        merged = type(base).from_pretrained(folder / "merged").eval()
    _same(merged, model, EXACT, "merged")
    if legacy:
        raise UnprovedError(f"yes, with {LEGACY}")


def _quantized(kind: str, inputs: Mapping[str, Any]) -> None:
    """A 4-bit base with LoRA trains, also after an evaluation, and its linear layers really are 4-bit."""
    from bitsandbytes.nn import Linear4bit
    from transformers import BitsAndBytesConfig

    base = _model(kind)
    with TemporaryDirectory() as folder:
        base.save_pretrained(folder)
        quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
        model = type(base).from_pretrained(folder, quantization_config=quantization, dtype=torch.float32)
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    if not layers:
        raise UnprovedError("it has no linear layer that bitsandbytes quantizes")
    for layer in layers:  # repacked in evaluation, the weights would give no gradients any more
        layer.support_avx512bf16_for_cpu = False
    model = attach_lora(model, None, linear=True, options={"r": 4, "lora_alpha": 8})
    logits(model.eval(), samples()[0])
    _trains(model, inputs)
    held = sum(p.numel() for name, p in base.named_parameters() if p.ndim == 3 and "expert" in name)
    if held > sum(p.numel() for p in base.parameters()) / 4:
        raise UnprovedError("attention is 4-bit, but its experts, most of the weights, stay in full precision")


def _loss_of_chosen_positions(kind: str) -> None:
    """The output layer works on trained positions alone, with the same loss."""
    model = _model(kind)
    if not takes_positions(model):
        raise UnprovedError("it computes logits at all positions")
    batch = _batch({})
    batch["labels"] = batch["labels"].clone()
    batch["labels"][:, :9] = -100
    every = causal_loss(model, batch, 1)
    chosen = causal_loss(model, {**batch, "loss_positions": trained_positions(batch["labels"])}, 1)
    if not torch.allclose(every, chosen, rtol=1e-5):
        raise UnprovedError(f"the loss is {float(chosen):.5f} instead of {float(every):.5f}")


def _same(one: Any, other: Any, tolerance: float, what: str) -> None:
    ids = samples()[0]
    expected = logits(other.eval(), ids)
    difference = float((logits(one.eval(), ids) - expected).abs().max() / expected.abs().max())
    if not difference <= tolerance:
        raise UnprovedError(f"{what}, its logits differ by {difference:.1g}")
