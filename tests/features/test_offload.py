"""Offloading of activations and frozen weights."""

import pytest
from tests.helpers import complaints, make_run, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"activation_offloading": True}, "activation_offloading: needs gradient checkpointing."),
        ({"layer_offloading": True}, "layer_offloading: needs frozen weights"),
        (
            {
                "ple_cpu_offload": True,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
                "fsdp_version": 2,
                "fsdp_config": {"offload_params": False},
            },
            "ple_cpu_offload: cannot be used with FSDP.",
        ),
        (
            {
                "ple_cpu_offload": True,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
                "deepspeed": {"a": 1},
            },
            "ple_cpu_offload: cannot be used with DeepSpeed.",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"activation_offloading": False},
        {"activation_offloading": "disk", "gradient_checkpointing": True},
        {"layer_offloading": True, "adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True},
        {"ple_cpu_offload": True, "adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"activation_offloading": "legacy", "gradient_checkpointing": True}, set()),
        (
            {"layer_offloading": True, "adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True},
            {"layer_offloading"},
        ),
        ({"activation_offloading": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected


@pytest.mark.parametrize(
    "keys",
    [
        {"gradient_checkpointing": "offload"},
        {"gradient_checkpointing": "offload_disk"},
        {"gradient_checkpointing": True, "activation_offloading": True},
        {"gradient_checkpointing": True, "activation_offloading": "legacy"},
        {"gradient_checkpointing": True, "activation_offloading": "disk"},
        {"gradient_checkpointing": True, "activation_offloading": "hidden_states"},
    ],
)
def test_the_loss_and_its_gradient_stay(keys, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from newt.training import offload

    monkeypatch.setattr(offload, "LEAST_BYTES", 0)
    plan = make_run(**keys, output_dir=str(tmp_path)).train_plan()

    def loss(model, batch, num_items):
        return (batch["x"] * model).exp().sum() / num_items

    plan.loss._value = loss
    weight = torch.full((2, 3, 4), 0.5, requires_grad=True)
    for _ in range(2):  # the trainer asks for the loss at each step; there is one store
        weight.grad = None
        plan.loss.get()(weight, {"x": torch.ones(2, 3, 4)}, 2).backward()
        torch.testing.assert_close(weight.grad, torch.full((2, 3, 4), 0.5).exp() / 2)
    assert len(list(tmp_path.glob("activations-*"))) == ("disk" in str(keys))
