"""Attaching and loading LoRA adapters."""

import json
import shutil

import pytest
import torch
from tests.helpers import make_config, make_run
from tests.models.tiny import IDS, load, logits, stir
from transformers import AutoModelForCausalLM

from newt.models.adapters import expert_targets, in_float32, linear_names
from newt.models.save import save_final
from newt.support.errors import NewtError

BASE = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapted(model):
    prefix = "base_model.model.model."
    names = (name.removeprefix(prefix) for name, _ in model.named_parameters() if "lora_A" in name)
    return sorted({name.split(".lora_A")[0] for name in names})


@pytest.fixture
def base(model_dir):
    return AutoModelForCausalLM.from_pretrained(model_dir)


def test_linear_means_all_linear_layers_but_the_output_layer(base, model_dir):
    assert linear_names(base) == LINEAR
    found = adapted(load(model_dir, **BASE, lora_target_linear=True).model)
    assert len(found) == 14
    assert {name.rpartition(".")[2] for name in found} == set(LINEAR)


def test_a_linear_layer_in_a_list_keeps_its_full_name(base):
    """Its last part is a number, which the decoder layers have too."""
    base.model.projections = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)])
    assert linear_names(base) == [*LINEAR, "model.projections.0", "model.projections.1"]


def test_layers_that_peft_refuses_are_left_out(base):
    base.model.out_proj = torch.nn.Linear(4, 4)
    assert "out_proj" in linear_names(base)
    base.config.model_type = "nemotron_h"
    assert linear_names(base) == LINEAR


def test_names_and_linear_together_are_the_union(model_dir):
    found = load(model_dir, **BASE, lora_target_linear=True, lora_target_modules=["embed_tokens", "q_proj"]).model
    assert len(adapted(found)) == 14
    assert any("lora_embedding_A" in name for name, _ in found.named_parameters())


def test_a_regular_expression_must_match_the_full_name(model_dir):
    found = load(model_dir, **BASE, lora_target_modules=r"model\.layers\.[\d]+\.mlp\.(up|down)_proj").model
    assert adapted(found) == [f"layers.{i}.mlp.{kind}_proj" for i in (0, 1) for kind in ("down", "up")]
    with pytest.raises(NewtError, match=r"'q_proj' matches no full module name.*A list of names is written \[q_proj\]"):
        load(model_dir, **BASE, lora_target_modules="q_proj")


def test_a_name_that_matches_nothing_lists_the_nearest_first(model_dir):
    with pytest.raises(NewtError, match=r"'q_porj' matches no module of this model\. The model has: q_proj, "):
        load(model_dir, **BASE, lora_target_modules=["q_porj", "v_proj"])
    with pytest.raises(NewtError, match=r"lora_modules_to_save: 'lm_haed' matches no module.*lm_head"):
        load(model_dir, **BASE, lora_target_linear=True, lora_modules_to_save=["lm_haed"])
    with pytest.raises(NewtError, match=r"'experts\.up' matches no three-dimensional parameter"):
        load(model_dir, **BASE, lora_target_parameters=["experts.up"])


def test_layers_and_excludes_narrow_the_targets(model_dir):
    one = load(model_dir, **BASE, lora_target_linear=True, peft_layers_to_transform=[1]).model
    assert all(name.startswith("layers.1.") for name in adapted(one))
    assert len(adapted(one)) == 7
    less = load(model_dir, **BASE, lora_target_linear=True, lora_exclude_modules=["o_proj"]).model
    assert len(adapted(less)) == 12


def test_rank_and_alpha_patterns_reach_the_layers(model_dir):
    model = load(
        model_dir, **BASE, lora_target_linear=True, lora_rank_pattern={"q_proj": 2}, lora_alpha_pattern={"v_proj": 80}
    ).model
    attention = model.base_model.model.model.layers[0].self_attn
    assert attention.q_proj.lora_A["default"].weight.shape == (2, 64)
    assert attention.k_proj.scaling["default"] == 8 / 4
    assert attention.v_proj.scaling["default"] == 80 / 4


