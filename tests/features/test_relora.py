"""ReLoRA: merge and restart."""

import pytest
from tests.helpers import complaints, make_run, unsupported

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
RELORA = {**LORA, "relora": True, "jagged_restart_steps": 100}
FSDP = {"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (RELORA, []),
        ({"relora": False}, []),
        ({**LORA, "relora": True}, ["relora: needs jagged_restart_steps. For example 200."]),
        ({"relora": True, "jagged_restart_steps": 100}, ["relora: needs a LoRA adapter. Set adapter: lora."]),
        ({**RELORA, "lr_scheduler": "one_cycle"}, ["relora: cannot be used with one_cycle."]),
        ({**RELORA, "deepspeed": {"zero_optimization": {"stage": 1}}}, ["relora: cannot be used with deepspeed."]),
        ({**RELORA, **FSDP}, ["relora: cannot be used with fsdp_config. Remove one."]),
        ({**RELORA, "peft_init_lora_weights": "pissa"}, ["relora: needs an adapter that begins without effect."]),
        (
            {**RELORA, "optimizer": "sgd"},
            ["relora: prunes the moments of Adam, which sgd has not in a type"],
        ),
        ({**RELORA, "optimizer": "adamw_8bit"}, []),
        ({**RELORA, "optimizer": "paged_adamw_8bit"}, []),
        ({**RELORA, "optimizer": "adamw_torch_4bit"}, ["relora: prunes the moments of Adam, which adamw_torch_4bit"]),
        (
            {**RELORA, "peft_layer_replication": [[0, 2]]},
            ["relora: cannot restart adapters of repeated layers. Remove peft_layer_replication."],
        ),
        ({**LORA, "relora_prune_ratio": 0.5}, ["relora_prune_ratio: has no effect: relora is not on."]),
    ],
)
def test_rules(keys, expected):
    found = complaints(**keys)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


def test_the_plan_restarts_and_keeps_the_base_in_checkpoints():
    plan = make_run(**RELORA, relora_prune_method="reset").train_plan()
    assert len(plan.stored) == 2, "what stands beside every adapter, and the base"
    callback = plan.callbacks[-1]()
    assert (callback.steps, callback.method, callback.ratio, callback.on_cpu) == (100, "reset", None, False)


@pytest.mark.parametrize("base", [{"load_in_8bit": True}, {"adapter": "qlora", "load_in_4bit": True}])
def test_bases_in_few_bits_are_not_supported_yet(base):
    assert unsupported(**{**RELORA, **base}) == {"relora"}
