"""The keys of LoRA: what is asked for, what is missing, what cannot be."""

import json

import pytest
from tests.helpers import make_config, make_run, messages

from newt.extend import Facts
from newt.features.lora import Lora, LoraSettings

GOOD = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


def said(facts=Facts(), **keys):  # noqa: B008
    """Problems of this feature alone."""
    run = make_run(facts, **keys)
    return [str(problem) for part in run.parts if isinstance(part, Lora) for problem in part.check()]


def test_a_good_config_has_no_problems_and_fills_the_slot():
    assert said(**GOOD) == []
    assert make_run(**GOOD).load_plan().adapter.by == "lora"
    assert not make_run().load_plan().adapter


def test_keys_without_adapter_have_no_effect():
    assert messages(lora_r=8) == ["lora_r: has no effect: adapter is not set. Remove it, or switch it on."]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"lora_r": None}, "lora_r: is missing. For example lora_r: 16."),
        ({"lora_alpha": None}, "lora_alpha: is missing. For example lora_alpha: 32."),
        (
            {"lora_target_linear": None},
            "lora_target_modules: nothing is targeted. Set lora_target_linear: true, or list lora_target_modules.",
        ),
        (
            {"adapter": "lroa"},
            "adapter: unknown adapter 'lroa'. Valid: lora, qlora. An adapter of your own needs its class in plugins.",
        ),
        (
            {"adapter": "llama-adapter", "lora_r": None, "lora_alpha": None},
            "adapter: llama-adapter is known, but Newt does not support it yet. Use adapter: lora.",
        ),
        (
            {"lora_target_linear": None, "lora_target_modules": "*q_proj"},
            "lora_target_modules: '*q_proj' is not a regular expression: nothing to repeat at position 0.",
        ),
        (
            {"lora_target_modules": ".*q_proj"},
            "lora_target_linear: cannot be used with a regular expression in lora_target_modules. "
            "Remove one, or make it a list.",
        ),
        ({"peft_layers_pattern": "layers"}, "peft_layers_pattern: needs peft_layers_to_transform."),
        (
            {"lora_target_linear": None, "lora_target_modules": ".*q_proj", "peft_layers_to_transform": [0]},
            "peft_layers_to_transform: cannot be used with a regular expression in lora_target_modules. "
            "Put the layer numbers into the expression, or list the modules.",
        ),
        (
            {"lora_target_parameters": ["experts.up"], "lora_dropout": 0.1},
            "lora_dropout: cannot be used with lora_target_parameters. Set it to 0.",
        ),
        (
            {"lora_target_parameters": ["experts.up"], "peft_use_dora": True},
            "peft_use_dora: cannot be used with lora_target_parameters. Remove one.",
        ),
        ({"merge_lora": True}, "merge_lora: is not a setting of a run. Remove it; newt merge-lora merges."),
        ({"lora_on_cpu": True}, "lora_on_cpu: has no effect: lora_model_dir is not set. Remove it."),
        (
            {"peft_autocast_adapter_dtype": False, "fp16": True},
            "peft_autocast_adapter_dtype: an adapter in float16 cannot be trained: its gradients vanish. Remove it.",
        ),
    ],
)
def test_each_mistake_is_one_problem(change, expected):
    assert said(**{**GOOD, **change}) == [expected]


def test_both_ends_of_a_tied_model_are_refused_before_loading():
    tied = Facts(known=True, model={"model_type": "llama", "tie_word_embeddings": True})
    ends = {**GOOD, "lora_target_modules": ["embed_tokens", "lm_head"]}
    assert said(tied, **ends) == [
        "lora_target_modules: this model's embedding and output layer are one weight, and cannot have an adapter each. "
        "Remove one, or name both in lora_modules_to_save instead."
    ]
    assert said(Facts(known=True, model={"model_type": "llama", "tie_word_embeddings": False}), **ends) == []
    assert said(tied, **{**GOOD, "lora_target_modules": ["embed_tokens"]}) == []


def test_an_existing_adapter_brings_rank_and_targets(tmp_path):
    keys = {"adapter": "lora", "lora_model_dir": str(tmp_path)}
    assert said(**keys) == [f"lora_model_dir: {tmp_path} holds no adapter (no adapter_config.json)."]
    (tmp_path / "adapter_config.json").write_text("{")
    assert "is not valid JSON" in said(**keys)[0]
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8}))
    assert said(**keys) == []
    assert "there is no folder" in said(adapter="lora", lora_model_dir=str(tmp_path / "x"))[0]


def test_options_have_the_names_of_peft():
    from dataclasses import fields

    from peft import LoraConfig

    run = make_run(**GOOD)
    options = next(part for part in run.parts if isinstance(part, Lora)).options()
    assert set(options) <= {field.name for field in fields(LoraConfig)}
    assert (options["r"], options["lora_alpha"], options["lora_dropout"]) == (8, 16, 0.0)