def test_both_ends_of_a_tied_model_cannot_have_an_adapter_each(model_dir):
    with pytest.raises(NewtError, match="one weight, and cannot have an adapter each"):
        load(model_dir, **BASE, lora_target_modules=["embed_tokens", "lm_head"])
    with pytest.raises(NewtError, match="one weight"):
        load(model_dir, **BASE, lora_target_modules=".*(embed_tokens|lm_head)")


def test_saved_modules_of_a_tied_model_stay_tied(model_dir):
    keys = {"lora_target_linear": True, "lora_modules_to_save": ["embed_tokens", "lm_head"]}
    model = load(model_dir, **BASE, **keys).model
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_a_saved_adapter_goes_on_where_it_was(model_dir, tmp_path):
    first = load(model_dir, **BASE, lora_target_linear=True)
    stir(first.model)
    save_final(first.model, first.tokenizer, tmp_path / "adapter", make_config(base_model=str(model_dir)))
    again = load(model_dir, adapter="lora", lora_model_dir=str(tmp_path / "adapter"))
    assert torch.equal(logits(again.model), logits(first.model))
    assert again.trainable == first.trainable > 0


def test_an_adapter_of_another_base_is_refused(model_dir, tmp_path):
    first = load(model_dir, **BASE, lora_target_linear=True)
    save_final(first.model, first.tokenizer, tmp_path / "adapter", make_config(base_model=str(model_dir)))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "org/other"}))
    with pytest.raises(NewtError, match=rf"trained on org/other, but base_model is {model_dir}"):
        load(model_dir, adapter="lora", lora_model_dir=str(tmp_path / "adapter"))
    moved = shutil.copytree(model_dir, tmp_path / "moved")  # the same model in another place
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(model_dir)}))
    load(moved, adapter="lora", lora_model_dir=str(tmp_path / "adapter"))


def test_dropout_is_on_in_training_and_off_in_evaluation(model_dir):
    model = load(model_dir, **BASE, lora_target_linear=True, lora_dropout=0.5).model
    stir(model)
    assert model.training
    assert not torch.equal(model(IDS).logits, model(IDS).logits)
    assert torch.equal(logits(model), logits(model))


def test_only_trained_parameters_are_cast(base):
    base.bfloat16().requires_grad_(False)
    base.model.norm.requires_grad_(True)
    in_float32(base)
    assert {name for name, p in base.named_parameters() if p.dtype == torch.float32} == {"model.norm.weight"}


def test_settings_reach_peft(model_dir):
    run = make_run(base_model=str(model_dir), **BASE, lora_target_linear=True, peft_use_dora=True, peft_use_rslora=True)
    config = load(
        model_dir, **BASE, lora_target_linear=True, peft_use_dora=True, peft_use_rslora=True
    ).model.peft_config
    assert run.load_plan().adapter.by == "lora"
    found = config["default"]
    assert (found.use_dora, found.use_rslora, found.bias, found.task_type) == (True, True, "none", "CAUSAL_LM")


def test_single_tokens_are_trained_and_saved(model_dir, tmp_path):
    keys = {**BASE, "lora_target_linear": True, "peft_trainable_token_indices": [17, 41]}
    loaded = load(model_dir, **keys)
    before = logits(loaded.model)
    rows = [p for name, p in loaded.model.named_parameters() if "trainable_tokens" in name and p.requires_grad]
    assert [len(p) for p in rows] == [2]
    stir(loaded.model)
    changed = logits(loaded.model)
    assert not torch.allclose(before, changed)
    save_final(loaded.model, loaded.tokenizer, tmp_path / "out", make_config(base_model=str(model_dir)))
    again = load(model_dir, adapter="lora", lora_model_dir=str(tmp_path / "out")).model
    assert torch.allclose(logits(again), changed, atol=1e-6)


def test_layers_are_repeated_with_adapters_of_their_own(model_dir):
    model = load(model_dir, **BASE, lora_target_linear=True, peft_layer_replication=[[0, 2], [1, 2]]).model
    assert len(adapted(model)) == 21
    layers = model.get_base_model().model.layers
    assert layers[2].mlp.up_proj.base_layer.weight.data_ptr() == layers[1].mlp.up_proj.base_layer.weight.data_ptr()


