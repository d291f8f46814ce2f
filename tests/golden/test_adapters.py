"""Every kind of adapter against an independent loop: plain torch and peft, the same batches, twenty steps.

Then the adapter is written, read by plain peft without a difference, and merged; the merged model computes the same.
"""

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tests.helpers import make_config
from tests.models.tiny import load, logits
from tests.training.tiny import Data, Rows, plans
from transformers import (
    AutoModelForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    set_seed,
)

from newt.models.merge import merge_lora
from newt.models.save import save_final
from newt.training.build import build_trainer
from newt.training.fit import fit

STEPS, RATE, SEED = 20, 5e-3, 42
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KEYS = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8}

KINDS = {
    "lora": ({"lora_target_linear": True}, {"target_modules": LINEAR}),
    "dropout": ({"lora_target_linear": True, "lora_dropout": 0.2}, {"target_modules": LINEAR, "lora_dropout": 0.2}),
    "dora": ({"lora_target_linear": True, "peft_use_dora": True}, {"target_modules": LINEAR, "use_dora": True}),
    "rslora": ({"lora_target_linear": True, "peft_use_rslora": True}, {"target_modules": LINEAR, "use_rslora": True}),
    "gaussian": (
        {"lora_target_linear": True, "peft_init_lora_weights": "gaussian"},
        {"target_modules": LINEAR, "init_lora_weights": "gaussian"},
    ),
    "orthogonal": (
        {"lora_target_linear": True, "peft_init_lora_weights": "orthogonal"},
        {"target_modules": LINEAR, "init_lora_weights": "orthogonal"},
    ),
    "pissa": (
        {"lora_target_linear": True, "peft_init_lora_weights": "pissa"},
        {"target_modules": LINEAR, "init_lora_weights": "pissa"},
    ),
    "olora": (
        {"lora_target_linear": True, "peft_init_lora_weights": "olora"},
        {"target_modules": LINEAR, "init_lora_weights": "olora"},
    ),
    "pissa, fast": (
        {"lora_target_linear": True, "peft_init_lora_weights": "pissa_niter_4"},
        {"target_modules": LINEAR, "init_lora_weights": "pissa_niter_4"},
    ),
    "patterns": (
        {
            "lora_target_modules": ["q_proj", "v_proj"],
            "lora_rank_pattern": {"q_proj": 2},
            "lora_alpha_pattern": {"v_proj": 4},
        },
        {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 4}},
    ),
    "expression": (
        {"lora_target_modules": r"model.layers.[\d]+.(_checkpoint_wrapped_module.)?(mlp|self_attn).(up|q)_proj"},
        {"target_modules": ["q_proj", "up_proj"]},
    ),
    "random beginning": (
        {"lora_target_linear": True, "peft_init_lora_weights": False},
        {"target_modules": LINEAR, "init_lora_weights": False},
    ),
    "patterns by expression": (
        {"lora_target_linear": True, "peft_use_dora": True, "peft_use_rslora": True, "lora_dropout": 0.1,
         "lora_rank_pattern": {r"layers\.1\.mlp\.up_proj": 8}, "lora_alpha_pattern": {r"layers\.0\..*_proj": 4}},
        {"target_modules": LINEAR, "use_dora": True, "use_rslora": True, "lora_dropout": 0.1,
         "rank_pattern": {r"layers\.1\.mlp\.up_proj": 8}, "alpha_pattern": {r"layers\.0\..*_proj": 4}},
    ),
    "some layers": (
        {"lora_target_modules": ["q_proj"], "peft_layers_to_transform": [1], "peft_layers_pattern": "layers"},
        {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    ),
    "excluded": (
        {"lora_target_linear": True, "lora_exclude_modules": ["o_proj"]},
        {"target_modules": LINEAR, "exclude_modules": ["o_proj"]},
    ),
    "excluded by expression": (
        {"lora_target_linear": True, "lora_exclude_modules": r"model\.layers\.0\..*"},
        {"target_modules": LINEAR, "exclude_modules": r"model\.layers\.0\..*"},
    ),
    "modules in full": (
        {"lora_target_linear": True, "lora_modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": LINEAR, "modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
    ),
    "embedding": ({"lora_target_modules": ["embed_tokens", "q_proj"]}, {"target_modules": ["embed_tokens", "q_proj"]}),
    "tokens": (
        {"lora_target_linear": True, "peft_trainable_token_indices": [5, 17]},
        {"target_modules": LINEAR, "trainable_token_indices": [5, 17]},
    ),
    "tokens of a module": (
        {"lora_target_linear": True, "peft_trainable_token_indices": {"embed_tokens": [5, 17]}},
        {"target_modules": LINEAR, "trainable_token_indices": {"embed_tokens": [5, 17]}},
    ),
    "repeated layers": (
        {"lora_target_linear": True, "peft_layer_replication": [[0, 2], [1, 2]]},
        {"target_modules": LINEAR, "layer_replication": [(0, 2), (1, 2)]},
    ),
}  # fmt: skip
IN_MEMORY = (
    "pissa",
    "olora",
    "tokens",
    "tokens of a module",
    "repeated layers",
    "experts",
    "experts by their old names",
)
"""Kinds that are merged with the whole model in memory, because a merge by file refuses them."""
ROUNDED = ("pissa, fast",)
"""Written in another form than they are trained in."""

SMALL = {
    "vocab_size": 608, "hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
    "pad_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {
    "experts": (
        (Qwen3MoeConfig, Qwen3MoeForCausalLM, {"num_experts": 4, "num_experts_per_tok": 2}),
        {
            "lora_target_modules": ["q_proj"],
            "lora_target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        },
        {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
    ),
    "experts by their old names": (
        (MixtralConfig, MixtralForCausalLM, {"num_local_experts": 4}),
        {"lora_target_modules": ["q_proj", "w1", "w2", "w3"]},
        {"target_modules": ["q_proj", "w1", "w2", "w3"]},
    ),
}  # fmt: skip


def train(base, out, keys):
    """Twenty steps of our own: the model, its tokenizer, config, losses, and the batches that it saw."""
    cfg = make_config(base_model=str(base), output_dir=str(out), **KEYS, **keys)
    loaded = load(base, **KEYS, **keys)
    settings = make_config(
        base_model=str(base), output_dir=str(out), micro_batch_size=2, max_steps=STEPS, logging_steps=1, **KEYS, **keys
    )
    plan, data = plans(
        settings, learning_rate=RATE, lr_scheduler_type="constant", max_grad_norm=0.0, save_strategy="no"
    )
    trainer = build_trainer(plan, data, SimpleNamespace(model=loaded.model, tokenizer=loaded.tokenizer), Data(Rows(40)))
    batches = []
    loss = trainer.compute_loss

    def watch(model, inputs, *args, **kwargs):
        batches.append({key: value.clone() for key, value in inputs.items() if torch.is_tensor(value)})
        return loss(model, inputs, *args, **kwargs)

    trainer.compute_loss = watch
    fit_without_record(trainer, settings)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return loaded, cfg, losses, batches


def fit_without_record(trainer, settings):
    from newt.training.resume import Start

    data = SimpleNamespace(summary=SimpleNamespace(to_dict=dict), fingerprint="")
    return fit(trainer, settings, Start(), data)


def independent(base, options, batches):
    """The same with nothing but torch and peft."""
    set_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.config.use_cache = False
    set_seed(SEED)
    dropout = options.get("lora_dropout", 0)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **options)).train()
    assert dropout == model.peft_config["default"].lora_dropout
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    set_seed(SEED)
    return step_losses(model, batches, optimizer, lambda number: None)


def step_losses(model, batches, optimizer, before_step):
    """A bare loop; ``before_step`` is called with the number of each step."""
    losses = []
    for number, batch in enumerate(batches):
        before_step(number)
        labels = batch.pop("labels")
        scores = model(**batch, use_cache=False).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def check(kind, base, tmp_path, keys, options):
    frozen = {name: p.clone() for name, p in AutoModelForCausalLM.from_pretrained(base).named_parameters()}
    loaded, cfg, losses, batches = train(base, tmp_path / "run", keys)
    assert losses == pytest.approx(independent(base, options, batches), abs=2e-4)
    if not (kind.startswith(("pissa", "olora")) or "repeated" in kind):  # these take a part out of the base
        now = {name.replace(".base_layer", ""): p for name, p in loaded.model.get_base_model().named_parameters()}
        same = [torch.equal(now[name], p) for name, p in frozen.items() if name in now and not now[name].requires_grad]
        assert same
        assert all(same)
    save_final(loaded.model, loaded.tokenizer, tmp_path / "adapter", cfg)
    expected = logits(loaded.model)
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "adapter"))
    assert (logits(again) - expected).abs().max() <= (1e-5 if kind in ROUNDED else 0.0)
    method = "legacy" if kind in IN_MEMORY else "memory_efficient"
    report = merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged", method=method)
    assert report.max_difference <= report.tolerance < report.adapter_effect
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert torch.allclose(logits(merged), expected, atol=5e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_a_dense_model(model_dir, tmp_path, kind):
    check(kind, model_dir, tmp_path, *KINDS[kind])


@pytest.mark.parametrize("kind", EXPERTS)
def test_an_adapter_of_experts(tokenizer_dir, tmp_path, kind):
    from transformers import AutoTokenizer

    (config, model, sizes), keys, options = EXPERTS[kind]
    torch.manual_seed(0)
    model(config(**SMALL, **sizes)).save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(tmp_path / "base")
    check(kind, tmp_path / "base", tmp_path, keys, options)
