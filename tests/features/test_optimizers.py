"""The optimizer's keys."""

import pytest
from tests.helpers import complaints, make_run, messages

from newt.extend import Facts
from newt.features.optimizers import coerce, read_args
from newt.training.optimizer_table import OPTIMIZERS

TARGET = {"optim_target_modules": "all_linear"}
GALORE = {"optimizer": "galore_adamw", **TARGET}
PACKAGES = {name: "1" for entry in OPTIMIZERS.values() for name in entry.packages}


def test_the_trainer_is_told_the_rate():
    args = make_run(optimizer="adamw_torch", learning_rate=2e-4, weight_decay=0.1).train_plan().args
    assert (args["learning_rate"], args["weight_decay"]) == (2e-4, 0.1)
    assert "optim_args" not in args


@pytest.mark.parametrize(("name", "optim"), [("came_pytorch", "adamw_torch"), ("lomo", "lomo")])
def test_the_trainer_is_told_how_to_run_the_backward_pass(name, optim):
    assert make_run(optimizer=name).train_plan().args["optim"] == optim


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_name_is_accepted(name):
    entry = OPTIMIZERS[name]
    keys = TARGET if entry.target else {}
    free = {"lr_scheduler": "constant_with_warmup"} if name.startswith("schedule_free") else {}
    found = complaints(optimizer=name, **keys, **free)
    expected = int(bool(entry.instead)) + int(entry.kind in ("layerwise", "fused"))
    assert len(found) == expected, found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_made(name):
    plan = make_run(optimizer=name, **(TARGET if OPTIMIZERS[name].target else {})).train_plan()
    assert plan.optimizer.by == "optimizer"


def test_a_plugin_may_make_another():
    plan = make_run().train_plan()
    plan.optimizer.wrap(lambda make: lambda model: "mine", by="plugin")
    assert plan.optimizer.get()(None) == "mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {}),
        ("a=1, b=x", {"a": "1", "b": "x"}),
        ("rank = 8,", {"rank": "8"}),
        ({"rank": 8}, {"rank": 8}),
    ],
)
def test_arguments_are_read(text, expected):
    assert read_args(text) == expected


def test_a_text_that_is_no_argument():
    with pytest.raises(ValueError, match="'rank' is not name=value"):
        read_args("rank")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("momentum", "1e-5", 1e-5),
        ("momentum", 1, 1.0),
        ("rank", "8", 8),
        ("rank", 8.0, 8),
        ("nesterov", "True", True),
        ("nesterov", False, False),
        ("nesterov", "0", False),
        ("proj_type", "std", "std"),
        ("momentum_dtype", "bfloat16", "bfloat16"),
    ],
)
def test_arguments_get_their_type(name, value, expected):
    found = coerce(name, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("momentum", "much", "momentum must be a number, not 'much'"),
        ("momentum", True, "momentum must be a number, not True"),
        ("momentum", "nan", "momentum must be a number"),
        ("rank", 8.5, "rank must be a whole number, not 8.5"),
        ("rank", "inf", "rank must be a whole number"),
        ("nesterov", "maybe", "nesterov must be true or false"),
        ("momentum_dtype", "int8", "momentum_dtype must be float32"),
    ],
)
def test_values_of_another_type(name, value, text):
    with pytest.raises(ValueError, match=text):
        coerce(name, value)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"optimizer": "adamw_torhc"}, "unknown optimizer 'adamw_torhc'. Did you mean adamw_torch?"),
        ({"optimizer": "zzz"}, "Valid: adamw_torch_fused, "),
        ({"optimizer": "sinkgd"}, "sinkgd is known, but Newt does not support it yet."),
        ({"optimizer": "sgd", "adam_beta1": 0.9}, "adam_beta1: has no effect: optimizer is sgd."),
        ({"optimizer": "lion_8bit", "adam_epsilon": 1e-8}, "adam_epsilon: has no effect: optimizer is lion_8bit."),
        ({"adam_beta3": 0.9}, "adam_beta3: has no effect: optimizer is adamw_torch_fused."),
        ({"adam_epsilon2": 1e-16}, "adam_epsilon2: has no effect"),
        ({"optim_target_modules": ["attn"]}, "optim_target_modules: has no effect"),
        ({"optimizer": "galore_adamw"}, "optim_target_modules: galore_adamw needs the modules"),
        ({"torchdistx_path": "x"}, "torchdistx_path: has no effect"),
        ({"optimizer": "polora"}, "polora only updates adapters."),
        ({"optim_args": {"rank": 8}}, "optim_args: adamw_torch_fused has no argument 'rank'. Valid: amsgrad, beta1,"),
        ({"optimizer": "sgd", "optim_args": {"momentum": "x"}}, "optim_args: momentum must be a number, not 'x'."),
        ({"optim_args": "amsgrad"}, "optim_args: 'amsgrad' is not name=value."),
        ({"optim_args": {"eps": 1e-7}, "adam_epsilon": 1e-7}, "sets eps, and so does adam_epsilon."),
        ({"optimizer": "ao_adamw_4bit"}, "is the older name of adamw_torch_4bit."),
        ({"optimizer": "schedule_free_adamw"}, "is made for a constant learning rate."),
        ({"optimizer": "lomo", "gradient_accumulation_steps": 2}, "gradient_accumulation_steps: must be 1: lomo"),
        ({"optimizer": "lomo", "max_grad_norm": 1.0}, "max_grad_norm: has no effect: lomo updates weights during"),
        ({"optimizer": "lomo", "embedding_lr": 1e-4}, "embedding_lr: has no effect: lomo has one learning rate."),
        ({"optimizer": "lomo"}, "gradients are not clipped"),
        ({"optimizer": "galore_adamw_layerwise", **TARGET, "fp16": True}, "cannot be used with fp16"),
        ({"optimizer": "adalomo", "resume_from_checkpoint": True}, "a run with adalomo cannot go on from a checkpoint"),
        ({"optimizer": "grokadamw", "auto_resume_from_checkpoints": True}, "a run with grokadamw cannot go on"),
        ({"optimizer": "dion", "deepspeed": "zero1.json"}, "dion cannot be used with deepspeed"),
    ],
)
def test_refusals(keys, text):
    found = messages(**keys)
    assert any(text in message for message in found), found


