"""The optimizer's keys."""

import pytest
from tests.helpers import complaints, make_run, messages

from newt.features.optimizers import SUPPORTED


def test_numbers_reach_the_trainer():
    args = make_run(optimizer="adamw_torch", learning_rate=2e-4, weight_decay=0.1, adam_beta2=0.95).train_plan().args
    assert args["optim"] == "adamw_torch"
    assert args["learning_rate"] == 2e-4
    assert args["weight_decay"] == 0.1
    assert args["adam_beta2"] == 0.95
    assert "adam_beta1" not in args


def test_optim_args_as_mapping_or_text():
    assert make_run(optim_args={"a": 1, "b": 2}).train_plan().args["optim_args"] == "a=1,b=2"
    assert make_run(optim_args="a=1").train_plan().args["optim_args"] == "a=1"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"optimizer": "adamw_torhc"}, "unknown optimizer 'adamw_torhc'. Did you mean adamw_torch?"),
        ({"optimizer": "zzz"}, "Valid: adamw_torch, "),
        ({"optimizer": "lion_8bit"}, "lion_8bit is known, but Newt does not support it yet."),
        ({"optimizer": "sgd", "adam_beta1": 0.9}, "adam_beta1: has no effect: optimizer is sgd."),
        ({"adam_beta3": 0.9}, "adam_beta3: has no effect: optimizer is adamw_torch_fused."),
        ({"adam_epsilon2": 1e-16}, "adam_epsilon2: has no effect"),
        ({"optim_target_modules": ["attn"]}, "optim_target_modules: has no effect"),
        ({"torchdistx_path": "x"}, "torchdistx_path: has no effect"),
        ({"optimizer": "polora"}, "polora only updates adapters."),
    ],
)
def test_refusals(keys, text):
    assert any(text in message for message in messages(**keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"optimizer": "came_pytorch", "adam_beta3": 0.9, "adam_epsilon2": 1e-16},
        {"optimizer": "galore_adamw", "optim_target_modules": "all_linear"},
        {"optimizer": "adamw_anyprecision", "torchdistx_path": "x"},
    ],
)
def test_keys_of_optimizers_to_come_are_taken(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_supported_optimizer_is_known_to_transformers(name):
    from transformers.training_args import OptimizerNames

    assert name in {item.value for item in OptimizerNames}
