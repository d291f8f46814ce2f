"""Evaluation counts every trained token once, whatever the batches are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.tiny import Data, Rows, config, load, make, plans

from newt.training.evaluate import evaluate_rows

ROWS = Rows(11, 5)


def by_hand(model: Any) -> tuple[float, int]:
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for row in (ROWS[i] for i in range(len(ROWS))):
            ids = torch.from_numpy(row["input_ids"].astype(np.int64))[None]
            log_probabilities = model(input_ids=ids).logits[0].double().log_softmax(-1)
            for place in range(1, ids.shape[1]):
                if row["labels"][place] != -100:
                    total -= log_probabilities[place - 1, ids[0, place]].item()
                    count += 1
    return total / count, count


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("size", [1, 3, 16])
def test_trainer_and_hand_loop_agree(model_dir: Path, out: Path, packed: bool, size: int) -> None:
    trainer, _ = make(model_dir, out, data=Data(Rows(8), ROWS), packed=packed, eval_batch_size=size)
    expected, count = by_hand(load(model_dir).model)
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-6)
    assert metrics["eval_tokens"] == count
    assert set(metrics) == {"eval_loss", "eval_tokens", "eval_runtime", "epoch"}


@pytest.mark.parametrize("packed", [False, True])
def test_rows_outside_a_trainer(model_dir: Path, out: Path, packed: bool) -> None:
    loaded = load(model_dir)
    expected, count = by_hand(loaded.model)
    plan, data_plan = plans(config(out, micro_batch_size=3), packed=packed)
    loss, tokens = evaluate_rows(loaded.model, ROWS, plan, data_plan, loaded.tokenizer)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert tokens == count


def test_evaluation_leaves_no_trace(model_dir: Path, out: Path) -> None:
    trainer, _ = make(model_dir, out, data=Data(Rows(8), ROWS))
    trainer.model.train()
    before = torch.get_rng_state()
    first = trainer.evaluate()["eval_loss"]
    assert trainer.model.training
    assert torch.equal(before, torch.get_rng_state())
    assert trainer.evaluate()["eval_loss"] == first


def test_nothing_trained_is_nan(model_dir: Path, out: Path) -> None:
    class Masked(Rows):
        def __getitem__(self, index: int) -> dict[str, np.ndarray]:
            row = super().__getitem__(index)
            return {**row, "labels": np.full_like(row["labels"], -100)}

    loaded = load(model_dir)
    loss, tokens = evaluate_rows(loaded.model, Masked(3), *plans(config(out)), loaded.tokenizer)
    assert np.isnan(loss)
    assert tokens == 0
