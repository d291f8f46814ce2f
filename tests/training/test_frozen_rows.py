"""Rows that are not named do not change by a bit, whatever the optimizer does."""

import pytest
import torch
from tests.models.tiny import load
from tests.training.tiny import Data, Rows, plans

from newt.config.core import RunControl
from newt.training.build import build_trainer
from newt.training.callbacks.frozen_rows import FrozenRows
from newt.training.fit import fit

ROWS = ["^model.embed_tokens.weight$[17:300]", "model.norm"]
FREE = slice(17, 300)


def train(model_dir, out, *, optimizer="adamw_torch", **more):
    """Six steps; the embedding before and after, and the trainer."""
    from types import SimpleNamespace

    from tests.helpers import make_config

    keys = {"unfrozen_parameters": ROWS, "gradient_accumulation_steps": 2, "max_steps": 6, "save_steps": 3, **more}
    loaded = load(model_dir, **{key: value for key, value in keys.items() if key == "unfrozen_parameters"})
    cfg = make_config(base_model=str(model_dir), output_dir=str(out), micro_batch_size=2, **keys)
    assert cfg[RunControl].max_steps == 6
    plan, data = plans(cfg, optim=optimizer, weight_decay=0.5, learning_rate=1e-2)
    plan.callbacks.append(FrozenRows)
    before = loaded.model.get_input_embeddings().weight.detach().clone()
    trainer = build_trainer(plan, data, SimpleNamespace(model=loaded.model, tokenizer=loaded.tokenizer), Data(Rows(40)))
    return before, trainer, cfg


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adafactor", "sgd"])
def test_frozen_rows_do_not_change_by_a_bit(model_dir, tmp_path, optimizer):
    before, trainer, cfg = train(model_dir, tmp_path / "run", optimizer=optimizer)
    fit(trainer, cfg)
    after = trainer.model.get_input_embeddings().weight
    frozen = torch.ones(len(before), dtype=torch.bool)
    frozen[FREE] = False
    assert torch.equal(after[frozen], before[frozen])
    assert not torch.equal(after[FREE], before[FREE])


def test_a_resumed_run_ends_alike(model_dir, tmp_path):
    _, whole, cfg = train(model_dir, tmp_path / "run")
    fit(whole, cfg)
    again = {"resume_from_checkpoint": str(tmp_path / "run" / "checkpoint-3")}
    before, other, cfg = train(model_dir, tmp_path / "run", **again)
    fit(other, cfg)
    one, two = (trainer.model.get_input_embeddings().weight for trainer in (whole, other))
    assert torch.equal(one, two)
    assert torch.equal(two[300:], before[300:])


def test_models_without_frozen_rows_are_left_alone(model_dir):
    callback = FrozenRows()
    callback.on_train_begin(None, None, None, model=load(model_dir).model)
    assert callback.held == []