@pytest.mark.parametrize(
    "keys",
    [
        {"optimizer": "came_pytorch", "adam_beta3": 0.9, "adam_epsilon2": 1e-16},
        {**GALORE, "optim_args": "rank=8,scale=0.5,proj_type=left"},
        {"optimizer": "adamw_anyprecision", "torchdistx_path": "x"},
        {"optimizer": "sgd", "optim_args": {"momentum": "9e-1", "nesterov": True}},
        {"optimizer": "ademamix", "adam_beta3": 0.999, "optim_args": {"alpha": 4, "t_alpha": 100}},
        {"optimizer": "schedule_free_adamw", "lr_scheduler": "constant"},
    ],
)
def test_accepted(keys):
    assert messages(**keys) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("came_pytorch", "came_pytorch needs the package came-pytorch. pip install 'newt-tune[optimizers]'."),
        ("adamw_8bit", "adamw_8bit needs the package bitsandbytes. pip install 'newt-tune[bnb]'."),
        ("adamw_torch_8bit", "adamw_torch_8bit needs the package torchao. pip install 'newt-tune[torchao]'."),
        ("adamw_anyprecision", "adamw_anyprecision needs the package torchdistx. Set torchdistx_path."),
    ],
)
def test_a_missing_package(name, text):
    assert any(text in message for message in messages(Facts(known=True), optimizer=name))
    assert not any("needs the package" in message for message in messages(Facts(known=True, packages=PACKAGES)))
    assert not any("needs the package" in message for message in messages(Facts(), optimizer=name))


def test_hardware():
    known = {"known": True, "packages": PACKAGES}
    assert any("adalomo needs a GPU" in text for text in messages(Facts(**known), optimizer="adalomo"))
    old = Facts(**known, gpus=1, capability=(8, 0))
    assert any("needs a GPU that computes in float8" in text for text in messages(old, optimizer="ao_adamw_fp8"))
    new = Facts(**known, gpus=1, capability=(9, 0))
    assert not any("needs a GPU" in text for text in messages(new, optimizer="ao_adamw_fp8"))
    assert not any("needs a GPU" in text for text in messages(new, optimizer="adalomo"))


LAYERWISE = {"optimizer": "galore_adamw_layerwise", **TARGET}


@pytest.mark.parametrize("keys", [LAYERWISE, {"optimizer": "lomo"}], ids=["layerwise", "lomo"])
def test_updates_in_the_backward_pass_need_one_process(keys, monkeypatch):
    facts = Facts(known=True, gpus=2, packages=PACKAGES)
    assert any(f"{keys['optimizer']} cannot use 2 GPUs" in line for line in messages(facts, **keys))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert any(f"optimizer: {keys['optimizer']} needs one process, not 2" in line for line in messages(facts, **keys))
    assert not any("process" in line for line in messages(facts, optimizer="adamw_torch"))


@pytest.mark.parametrize(
    ("name", "packages", "missing"),
    [
        ("adamw_torch_8bit", {"torchao": "1"}, None),
        ("galore_adamw_8bit", {"galore-torch": "1"}, "bitsandbytes"),
        ("galore_adamw_8bit", {"bitsandbytes": "1"}, "galore-torch"),
        ("adamw_8bit", {}, "bitsandbytes"),
    ],
)
def test_only_what_it_uses_must_be_installed(name, packages, missing):
    keys = TARGET if OPTIMIZERS[name].target else {}
    said = messages(Facts(known=True, packages=packages), optimizer=name, **keys)
    found = [line for line in said if "needs the package" in line]
    assert (not found) if missing is None else f"{name} needs the package {missing}." in found[0]
