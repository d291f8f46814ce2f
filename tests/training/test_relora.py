"""ReLoRA in a run: restarts at their steps, and a resumed run ends with the same weights."""

import json

import pytest
import torch
from tiny import make, run, same, trained

from newt.extend import Stored
from newt.models import relora
from newt.training.callbacks.relora import Relora
from newt.training.fit import fit

SETTINGS = {"max_steps": 10, "gradient_accumulation_steps": 1, "save_steps": 4}


def start(model_dir, out, **settings):
    """A trainer whose adapter is restarted every three steps."""
    trainer, cfg = make(
        model_dir, out, lora=True, callbacks=[lambda: Relora(3, "magnitude", None, False)], **{**SETTINGS, **settings}
    )
    trainer.setup.plan.stored.append(
        Stored(
            save=lambda model, folder: relora.save_base(model, folder / "relora"),
            load=lambda model, folder: relora.load_base(model, folder / "relora"),
        )
    )
    return trainer, cfg


def test_the_base_changes_at_restarts_alone(model_dir, out, capsys):
    trainer, cfg = start(model_dir, out)
    name = "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"
    seen = []
    step = trainer.training_step

    def watch(*args, **kwargs):
        seen.append(trainer.model.get_parameter(name).detach().clone())
        return step(*args, **kwargs)

    trainer.training_step = watch
    fit(trainer, cfg)
    changes = [i for i in range(1, len(seen)) if not torch.equal(seen[i], seen[i - 1])]
    assert changes == [3, 6, 9]
    said = capsys.readouterr().err
    assert [f"restart at step {step};" in said for step in (3, 6, 9)] == [True] * 3
    assert trainer.model.peft_config["default"].base_model_name_or_path == str(out / "relora")
    assert json.loads((out / "relora" / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.parametrize("at", [4, 8])
def test_a_resumed_run_ends_with_the_same_weights(model_dir, tmp_path, at):
    whole, cfg = start(model_dir, tmp_path / "out")
    fit(whole, cfg)
    checkpoint = tmp_path / "out" / f"checkpoint-{at}"
    again, cfg = start(model_dir, tmp_path / "again", resume_from_checkpoint=str(checkpoint))
    fit(again, cfg)
    assert same(trained(whole), trained(again))
    states = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_there_is_no_restart_after_the_last_step(model_dir, out):
    _, trainer = run(
        model_dir, out, lora=True, callbacks=[lambda: Relora(2, "reset", None, False)], max_steps=2,
        gradient_accumulation_steps=1,
    )  # fmt: skip
    assert any(p.any() for name, p in trainer.model.named_parameters() if "lora_B" in name)
