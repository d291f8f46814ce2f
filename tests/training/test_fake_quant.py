"""Rounding in a run: when it begins, what is saved, and that a resumed run is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.tiny import Data, Rows, make, same, trained
from transformers import AutoModelForCausalLM, TrainerCallback

from newt.models.fake_quant import FakeQuantLinear, fake_quantize, weight_rounding
from newt.training.callbacks.fake_quant import FakeQuant
from newt.training.fit import fit


class Watch(TrainerCallback):
    def __init__(self) -> None:
        self.seen: dict[int, bool] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        layers = [layer for layer in model.modules() if isinstance(layer, FakeQuantLinear)]
        assert len({layer.enabled for layer in layers}) == 1
        self.seen[state.global_step] = layers[0].enabled


def trainer(model_dir: Path, out: Path, after: int, **options: Any) -> tuple[Any, Any, Watch]:
    watch = Watch()
    made, cfg = make(
        model_dir, out, data=Data(Rows(16)), packed=False, num_epochs=2, save_steps=2,
        callbacks=[lambda: FakeQuant(after), lambda: watch], **options,
    )  # fmt: skip
    fake_quantize(made.model, weight_rounding("int4", 32), group=32)
    return made, cfg, watch


@pytest.mark.parametrize("after", [0, 3])
def test_it_begins_at_the_step_and_a_resumed_run_is_the_same(model_dir: Path, tmp_path: Path, after: int) -> None:
    whole, cfg, watch = trainer(model_dir, tmp_path, after)
    fit(whole, cfg)
    # After ``after`` steps are done, the next one rounds.
    assert watch.seen == {step: step > after for step in range(1, 9)}
    for number in (2, 4):
        folder = str(tmp_path / f"checkpoint-{number}")
        resumed, cfg, watch = trainer(model_dir, tmp_path, after, resume_from_checkpoint=folder)
        fit(resumed, cfg)
        assert watch.seen == {step: step > after for step in range(number + 1, 9)}
        assert same(trained(whole), trained(resumed))


def test_full_weights_are_saved(model_dir: Path, out: Path) -> None:
    made, cfg, _ = trainer(model_dir, out, 0)
    fit(made, cfg)
    saved = AutoModelForCausalLM.from_pretrained(out / "checkpoint-8")
    assert not any(isinstance(layer, FakeQuantLinear) for layer in saved.modules())
    weights = dict(made.model.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in saved.named_parameters())
    weight = saved.model.layers[0].mlp.up_proj.weight
    assert len(weight[0].unique()) > 32, "not rounded"