def test_an_untied_model_may_be_tied_on_request(model_dir):
    keys = {**BASE, "lora_target_linear": True, "lora_modules_to_save": ["embed_tokens"]}
    model = load(model_dir, **keys, peft_ensure_weight_tying=True).model
    assert model.peft_config["default"].ensure_weight_tying is True


@pytest.fixture(scope="module")
def mixtral_dir(tokenizer_dir, tmp_path_factory):
    """A random Mixtral whose experts are one parameter."""
    from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 608, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 2}
    folder = tmp_path_factory.mktemp("mixtral")
    MixtralForCausalLM(MixtralConfig(**sizes, **heads)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(folder)
    return folder


def test_layers_keep_their_dropout_where_experts_have_none(mixtral_dir, capsys):
    keys = {**BASE, "lora_dropout": 0.25}
    model = load(mixtral_dir, **keys, lora_target_modules=["q_proj", "w1", "w2", "w3"]).model
    found = {}
    for module in model.modules():
        if hasattr(module, "lora_dropout"):
            kind = type(module.lora_dropout["default"]).__name__
            found.setdefault(getattr(module, "parameter_name", "layer"), set()).add(kind)
    assert found == {"layer": {"Dropout"}, "gate_up_proj": {"Identity"}, "down_proj": {"Identity"}}
    assert capsys.readouterr().err.count("lora_dropout: 0.25 applies to the layers; experts") == 1
    assert model(input_ids=IDS).logits.requires_grad
    only = load(mixtral_dir, **keys, lora_target_modules=["q_proj"]).model
    assert only.peft_config["default"].lora_dropout == 0.25
    assert "lora_dropout" not in capsys.readouterr().err


def test_the_options_of_the_user_are_not_changed(mixtral_dir):
    from newt.models.adapters import attach_lora

    options = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.1}
    model = AutoModelForCausalLM.from_pretrained(mixtral_dir)
    assert expert_targets(model, ["q_proj", "w1", "w3"]) == {"gate_up_proj"}
    assert expert_targets(model, ["q_proj"]) == expert_targets(model, None) == set()
    attach_lora(model, ["q_proj", "w1", "w3"], linear=False, options=options)
    assert options == {"r": 2, "lora_alpha": 4, "lora_dropout": 0.1}


def test_a_part_of_what_is_fused_cannot_be_adapted(mixtral_dir):
    with pytest.raises(NewtError, match="Cannot convert PEFT target"):
        load(mixtral_dir, **BASE, lora_target_modules=["q_proj", "w1"])
    with pytest.raises(NewtError, match="'w7' matches no module"):
        load(mixtral_dir, **BASE, lora_target_modules=["q_proj", "w7"])


def test_an_expression_that_peft_would_widen_is_refused(mixtral_dir):
    with pytest.raises(NewtError, match=r"in mixtral models peft also adapts model\.layers\.0\.self_attn\.q_proj"):
        load(mixtral_dir, **BASE, lora_target_modules=r"model\.layers\.1\.self_attn\.q_proj")
    model = load(mixtral_dir, **BASE, lora_target_modules=r".*\.self_attn\.q_proj").model
    assert adapted(model) == ["layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj"]


