"""From a config to a model that is ready to be trained."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import make_run
from tests.models.tiny import LORA, load, logits
from torch import nn
from transformers import LlamaConfig

from newt.extend import Swap
from newt.models.embeddings import length_bound_rope
from newt.models.load import load_model
from newt.models.tokenizer import load_tokenizer
from newt.support.errors import NewtError


@pytest.fixture
def copy(model_dir, tmp_path):
    return shutil.copytree(model_dir, tmp_path / "copy")


def edit_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_weights_are_float32_even_when_the_checkpoint_is_not(copy):
    def to_bf16(weights):
        weights.update({name: tensor.bfloat16() for name, tensor in weights.items()})

    edit_weights(copy, to_bf16)
    edit_config(copy, dtype="bfloat16")
    found = load(copy, float32=True)
    assert {p.dtype for p in found.model.parameters()} == {torch.float32}
    assert found.model.config.use_cache is False
    assert found.trainable == found.total == sum(p.numel() for p in found.model.parameters())


def test_a_plan_without_a_number_type_gives_float32(copy):
    edit_weights(copy, lambda weights: weights.update({name: t.bfloat16() for name, t in weights.items()}))
    run = make_run(base_model=str(copy))
    plan = run.load_plan()
    plan.kwargs.pop("dtype", None)
    assert load_model(plan, load_tokenizer(run.cfg)).model.dtype == torch.float32


def test_a_missing_weight_is_an_error_not_a_random_one(copy):
    edit_weights(copy, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(NewtError, match=r"lacks 1 weights .*\.1\.mlp\.up_proj\.weight: they would be random"):
        load(copy)


def test_a_missing_output_layer_that_is_not_tied_is_an_error(copy):
    edit_config(copy, tie_word_embeddings=False)
    with pytest.raises(NewtError, match=r"such as lm_head\.weight"):
        load(copy)


def test_weights_of_another_shape_are_an_error(copy):
    edit_weights(copy, lambda w: w.update({"model.norm.weight": torch.ones(63)}))
    with pytest.raises(NewtError, match=r"base_model: .*model\.norm\.weight"):
        load(copy)


def test_unused_weights_are_noted(copy):
    edit_weights(copy, lambda weights: weights.update({"value_head.weight": torch.ones(3)}))
    assert "the checkpoint has 1 weights that the model does not use, such as value_head.weight" in load(copy).notes


def test_random_weights_only_when_asked_and_the_same_for_one_seed(copy):
    (copy / "model.safetensors").unlink()
    one, two, other = (load(copy, reinit_weights=True, seed=seed).model for seed in (1, 1, 2))
    assert torch.equal(logits(one), logits(two))
    assert not torch.equal(logits(one), logits(other))


def test_incomplete_folders_are_named(copy, tmp_path):
    (copy / "model.safetensors").unlink()
    with pytest.raises(NewtError, match="has no weights"):
        load(copy)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(NewtError, match=r"incomplete: model-00001-of-00002\.safetensors is missing"):
        load(copy)
    (copy / "config.json").unlink()
    with pytest.raises(NewtError, match=r"has no config\.json"):
        load(copy)
    with pytest.raises(NewtError, match=r"neither a folder nor a Hub id\. Did you mean .*copy"):
        load(tmp_path / "coppy")


def test_overrides_of_the_config_reach_the_model_and_unknown_ones_are_refused(model_dir):
    found = load(model_dir, overrides_of_model_config={"attention_dropout": 0.25})
    assert found.model.config.attention_dropout == 0.25
    with pytest.raises(NewtError, match=r"llama models have no 'atention_dropout'\. Did you mean attention_dropout\?"):
        load(model_dir, overrides_of_model_config={"atention_dropout": 0.25})


def test_new_rope_parameters_keep_the_base_frequency(copy):
    edit_config(copy, rope_parameters={"rope_type": "default", "rope_theta": 77777.0})
    overrides = {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}
    found = load(copy, overrides_of_model_config=overrides).model.config.rope_parameters
    assert found == {"rope_type": "linear", "factor": 2.0, "rope_theta": 77777.0}


def test_model_kwargs_reach_the_loader_and_do_not_overrule_a_part(model_dir):
    found = load(model_dir, overrides_of_model_kwargs={"attn_implementation": "eager"})
    assert found.model.config._attn_implementation == "eager"
    with pytest.raises(NewtError, match="attn_implementation is set by attention already"):
        load(model_dir, attn_implementation="sdpa", overrides_of_model_kwargs={"attn_implementation": "eager"})


def test_an_unknown_model_class_is_named(model_dir):
    with pytest.raises(NewtError, match=r"no model class LamaForCausalLM\. Did you mean LlamaForCausalLM\?"):
        load(model_dir, type_of_model="LamaForCausalLM")


def test_longer_sequences_raise_the_limit_and_say_so(model_dir):
    found = load(model_dir, sequence_len=1024)
    assert found.model.config.max_position_embeddings == 1024
    assert any("made for 512 positions" in note for note in found.notes)
    assert load(model_dir, sequence_len=512).notes == []


def test_a_rope_that_depends_on_the_limit_keeps_it():
    """Each kind of layer may have a rope of its own."""
    yarn = {"rope_type": "yarn", "factor": 4.0}
    config = LlamaConfig(max_position_embeddings=64)
    assert length_bound_rope(config) == []
    config.rope_parameters = yarn
    assert length_bound_rope(config) == ["yarn"]
    config.rope_parameters = {"sliding_attention": {"rope_type": "default"}, "full_attention": yarn}
    assert length_bound_rope(config) == ["yarn"]


def test_learned_positions_cannot_grow(tmp_path, tokenizer_dir):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=608, n_positions=64, bos_token_id=0, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(NewtError, match=r"128 is longer than the 64 positions that transformer\.wpe has learned"):
        load(tmp_path, tokenizer_config=str(tokenizer_dir), sequence_len=128)


class Doubled(nn.Module):
    def __init__(self, old):
        super().__init__()
        self.old = old

    def forward(self, x):
        return 2 * self.old(x)


@pytest.mark.parametrize("when", ["before_adapter", "after_adapter"])
def test_swaps_replace_instances(model_dir, when):
    run = make_run(base_model=str(model_dir), **LORA)
    plan = run.load_plan()
    plan.swaps.append(Swap("transformers.models.llama.modeling_llama.LlamaMLP", Doubled, "test", when))
    model = load_model(plan, load_tokenizer(run.cfg)).model
    assert isinstance(model.base_model.model.model.layers[1].mlp, Doubled)
    adapted = hasattr(model.base_model.model.model.layers[1].mlp.old.up_proj, "lora_A")
    assert adapted


def test_a_swap_that_finds_nothing_is_an_error(model_dir):
    run = make_run(base_model=str(model_dir))
    plan = run.load_plan()
    plan.swaps.append(Swap("transformers.models.qwen2.modeling_qwen2.Qwen2MLP", Doubled, "test"))
    with pytest.raises(NewtError, match=r"test: this model has no module .*Qwen2MLP to replace"):
        load_model(plan, load_tokenizer(run.cfg))


def test_nothing_to_train_is_an_error(model_dir):
    run = make_run(base_model=str(model_dir))
    plan = run.load_plan()
    plan.prepare.append(lambda model: model.requires_grad_(False))
    with pytest.raises(NewtError, match="Nothing would be trained"):
        load_model(plan, load_tokenizer(run.cfg))


def test_one_seed_gives_bit_identical_adapters(model_dir):
    one, two, other = (load(model_dir, **LORA, seed=seed).model for seed in (7, 7, 8))
    states = [{n: p for n, p in model.named_parameters() if "lora_A" in n} for model in (one, two, other)]
    assert len(states[0]) == 14
    for name, weight in states[0].items():
        assert torch.equal(weight, states[1][name])
        assert not torch.equal(weight, states[2][name])


def test_the_base_of_an_adapter_run_is_frozen_in_its_own_type(model_dir):
    found = load(model_dir, **LORA, bfloat16=True)
    kinds = {(p.requires_grad, p.dtype) for p in found.model.parameters()}
    assert kinds == {(False, torch.bfloat16), (True, torch.float32)}
    assert found.trainable == sum(p.numel() for p in found.model.parameters() if p.requires_grad)


def test_what_the_plan_does_to_the_base_comes_before_the_adapter(model_dir):
    run = make_run(base_model=str(model_dir), **LORA)
    plan = run.load_plan()
    seen = []
    plan.prepare_base.append(lambda model, notes: seen.append(hasattr(model, "peft_config")) or notes.append("mine"))
    assert "mine" in load_model(plan, load_tokenizer(run.cfg)).notes
    assert seen == [False]


def test_a_config_from_elsewhere(model_dir, copy, tmp_path):
    """Also its tokenizer, if the weights come without one."""
    other = tmp_path / "other"
    other.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.move(copy / name, other / name)
    shutil.copy(other / "config.json", copy / "config.json")
    edit_config(copy, attention_dropout=0.5)
    assert load(copy, base_model_config=str(other)).model.config.attention_dropout == 0


def foreign(folder, **entries):
    """Make a model folder that needs code of its own, which leaves a trace when it is run."""
    edit_config(folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"})
    (folder / "own.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w').close()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class Own(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )


def test_foreign_code_is_run_only_when_it_is_allowed(copy):
    foreign(copy)
    with pytest.raises(NewtError, match=r"needs Python code that comes with it.*trust_remote_code: true") as caught:
        load(copy)
    assert "\n" not in str(caught.value)
    assert not (copy / "ran").exists()
    assert type(load(copy, trust_remote_code=True).model).__name__ == "Own"
    assert (copy / "ran").exists()


def test_another_models_tokenizer_is_refused(model_dir, copy, tokenizer_dir):
    def fewer(weights):
        weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:500].clone()

    edit_weights(copy, fewer)
    edit_config(copy, vocab_size=500)
    with pytest.raises(NewtError, match="the tokenizer has 600 tokens, but the model has embeddings of 500"):
        load(copy, tokenizer_config=str(tokenizer_dir))
    assert load(copy, reinit_weights=True).model.config.vocab_size == 600
    edit_config(copy, vocab_size=2000)
    found = load(copy, reinit_weights=True)
    assert not any("is it the model's own?" in note for note in found.notes)


def test_a_much_smaller_tokenizer_is_noted(copy, model_dir):
    import torch as t

    def more(weights):
        weights["model.embed_tokens.weight"] = t.ones(1000, 64)

    edit_weights(copy, more)
    edit_config(copy, vocab_size=1000)
    assert "the tokenizer has 600 tokens, the model 1000: is it the model's own? (base_model)" in load(copy).notes
