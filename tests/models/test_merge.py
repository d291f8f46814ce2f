"""A merged model computes what base + adapter computes, or there is no merged model."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import make_config
from tests.models.tiny import LORA, load, logits, stir
from transformers import AutoModelForCausalLM, AutoTokenizer

from newt.models import verify
from newt.models.lora_math import Update, merged_weight
from newt.models.merge import merge_lora
from newt.models.save import save_final
from newt.support.errors import NewtError


@pytest.fixture(scope="module")
def untied_dir(model_dir, tmp_path_factory):
    """The tiny model with an output layer of its own."""
    folder = shutil.copytree(model_dir, tmp_path_factory.mktemp("untied") / "model")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    return folder


def trained(base, folder, **keys):
    """Save an adapter with random weights; return the config and its logits."""
    keys = {**LORA, **keys}
    found = load(base, **keys)
    stir(found.model)
    cfg = make_config(base_model=str(base), **keys)
    save_final(found.model, found.tokenizer, folder, cfg)
    return cfg, logits(found.model)


def merged_logits(folder):
    return logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


CASES = {
    "plain": {},
    "rank stabilized": {"peft_use_rslora": True},
    "dora": {"peft_use_dora": True},
    "dora, rank stabilized": {"peft_use_dora": True, "peft_use_rslora": True},
    "patterns": {"lora_rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 8}, "lora_alpha_pattern": {"v_proj": 32}},
    "patterns, rank stabilized": {"lora_rank_pattern": {"q_proj": 2}, "peft_use_rslora": True},
    "some modules": {"lora_target_linear": False, "lora_target_modules": ["q_proj", "down_proj"]},
    "some layers": {"peft_layers_to_transform": [1]},
    "gaussian": {"peft_init_lora_weights": "gaussian"},
    "embedding": {"lora_target_modules": ["embed_tokens"]},
    "norm in full": {"lora_modules_to_save": ["norm"]},
    "ends in full": {"lora_modules_to_save": ["embed_tokens", "lm_head"]},
    "embedding in full": {"lora_modules_to_save": ["embed_tokens"]},
    "head in full": {"lora_modules_to_save": ["lm_head"]},
    "new tokens": {"tokens": [f"<t{i}>" for i in range(20)], "lora_modules_to_save": ["embed_tokens", "lm_head"]},
    "new padding": {"special_tokens": {"pad_token": "<pad>"}, "resize_token_embeddings_to_32x": True},
    "new padding, head in full": {
        "special_tokens": {"pad_token": "<pad>"},
        "resize_token_embeddings_to_32x": True,
        "shrink_embeddings": True,
        "lora_modules_to_save": ["lm_head"],
    },
    "both ends": {"lora_target_modules": ["embed_tokens", "lm_head"]},
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("case", CASES)
def test_merged_equals_base_plus_adapter(model_dir, untied_dir, tmp_path, case, tied):
    if tied and case == "both ends":
        pytest.skip("refused when the adapter is made")
    base = model_dir if tied else untied_dir
    cfg, expected = trained(base, tmp_path / "adapter", **CASES[case])
    report = merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    assert torch.allclose(merged_logits(tmp_path / "merged"), expected, atol=2e-5)
    assert report.merged == report.adapted > 0
    assert report.max_difference <= report.tolerance < report.adapter_effect


def test_a_tied_model_stays_tied_or_says_that_it_does_not(model_dir, tmp_path):
    for name, keys, tied in (
        ("linear", {}, True),
        ("ends", {"lora_modules_to_save": ["embed_tokens", "lm_head"]}, True),
        ("embedding", {"lora_target_modules": ["embed_tokens"]}, False),
    ):
        cfg, _ = trained(model_dir, tmp_path / name, **keys)
        report = merge_lora(cfg, tmp_path / name, tmp_path / f"{name} merged", verify=False)
        config = json.loads((tmp_path / f"{name} merged" / "config.json").read_text())
        weights = load_file(tmp_path / f"{name} merged" / "model.safetensors")
        assert (config["tie_word_embeddings"], "lm_head.weight" in weights) == (tied, not tied)
        assert any("no longer one weight" in note for note in report.notes) is not tied


def test_shards_keep_their_names(untied_dir, tmp_path):
    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(untied_dir).save_pretrained(base, max_shard_size="150KB")
    AutoTokenizer.from_pretrained(untied_dir).save_pretrained(base)
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 2
    cfg, expected = trained(base, tmp_path / "adapter")
    merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    assert sorted(path.name for path in (tmp_path / "merged").glob("*.safetensors")) == shards
    assert torch.allclose(merged_logits(tmp_path / "merged"), expected, atol=2e-5)
    maps = [
        json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
        for folder in (base, tmp_path / "merged")
    ]
    assert maps[0] == maps[1]


def test_weights_that_no_adapter_touches_are_bit_identical(model_dir, tmp_path):
    cfg, _ = trained(model_dir, tmp_path / "adapter", lora_target_linear=False, lora_target_modules=["q_proj"])
    merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    old, new = (load_file(folder / "model.safetensors") for folder in (model_dir, tmp_path / "merged"))
    assert {name for name in old if not torch.equal(old[name], new[name])} == {
        f"model.layers.{i}.self_attn.q_proj.weight" for i in (0, 1)
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_16_bit_base_stays_16_bit_and_is_compared_with_its_rounding(untied_dir, tmp_path, dtype):
    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(untied_dir, dtype=dtype).save_pretrained(base)
    AutoTokenizer.from_pretrained(untied_dir).save_pretrained(base)
    cfg, _ = trained(base, tmp_path / "adapter", float32=True)
    report = merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {dtype}
    assert 0 < report.max_difference <= report.tolerance < report.adapter_effect / 5


def test_the_tokenizer_comes_from_the_adapter(model_dir, tmp_path):
    cfg, _ = trained(model_dir, tmp_path / "adapter", special_tokens={"pad_token": "<|im_start|>"})
    (tmp_path / "adapter" / "chat_template.jinja").write_text("{{ 'of the adapter' }}")
    merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    found = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert (found.pad_token, found.chat_template) == ("<|im_start|>", "{{ 'of the adapter' }}")
    assert (tmp_path / "merged" / "generation_config.json").is_file()
    assert not list((tmp_path / "merged").glob("adapter*"))


@pytest.mark.parametrize("method", ["memory_efficient", "legacy"])
@pytest.mark.parametrize(("length", "positions"), [(1024, 1024), (512, 512)])
def test_the_merged_model_takes_rows_as_long_as_in_training(model_dir, tmp_path, method, length, positions):
    cfg, _ = trained(model_dir, tmp_path / "adapter", sequence_len=length)
    report = merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged", method=method)
    stored = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert stored["max_position_embeddings"] == positions
    assert any("max_position_embeddings is 1024 now" in note for note in report.notes) is (length == 1024)


def test_positions_that_a_scaled_rope_depends_on_stay(model_dir, tmp_path):
    yarn = {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}}
    cfg, _ = trained(model_dir, tmp_path / "adapter", sequence_len=1024, overrides_of_model_config=yarn)
    merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    stored = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert stored["max_position_embeddings"] == 512
    assert stored["rope_parameters"]["rope_type"] == "yarn"


@pytest.mark.parametrize("method", ["memory_efficient", "legacy"])
def test_the_special_ids_of_the_tokenizer_go_into_both_configs(model_dir, tmp_path, method):
    cfg, _ = trained(model_dir, tmp_path / "adapter", special_tokens={"eos_token": "<|im_start|>"})
    report = merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged", method=method)
    before, after = (json.loads((path / "config.json").read_text()) for path in (model_dir, tmp_path / "merged"))
    eos = AutoTokenizer.from_pretrained(tmp_path / "merged").eos_token_id
    assert after["eos_token_id"] == eos != before["eos_token_id"]
    assert after["pad_token_id"] == before["pad_token_id"]
    generation = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [eos, before["eos_token_id"]]
    assert any("eos_token_id" in line for line in report.notes)


def edit_adapter(folder, change):
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("keys", "change", "message"),
    [
        (
            {},
            lambda w: w.update({"base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight": torch.ones(4, 64),
                                "base_model.model.model.layers.7.self_attn.q_proj.lora_B.weight": torch.ones(64, 4)}),
            r"model\.layers\.7\.self_attn\.q_proj\.weight belongs to nothing",
        ),
        ({}, lambda w: w.pop(f"{Q0}.lora_B.weight"), "incomplete: one of the two matrices of .*q_proj"),
        ({"peft_use_dora": True}, lambda w: w.pop(f"{Q0}.lora_magnitude_vector"), "lora_magnitude_vector of .*q_proj"),
        ({}, lambda w: w.update({f"{Q0}.lora_B.bias": torch.ones(64)}), "cannot be merged by file"),
        (
            {},
            lambda w: w.update({f"{Q0}.lora_A.weight": torch.ones(2, 64), f"{Q0}.lora_B.weight": torch.ones(64, 2)}),
            "has rank 2, but its config says 4",
        ),
        ({}, lambda w: w.update({f"{Q0}.lora_B.weight": torch.ones(32, 4)}), "does not fit .*q_proj"),
    ],
    ids=["leftover", "half", "no magnitude", "bias", "rank", "shape"],
)  # fmt: skip
def test_an_adapter_that_does_not_fit_leaves_nothing_behind(model_dir, tmp_path, keys, change, message):
    cfg, _ = trained(model_dir, tmp_path / "adapter", **keys)
    edit_adapter(tmp_path / "adapter", change)
    with pytest.raises(NewtError, match=message):
        merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_a_wrong_merge_is_found_and_removed(model_dir, tmp_path, monkeypatch):
    cfg, _ = trained(model_dir, tmp_path / "adapter")
    monkeypatch.setattr("newt.models.merge.merged_weight", lambda weight, *rest: weight)
    with pytest.raises(NewtError, match="merged model differs from base"):
        merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_an_initialization_that_changes_the_base_is_refused_by_file_and_done_in_memory(model_dir, tmp_path):
    cfg, expected = trained(model_dir, tmp_path / "adapter", peft_init_lora_weights="pissa")
    with pytest.raises(NewtError, match="began with pissa cannot be merged by file"):
        merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged", method="legacy")
    assert torch.allclose(merged_logits(tmp_path / "merged"), expected, atol=1e-4)


def test_both_methods_agree(model_dir, tmp_path):
    cfg, _ = trained(model_dir, tmp_path / "adapter", peft_use_dora=True)
    reports = [merge_lora(cfg, tmp_path / "adapter", tmp_path / m, method=m) for m in ("memory_efficient", "legacy")]
    assert (reports[0].merged, reports[1].merged) == (14, 14)
    assert torch.allclose(merged_logits(tmp_path / "legacy"), merged_logits(tmp_path / "memory_efficient"), atol=2e-5)


def test_legacy_finds_its_own_mistake_with_a_tied_embedding(model_dir, tmp_path):
    cfg, _ = trained(model_dir, tmp_path / "adapter", lora_target_modules=["embed_tokens"])
    with pytest.raises(NewtError, match="merged model differs"):
        merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged", method="legacy")


def test_the_output_folder_may_be_replaced_only_if_it_is_a_model(model_dir, tmp_path):
    cfg, expected = trained(model_dir, tmp_path / "adapter")
    for _ in range(2):
        merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    assert torch.allclose(merged_logits(tmp_path / "merged"), expected, atol=2e-5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(NewtError, match="holds something that is not a model"):
        merge_lora(cfg, tmp_path / "adapter", tmp_path / "mine")


def test_fan_in_fan_out_by_hand():
    weight, a, b = torch.randn(6, 4), torch.randn(2, 6), torch.randn(4, 2)  # stored (in, out)
    settings = {"r": 2, "lora_alpha": 3, "fan_in_fan_out": True}
    merged = merged_weight(weight, Update(a=a, b=b), "x.weight", settings)
    assert torch.allclose(merged, weight + 1.5 * (b @ a).T)


@pytest.mark.parametrize("in_out", [False, True])
def test_experts_by_hand(in_out):
    random = torch.Generator().manual_seed(0)
    experts, rank, wide, high = 3, 2, 5, 4
    shape = (experts, wide, high) if in_out else (experts, high, wide)
    weight = torch.randn(shape, generator=random)
    a = torch.randn(experts * rank, wide, generator=random)
    b = torch.randn(high, rank * experts, generator=random)
    settings = {"r": rank, "lora_alpha": 6, "rank_pattern": {}, "alpha_pattern": {}}
    merged = merged_weight(weight, Update(a=a, b=b, in_out=in_out), "mlp.experts.down_proj", settings)
    for e in range(experts):
        # The rows of A go expert by expert, the columns of B rank by rank.
        delta = 3 * sum(torch.outer(b[:, k * experts + e], a[e * rank + k]) for k in range(rank))
        assert torch.allclose(merged[e] - weight[e], delta.T if in_out else delta, atol=1e-6)


def test_rows_by_hand():
    weight = torch.arange(12.0).reshape(4, 3)
    update = Update(rows=torch.full((2, 3), -1.0), row_numbers=(3, 1))
    merged = merged_weight(weight, update, "embed_tokens.weight", {})
    assert torch.equal(merged[[0, 2]], weight[[0, 2]])
    assert (merged[[1, 3]] == -1).all()
    assert weight.min() == 0, "the base's own tensor stays"


def test_a_convolution_by_its_own_arithmetic():
    weight, a, b = torch.randn(5, 3, 2, 2), torch.randn(2, 3, 2, 2), torch.randn(5, 2, 1, 1)
    image = torch.randn(1, 3, 6, 6)
    convolve = torch.nn.functional.conv2d
    merged = merged_weight(weight, Update(a=a, b=b), "x.weight", {"r": 2, "lora_alpha": 1})
    assert torch.allclose(
        convolve(image, merged), convolve(image, weight) + 0.5 * convolve(convolve(image, a), b), atol=1e-4
    )


def test_probes_are_fixed():
    assert [probe.tolist() for probe in verify._probes(100)] == [probe.tolist() for probe in verify._probes(100)]