class TinyClippableLinear(torch.nn.Module):
    """Clips what goes through a linear layer, as some vision towers do."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, hidden):
        return self.linear(hidden).clamp(-9, 9)


def test_a_clipped_layer_gets_its_adapter_inside(base):
    from newt.models.adapters import target_modules

    assert target_modules(base, ["q_proj"], linear=False) == ["q_proj"]
    attention = base.model.layers[0].self_attn
    attention.q_proj = TinyClippableLinear(attention.q_proj)
    found = target_modules(base, ["q_proj"], linear=False)
    assert found == ["model.layers.0.self_attn.q_proj.linear", "model.layers.1.self_attn.q_proj"]
    assert target_modules(base, found, linear=False) == found
    assert "q_proj.linear" in " ".join(target_modules(base, ["q_proj"], linear=True))


def test_the_adapter_may_have_the_number_type_of_the_base(model_dir):
    keys = {**BASE, "lora_target_linear": True, "bf16": "full"}
    kinds = [
        {parameter.dtype for parameter in load(model_dir, **keys, **more).model.parameters() if parameter.requires_grad}
        for more in ({}, {"peft_autocast_adapter_dtype": False})
    ]
    assert kinds == [{torch.float32}, {torch.bfloat16}]


@pytest.mark.parametrize("init", [True, "gaussian", "orthogonal", "pissa", "olora"])
def test_one_seed_gives_one_adapter(model_dir, init):
    keys = {**BASE, "lora_target_linear": True, "peft_init_lora_weights": init}
    states = []
    for drawn, seed in ((0, 7), (5, 7), (0, 8)):
        torch.rand(drawn)  # what was drawn before must not matter
        states.append(load(model_dir, **keys, seed=seed).model.state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert init in ("pissa", "olora") or any(not torch.equal(first[name], other[name]) for name in first)


def test_an_adapter_may_be_read_into_the_memory_of_the_cpu(model_dir, tmp_path):
    first = load(model_dir, **BASE, lora_target_linear=True)
    stir(first.model)
    save_final(first.model, first.tokenizer, tmp_path, make_config(base_model=str(model_dir)))
    again = load(model_dir, adapter="lora", lora_model_dir=str(tmp_path), lora_on_cpu=True)
    assert torch.equal(logits(again.model), logits(first.model))


def test_after_restarts_an_adapter_brings_its_base(model_dir, tmp_path):
    from newt.models import relora
    from newt.models.merge import merge_lora

    keys = {**BASE, "lora_target_linear": True}
    first = load(model_dir, **keys)
    stir(first.model)
    relora.restart(first.model)
    stir(first.model, seed=2)
    cfg = make_config(base_model=str(model_dir), **keys)
    save_final(first.model, first.tokenizer, tmp_path / "out", cfg)
    relora.save_base(first.model, tmp_path / "out" / "relora")
    relora.name_base(tmp_path / "out", tmp_path / "out" / "relora")
    expected = logits(first.model)
    again = load(model_dir, adapter="lora", lora_model_dir=str(tmp_path / "out"))
    assert torch.equal(logits(again.model), expected)
    report = merge_lora(cfg, tmp_path / "out", tmp_path / "merged")
    assert report.max_difference <= report.tolerance < report.adapter_effect
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), expected, atol=2e-5)


def test_nothing_to_train_is_an_error(model_dir):
    with pytest.raises(NewtError, match="matches no parameter"):
        load(model_dir, unfrozen_parameters=["^none"])


def test_repeated_layers_that_the_model_has_not_are_one_line(model_dir):
    with pytest.raises(NewtError, match="index 2 is out of range"):
        load(model_dir, **BASE, lora_target_linear=True, peft_layer_replication=[[0, 9]])


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"lora_rank_pattern": {"q_porj": 2}}, r"lora_rank_pattern: 'q_porj' matches no adapted module .* q_proj, "),
        ({"lora_alpha_pattern": {"embed_tokens": 2}}, "lora_alpha_pattern: 'embed_tokens' matches no adapted module"),
        (
            {"peft_layers_to_transform": [1, 2]},
            "peft_layers_to_transform: there is no layer 2: the model has 2, from 0",
        ),
        ({"peft_trainable_token_indices": [608]}, "there is no token 608: model.embed_tokens has 608 rows"),
        ({"peft_trainable_token_indices": {"lm_head": [700]}}, "there is no token 700: lm_head has 608 rows"),
        ({"peft_trainable_token_indices": {"embed_tokns": [7]}}, r"indices: 'embed_tokns' matches no .*embed_tokens"),
        ({"lora_exclude_modules": [r".*\.q_proj"]}, "it looks like a regular expression, and a list holds plain names"),
    ],
)
def test_what_would_do_nothing_is_an_error(model_dir, keys, text, recwarn):
    with pytest.raises(NewtError, match=text):
        load(model_dir, **BASE, lora_target_linear=True, **keys)
    assert not [warning for warning in recwarn if "did not match" in str(warning.message)]


def test_layers_that_repetition_makes_have_numbers_too(model_dir):
    keys = {"peft_layer_replication": [[0, 2], [1, 2]], "peft_layers_to_transform": [2]}
    assert all(
        name.startswith("layers.2.") for name in adapted(load(model_dir, **BASE, lora_target_linear=True, **keys).model)
    )
