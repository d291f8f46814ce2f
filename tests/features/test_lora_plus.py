"""LoRA+."""

import pytest
from tests.helpers import complaints, make_run
from tests.models.tiny import load

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({**LORA, "loraplus_lr_ratio": 16}, []),
        ({"loraplus_lr_ratio": 16}, ["loraplus_lr_ratio: needs an adapter. Set adapter: lora."]),
        ({**LORA, "loraplus_lr_embedding": 1e-6}, []),
        ({**LORA, "loraplus_lr_embedding": 1e-5}, ["loraplus_lr_embedding: has no effect: loraplus_lr_ratio is not"]),
        (
            {**LORA, "loraplus_lr_ratio": 16, "lr_groups": [{"name": "a", "modules": ["b"], "lr": 1}]},
            ["lr_groups: cannot be used with loraplus_lr_ratio. Remove one."],
        ),
    ],
)
def test_rules(keys, expected):
    found = complaints(**keys)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


def groups(model_dir, **keys):
    """The groups of a tiny model, with names in the place of parameters; and the model."""
    from newt.features.lora_plus import LoraPlus

    keys = {**LORA, **keys}
    model = load(model_dir, **keys).model
    run = make_run(base_model=str(model_dir), learning_rate=1e-3, weight_decay=0.1, loraplus_lr_ratio=16, **keys)
    part = next(part for part in run.parts if isinstance(part, LoraPlus))
    assert run.train_plan().groups.by == "loraplus"
    decaying = [name for name, _ in model.named_parameters() if "bias" not in name and "norm" not in name]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = part.groups(model, decaying)
    return [{**group, "params": [names[id(parameter)] for parameter in group["params"]]} for group in found], model


def test_each_trained_parameter_is_in_the_group_of_its_kind(model_dir):
    keys = {
        "lora_target_modules": ["embed_tokens", "q_proj"],
        "lora_modules_to_save": ["norm"],
        "lora_target_linear": None,
    }
    found, model = groups(model_dir, **keys)
    rates = {group["name"]: (group["lr"], group["weight_decay"], len(group["params"])) for group in found}
    assert rates == {
        "A": (1e-3, 0.1, 2),
        "embedding": (1e-6, 0.1, 2),
        "B": (16e-3, 0.1, 2),
        "B without decay": (16e-3, 0.0, 5),  # every module whose name ends with norm
    }
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert sorted(name for group in found for name in group["params"]) == sorted(trained)


def test_the_groups_are_those_of_peft(model_dir):
    import torch
    from peft.optimizers import create_loraplus_optimizer

    found, model = groups(model_dir, peft_use_dora=True, loraplus_lr_embedding=1e-5)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    theirs = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16, loraplus_weight_decay=0.1, loraplus_lr_embedding=1e-5
    )
    expected = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in theirs.param_groups
        for parameter in group["params"]
    }
    assert {name: (group["lr"], group["weight_decay"]) for group in found for name in group["params"]} == expected


def test_the_trainer_uses_the_groups(model_dir, tmp_path):
    from types import SimpleNamespace

    from tests.training.tiny import Data, Rows, plans

    from newt.training.build import build_trainer

    keys = {**LORA, "loraplus_lr_ratio": 4}
    run = make_run(base_model=str(model_dir), output_dir=str(tmp_path / "out"), **keys)
    loaded = load(model_dir, **keys)
    plan, data = plans(run.cfg, learning_rate=1e-3)
    run.train_plan()
    plan.groups = run.train_plan().groups
    trainer = build_trainer(plan, data, SimpleNamespace(model=loaded.model, tokenizer=loaded.tokenizer), Data(Rows(8)))
    trainer.create_optimizer_and_scheduler(4)
    assert [(group["name"], group["initial_lr"]) for group in trainer.optimizer.param_groups] == [
        ("A", 1e-3), ("B", 4e-3),
    ]  # fmt: skip