def test_every_key_is_documented():
    assert all(field.description for field in LoraSettings.model_fields.values()) or _docstrings()
    assert make_config(**GOOD)[LoraSettings].merge_method == "memory_efficient"


def _docstrings():
    import ast
    import inspect
    import textwrap

    body = ast.parse(textwrap.dedent(inspect.getsource(LoraSettings))).body[0].body
    named = LoraSettings.model_fields
    fields = [index for index, node in enumerate(body) if isinstance(node, ast.AnnAssign) and node.target.id in named]
    return all(isinstance(body[index + 1], ast.Expr) for index in fields)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"peft_layer_replication": [[0, 2], [1, 2]]}, []),
        ({"peft_layer_replication": [[0, 2], [2, 2]]}, ["peft_layer_replication: the range [2, 2] is empty."]),
        (
            {"peft_layer_replication": [[0, 4], [2, 5]]},
            ["peft_layer_replication: the range [2, 5] ends beyond the model's 4 layers."],
        ),
        ({"peft_trainable_token_indices": [3, 63]}, []),
        (
            {"peft_trainable_token_indices": [3, 64]},
            ["peft_trainable_token_indices: there is no token 64: the model has 64."],
        ),
        ({"peft_trainable_token_indices": [64], "tokens": ["<new>"]}, []),
        ({"peft_trainable_token_indices": {"embed_tokens": [3]}, "peft_ensure_weight_tying": True}, []),
    ],
)
def test_further_settings(change, expected):
    packages = {"scipy": "1", "bitsandbytes": "1"}
    facts = Facts(
        known=True, gpus=1, packages=packages, model={"model_type": "llama", "vocab_size": 64, "num_hidden_layers": 4}
    )
    assert said(facts, **GOOD, **change) == expected


ADAPTER = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


@pytest.mark.parametrize(
    "keys",
    [
        {"lora_mlp_kernel": True},
        {"qlora_sharded_model_loading": True},
    ],
)
def test_keys_to_come(keys):
    key = next(iter(keys))
    assert f"{key}: is known, but Newt does not support it yet." in messages(**ADAPTER, **keys)


def test_neutral_values_pass():
    keys = ["relora", "qlora_sharded_model_loading", "lora_on_cpu", "merge_lora", "peft_use_dora", "lora_o_kernel"]
    assert messages(**dict.fromkeys(keys, False)) == []
    assert messages(**ADAPTER, **dict.fromkeys(keys, False), peft_autocast_adapter_dtype=True) == []
    assert messages(loraplus_lr_embedding=1e-6, lisa_layers_attribute="model.layers") == []


def test_what_an_existing_adapter_has_decided_is_told_apart():
    run = make_run(**GOOD, lora_dropout=0.1, lora_target_modules=["q_proj"])
    given = next(part for part in run.parts if isinstance(part, Lora)).given_options()
    assert given == {
        "lora_r": ("r", 8),
        "lora_alpha": ("lora_alpha", 16),
        "lora_dropout": ("lora_dropout", 0.1),
        "lora_target_modules": ("target_modules", ["q_proj"]),
    }


SMALL = Facts(known=True, cpu_bf16=True, model={"model_type": "llama", "num_hidden_layers": 4, "vocab_size": 600})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"peft_layers_to_transform": [3, 4]},
            "peft_layers_to_transform: there is no layer 4: the model has 4, from 0",
        ),
        ({"peft_layers_to_transform": [5], "peft_layer_replication": [[0, 4], [2, 4]]}, ""),
        ({"lora_rank_pattern": {"q(": 2}}, "lora_rank_pattern: 'q(' is not a regular expression: missing )"),
        ({"peft_trainable_token_indices": []}, "peft_trainable_token_indices: names no token. Remove it, or list ids."),
        ({"peft_trainable_token_indices": {"lm_head": []}}, "peft_trainable_token_indices: names no token."),
        (
            {"peft_trainable_token_indices": [5, 7, 5]},
            "peft_trainable_token_indices: token 5 is listed twice. Keep one.",
        ),
        ({"peft_trainable_token_indices": [600]}, "peft_trainable_token_indices: there is no token 600: the model has"),
        ({"peft_trainable_token_indices": {"lm_head": [601]}}, "peft_trainable_token_indices: there is no token 601"),
        ({"peft_trainable_token_indices": [600], "special_tokens": {"eos_token": "<e>"}}, ""),
        ({"peft_trainable_token_indices": [600], "resize_token_embeddings_to_32x": True}, ""),
        ({"reinit_weights": True}, "reinit_weights: the random weights would not be saved with the adapter"),
        ({"reinit_weights": True, "relora": True, "jagged_restart_steps": 5}, ""),
    ],
)
def test_what_would_be_trained_without_effect_is_refused(change, expected):
    found = said(SMALL, **{**GOOD, **change})
    assert len(found) == bool(expected), found
    assert all(text.startswith(expected) for text in found)
