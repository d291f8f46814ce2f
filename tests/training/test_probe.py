"""The probe of the largest micro-batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from newt.support.errors import NewtError
from newt.training import probe as module
from newt.training.batches import BatchSampler
from newt.training.probe import Probe, probe, widest


def weights_after(model_dir: Path, out: Path, probed: bool, found: list[int]) -> dict[str, torch.Tensor]:
    trainer, cfg = tiny.make(model_dir, out)
    if probed:

        class Watched(Probe):
            def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
                found.append(probe(self.trainer))

        trainer.add_callback(Watched(trainer))
    tiny.fit(trainer, cfg)
    return tiny.trained(trainer)


def test_a_probed_run_ends_with_the_same_weights(model_dir: Path, tmp_path: Path) -> None:
    found: list[int] = []
    plain, probed = (weights_after(model_dir, tmp_path / str(flag), flag, found) for flag in (False, True))
    assert found
    assert found[0] > 0
    assert tiny.same(plain, probed)


def test_the_widest_batch_is_found() -> None:
    rows = tiny.Rows(20)
    sampler = BatchSampler(rows.lengths, 3, seed=1)
    sizes = [max(rows.lengths[pick.rows[0]] for pick in batch) * len(batch) for batch in sampler]
    assert sizes[widest(sampler)] == max(sizes)


def test_memory_that_does_not_suffice_is_one_line_and_leaves_nothing(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny.make(model_dir, tmp_path)[0]

    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(type(trainer.setup), "loss", full)
    with pytest.raises(NewtError, match=r"largest micro-batch \(2 x \d+ tokens\) does not fit .* Lower micro"):
        probe(trainer)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_an_optimizer_that_steps_in_the_backward_pass_is_not_probed(model_dir: Path, tmp_path: Path) -> None:
    trainer = tiny.make(model_dir, tmp_path)[0]
    next(trainer.model.parameters()).register_post_accumulate_grad_hook(lambda parameter: None)
    assert module.probe(trainer) == 0
