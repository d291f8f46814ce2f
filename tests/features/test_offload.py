"""Offloading of activations and frozen weights."""

import pytest
from tests.helpers import complaints, make_run, unsupported

from newt.extend import Facts

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


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
        (
            {"layer_offloading": True, "fsdp_version": 2, "fsdp_config": {"offload_params": False}, **LORA},
            "layer_offloading: cannot be used with FSDP.",
        ),
        ({"layer_offloading": True, "deepspeed": {"a": 1}, **LORA}, "layer_offloading: cannot be used with DeepSpeed."),
        ({"layer_offloading": True, "relora": True, **LORA}, "cannot be used with relora: it changes the frozen"),
        ({"layer_offloading": True, "lisa_n_layers": 2}, "cannot be used with lisa_n_layers"),
        ({"layer_offloading": True, "load_in_8bit": True, **LORA}, "cannot be used with load_in_8bit"),
        (
            {"layer_offloading": True, "load_in_4bit": True, **LORA, "adapter": "qlora"},
            "cannot be used with load_in_4bit: quantized weights are not moved yet.",
        ),
        ({"layer_offloading": True, "torch_compile": True, **LORA}, "cannot be used with torch_compile: compiled"),
        (
            {"gradient_checkpointing": "offload", "activation_offloading": "legacy"},
            "gradient_checkpointing: offload asks for another way than activation_offloading: legacy.",
        ),
        (
            {"gradient_checkpointing": "offload_disk", "activation_offloading": True},
            "gradient_checkpointing: offload_disk asks for another way than activation_offloading: true.",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"activation_offloading": False},
        {"layer_offloading": True, "unfrozen_parameters": ["lm_head"]},
        {"layer_offloading": True, "gradient_checkpointing": True, "activation_offloading": True, **LORA},
        {"gradient_checkpointing": "offload_disk", "activation_offloading": "disk"},
        {"activation_offloading": "disk", "gradient_checkpointing": True},
        {"layer_offloading": True, "adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True},
        {"ple_cpu_offload": True, "adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize("key", ["layer_offloading", "ple_cpu_offload"])
def test_all_keys_are_there(key):
    assert unsupported(**{key: True}, **LORA) == set()


def test_methods_with_a_forward_pass_of_their_own():
    keys = {"rl": "dpo", "gradient_checkpointing": True, "activation_offloading": "disk"}
    keys["datasets"] = [{"path": "rows.jsonl", "type": "chat_template.default"}]
    assert "activation_offloading" in unsupported(**keys)


@pytest.mark.parametrize(
    ("model", "fits"),
    [
        ({"model_type": "gemma3n_text", "hidden_size_per_layer_input": 256}, True),
        ({"model_type": "gemma4", "text_config": {"hidden_size_per_layer_input": 256}}, True),
        ({"model_type": "gemma4", "text_config": {"hidden_size_per_layer_input": 0}}, False),
        ({"model_type": "llama"}, False),
    ],
)
def test_models_without_per_layer_embeddings(model, fits):
    found = complaints(Facts(model=model), ple_cpu_offload=True, **LORA)
    assert any("ple_cpu_offload: the model has no per-layer embeddings" in line for line in found) != fits


@pytest.mark.parametrize(
    ("key", "name"), [("layer_offloading", "offload_layers"), ("ple_cpu_offload", "offload_table")]
)
def test_the_model_is_told(key, name, monkeypatch):
    pytest.importorskip("torch")
    from newt.models import cpu_weights

    seen = []
    monkeypatch.setattr(cpu_weights, name, lambda model: seen.append(model) or "the layers")
    run = make_run(**{key: True}, **LORA)
    for prepare in run.load_plan().prepare[-2:]:
        if "Offload" in prepare.__qualname__:
            prepare("the model")
    assert seen == ["the model"]
    (feature,) = (part for part in run.features if part.name == "offload")
    assert feature.layers == ("the layers" if key == "layer_offloading" else None)


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
