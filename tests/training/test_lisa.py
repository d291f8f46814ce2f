"""LISA: the drawn layers are trained, the others do not change by a bit, and a resume agrees."""

import pytest
import torch
from tiny import make, run, same, trained

from newt.support.errors import NewtError
from newt.training.callbacks.lisa import Lisa, draw
from newt.training.fit import fit

SETTINGS = {"max_steps": 8, "gradient_accumulation_steps": 1, "save_steps": 5}


def lisa(count=1, interval=2):
    return lambda: Lisa(count, interval, "model.layers", seed=3)


def test_the_draw_depends_on_seed_and_block_alone():
    drawn = [draw(3, block, 2, 8) for block in range(50)]
    assert drawn == [draw(3, block, 2, 8) for block in range(50)]
    assert all(len(set(numbers)) == 2 and 0 <= min(numbers) <= max(numbers) < 8 for numbers in drawn)
    assert {number for numbers in drawn for number in numbers} == set(range(8))
    assert drawn != [draw(4, block, 2, 8) for block in range(50)]


def test_layers_that_are_not_drawn_do_not_change(model_dir, out):
    trainer, cfg = make(model_dir, out, callbacks=[lisa(interval=100)], **SETTINGS)
    (chosen,) = draw(3, 0, 1, 2)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    fit(trainer, cfg)
    changed = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert not any(name.startswith(f"model.layers.{1 - chosen}.") for name in changed)
    assert any(name.startswith(f"model.layers.{chosen}.") for name in changed)
    assert "model.embed_tokens.weight" in changed
    assert all(p.requires_grad for p in trainer.model.parameters())


def test_other_layers_get_their_turn_and_a_resumed_run_ends_alike(model_dir, tmp_path):
    blocks = [draw(3, block, 1, 2)[0] for block in range(4)]
    assert set(blocks) == {0, 1}, "the seed must try both layers"
    _, whole = run(model_dir, tmp_path / "whole", callbacks=[lisa()], **SETTINGS)
    run(model_dir, tmp_path / "half", callbacks=[lisa()], **{**SETTINGS, "max_steps": 8})
    again, cfg = make(
        model_dir, tmp_path / "half", callbacks=[lisa()],
        resume_from_checkpoint=str(tmp_path / "half" / "checkpoint-5"), **SETTINGS,
    )  # fmt: skip
    fit(again, cfg)
    assert same(trained(whole), trained(again))


def test_a_path_that_holds_no_layers_lists_those_that_are_there(model_dir, out):
    trainer, cfg = make(model_dir, out, callbacks=[lambda: Lisa(1, 2, "transformer.h", 3)], **SETTINGS)
    with pytest.raises(NewtError, match=r"no list of layers 'transformer\.h'\. It has: model\.layers"):
        fit(trainer, cfg)
    trainer, cfg = make(model_dir, out, callbacks=[lambda: Lisa(3, 2, "model.layers", 3)], **SETTINGS)
    with pytest.raises(NewtError, match="the model has only 2 layers"):
        fit(trainer, cfg)
