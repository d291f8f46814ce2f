"""Adapters on other bases, and rules that decide what an adapter or a layer learns, against independent loops."""

from types import SimpleNamespace

import pytest
import torch
from tests.golden.test_adapters import KEYS, LINEAR, RATE, SEED, SMALL, STEPS, check, fit_without_record, step_losses
from tests.helpers import make_config, make_run
from tests.models.tiny import LORA, load
from tests.training.tiny import Data, Rows, plans
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    set_seed,
)

from newt.training.build import build_trainer
from newt.training.callbacks.lisa import draw

UNTIED = {
    "modules in full": (
        {"lora_target_linear": True, "lora_modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": LINEAR, "modules_to_save": ["embed_tokens", "lm_head"]},
    ),
    "tokens": (
        {"lora_target_linear": True, "peft_trainable_token_indices": {"embed_tokens": [5, 17], "lm_head": [5, 17]}},
        {"target_modules": LINEAR, "trainable_token_indices": {"embed_tokens": [5, 17], "lm_head": [5, 17]}},
    ),
    "output layer": (
        {"lora_target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "lm_head"]},
    ),
}


def made(tokenizer_dir, folder, model):
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", UNTIED)
def test_a_model_whose_output_layer_has_its_own_weight(tokenizer_dir, tmp_path, kind):
    torch.manual_seed(0)
    sizes = {key: value for key, value in SMALL.items() if not key.startswith("moe")}
    base = made(tokenizer_dir, tmp_path / "base", LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False)))
    check(kind, base, tmp_path, *UNTIED[kind])


@pytest.mark.parametrize("said", [True, None], ids=["said", "not said"])
def test_layers_that_store_their_weights_the_other_way_round(tokenizer_dir, tmp_path, said):
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 608, "n_positions": 512}
    base = made(
        tokenizer_dir, tmp_path / "base", GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=2,
                                                                    resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))
    )  # fmt: skip
    keys = {"lora_target_modules": ["c_attn", "c_proj"], "lora_fan_in_fan_out": said}
    check("gpt2", base, tmp_path, keys, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True})


def train(base, out, part_keys, **adapter):
    """Twenty steps with the slots that the Parts fill: losses, batches, and the weights at the end."""
    settings = {"micro_batch_size": 2, "max_steps": STEPS, "logging_steps": 1, "learning_rate": RATE}
    run = make_run(base_model=str(base), output_dir=str(out), **settings, **part_keys, **adapter)
    loaded = load(base, **adapter)
    cfg = make_config(base_model=str(base), output_dir=str(out), **settings, **part_keys, **adapter)
    plan, data = plans(cfg, learning_rate=RATE, lr_scheduler_type="constant", max_grad_norm=0.0, save_strategy="no")
    ours = run.train_plan()
    if ours.groups:
        plan.groups = ours.groups
    plan.callbacks += ours.callbacks
    trainer = build_trainer(plan, data, SimpleNamespace(model=loaded.model, tokenizer=loaded.tokenizer), Data(Rows(40)))
    batches, loss = [], trainer.compute_loss

    def watch(model, inputs, *args, **kwargs):
        batches.append({key: value.clone() for key, value in inputs.items() if torch.is_tensor(value)})
        return loss(model, inputs, *args, **kwargs)

    trainer.compute_loss = watch
    fit_without_record(trainer, cfg)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], batches


def test_lora_plus(model_dir, tmp_path):
    from peft import LoraConfig, get_peft_model

    losses, batches = train(model_dir, tmp_path, {"loraplus_lr_ratio": 4}, **LORA)
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    set_seed(SEED)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", target_modules=LINEAR)).train()
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    fast = [parameter for name, parameter in named if ".lora_B." in name]
    slow = [parameter for name, parameter in named if ".lora_A." in name]
    assert len(fast) + len(slow) == len(named)
    groups = [{"params": slow, "lr": RATE}, {"params": fast, "lr": 4 * RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    assert losses == pytest.approx(step_losses(model, batches, optimizer, lambda number: None), abs=2e-4)
    assert KEYS.items() <= LORA.items()


def test_lisa(model_dir, tmp_path):
    losses, batches = train(model_dir, tmp_path, {"lisa_n_layers": 1, "lisa_step_interval": 3, "seed": SEED})
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)

    def choose(number):
        (chosen,) = draw(SEED, number // 3, 1, 2)
        for layer, module in enumerate(model.model.layers):
            module.requires_grad_(layer == chosen)

    assert losses == pytest.approx(step_losses(model, batches, optimizer, choose), abs=2e-4)
    assert {draw(SEED, block, 1, 2)[0] for block in range(7)} == {0, 1}
