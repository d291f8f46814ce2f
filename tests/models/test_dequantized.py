"""Checkpoints in FP8 and MXFP4, read for real: weights given back as the formats say, trained, and saved in full."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import make_config
from tests.models.tiny import LORA, load, logits, stir
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import newt
from newt.models.dequantized import refuse_cut_blocks
from newt.models.merge import merge_lora
from newt.models.save import save_final
from newt.support.errors import NewtError

BLOCK = 128
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
SHAPE = {
    "hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 608, "max_position_embeddings": 512, "eos_token_id": 2, "pad_token_id": 0,
    "bos_token_id": None,
}  # fmt: skip
FP8_KEYS = {
    "model_quantization_config": "FineGrainedFP8Config", "model_quantization_config_kwargs": {"dequantize": True},
}  # fmt: skip
MXFP4_KEYS = {**FP8_KEYS, "model_quantization_config": "Mxfp4Config"}


def fp8(weight):
    """(float8_e4m3fn weight, float32 scale of each block of 128x128)."""
    rows, columns = (-(-side // BLOCK) for side in weight.shape)
    padded = torch.zeros(rows * BLOCK, columns * BLOCK)
    padded[: weight.shape[0], : weight.shape[1]] = weight.float()
    blocks = padded.reshape(rows, BLOCK, columns, BLOCK)
    scale = blocks.abs().amax((1, 3)) / 448
    values = (blocks / scale[:, None, :, None]).reshape(padded.shape)[: weight.shape[0], : weight.shape[1]]
    return values.contiguous().to(torch.float8_e4m3fn), scale


def from_fp8(values, scale):
    """By hand: each value times the scale of the block that it stands in."""
    rows, columns = (torch.arange(side) // BLOCK for side in values.shape)
    return values.float() * (scale[rows][:, columns] if scale.ndim else scale)


def from_mxfp4(blocks, scales):
    """By hand, from the OCP Microscaling specification: value = (-1)^s * FP4 * 2^(scale - 127), low half byte first.

    Args:
        blocks: uint8 (experts, out, in / 32, 16).
        scales: uint8 (experts, out, in / 32).

    Returns:
        float32 (experts, in, out), as gpt-oss holds its experts.
    """
    experts, rows, groups, _ = blocks.shape
    found = torch.zeros(experts, rows, groups, 32)
    for code in range(16):
        value = FP4[code % 8] * (-1 if code >= 8 else 1)
        found[..., 0::2][(blocks & 15) == code] = value
        found[..., 1::2][(blocks >> 4) == code] = value
    found = found * torch.exp2(scales.float() - 127)[..., None]
    return found.reshape(experts, rows, groups * 32).transpose(1, 2)


def write(folder, model, weights, tokenizer, quantization):
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads(model.config.to_json_string()) | {"dtype": "bfloat16", "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [type(model).__name__]}))
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def random_model(kind, **keys):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SHAPE, **keys})).bfloat16()


def fp8_checkpoint(folder, tokenizer, kind="llama", scaled="block", **keys):
    """A checkpoint as they are published: linear layers in FP8, everything else in bfloat16."""
    model = random_model(kind, **keys)
    model.save_pretrained(folder.with_name("plain"))
    weights = {}
    for name, weight in load_file(folder.with_name("plain") / "model.safetensors").items():
        weights[name] = weight
        if "proj" not in name:
            continue
        if scaled == "block":
            weights[name], weights[f"{name}_scale_inv"] = fp8(weight)
        else:
            scale = weight.float().abs().max() / 448
            weights[name], weights[f"{name}_scale_inv"] = (weight.float() / scale).to(torch.float8_e4m3fn), scale
            weights[name.replace("weight", "activation_scale")] = torch.tensor(1.0, dtype=torch.bfloat16)
    block, scheme = ([BLOCK, BLOCK], "dynamic") if scaled == "block" else (None, "static")
    stored = {"quant_method": "fp8", "activation_scheme": scheme, "weight_block_size": block}
    return write(folder, model, weights, tokenizer, stored)


@pytest.fixture(scope="module")
def fp8_dir(tokenizer_dir, tmp_path_factory):
    return fp8_checkpoint(tmp_path_factory.mktemp("fp8") / "base", tokenizer_dir)


@pytest.fixture(scope="module")
def mxfp4_dir(tokenizer_dir, tmp_path_factory):
    """A tiny gpt-oss with experts in MXFP4: every code and several scales."""
    keys = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 16, "num_local_experts": 4, "sliding_window": 16}
    model = random_model("gpt_oss", **keys, num_experts_per_tok=2, layer_types=["sliding_attention", "full_attention"])
    weights = {}
    for name, weight in model.state_dict().items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            experts, columns, rows = weight.shape
            weights[f"{name}_blocks"] = torch.randint(0, 256, (experts, rows, columns // 32, 16), dtype=torch.uint8)
            weights[f"{name}_scales"] = torch.randint(117, 123, (experts, rows, columns // 32), dtype=torch.uint8)
        else:
            weights[name] = weight
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    stored = {"quant_method": "mxfp4", "modules_to_not_convert": skipped}
    return write(tmp_path_factory.mktemp("mxfp4") / "base", model, weights, tokenizer_dir, stored)


def decoded(folder):
    """Name in the model -> float32 weight, of every weight of a checkpoint."""
    weights, found = load_file(folder / "model.safetensors"), {}
    for name, value in weights.items():
        if name.endswith("_blocks"):
            found[name.removesuffix("_blocks")] = from_mxfp4(value, weights[name.replace("_blocks", "_scales")])
        elif f"{name}_scale_inv" in weights:
            found[name] = from_fp8(value, weights[f"{name}_scale_inv"])
        elif not name.endswith(("_scales", "_scale_inv", "activation_scale")):
            found[name] = value.float()
    return found


@pytest.mark.parametrize("precision", [{"float32": True}, {"bf16": True}, {"bfloat16": True}])
@pytest.mark.parametrize("kind", ["fp8", "mxfp4"])
def test_weights_are_what_the_format_says_in_the_number_type_of_the_run(fp8_dir, mxfp4_dir, kind, precision):
    folder, keys = (fp8_dir, FP8_KEYS) if kind == "fp8" else (mxfp4_dir, MXFP4_KEYS)
    found = load(folder, **keys, **precision)
    parameters = dict(found.model.named_parameters())
    dtype = torch.bfloat16 if "bfloat16" in precision else torch.float32
    assert {p.dtype for p in parameters.values()} == {dtype}
    expected = decoded(folder)
    assert parameters.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(parameters[name].data, value.to(dtype)), name
    assert f"the base model's weights are stored as {kind} and given back in full: " in "\n".join(found.notes)


def test_one_scale_for_a_weight_and_scales_of_activations(tokenizer_dir, tmp_path):
    folder = fp8_checkpoint(tmp_path / "base", tokenizer_dir, "mistral", scaled="weight")
    parameters = dict(load(folder, **FP8_KEYS, float32=True).model.named_parameters())
    expected = decoded(folder)
    assert parameters.keys() == expected.keys()
    assert all(torch.equal(parameters[name].data, value) for name, value in expected.items())


def config(folder, rows, output, **keys):
    return {
        "base_model": str(folder), "datasets": [{"path": str(rows), "type": "chat_template"}], "learning_rate": 1e-3,
        "micro_batch_size": 6, "gradient_accumulation_steps": 1, "sequence_len": 128, "max_steps": 2, "float32": True,
        "output_dir": str(output), **keys,
    }  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    pairs = [
        [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": f"The number {i}, said aloud."}]
        for i in range(6)
    ]
    path.write_text("\n".join(json.dumps({"messages": pair}) for pair in pairs))
    return path


def losses(output):
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("kind", ["fp8", "mxfp4", "experts in fp8"])
def test_every_weight_is_trained_and_saved_in_full(fp8_dir, mxfp4_dir, tokenizer_dir, rows, tmp_path, kind):
    """transformers would save FP8 again, MXFP4 under other names, and stumble over experts."""
    if kind == "experts in fp8":
        keys = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "head_dim": 64}
        folder, keys = fp8_checkpoint(tmp_path / "base", tokenizer_dir, "qwen3_moe", **keys), FP8_KEYS
    else:
        folder, keys = (fp8_dir, FP8_KEYS) if kind == "fp8" else (mxfp4_dir, MXFP4_KEYS)
    output = tmp_path / "out"
    newt.train(config(folder, rows, output, **keys, save_steps=1))
    first, second = losses(output)
    assert second < first
    for place in (output, output / "checkpoint-1"):
        assert "quantization_config" not in json.loads((place / "config.json").read_text())
        saved = load_file(place / "model.safetensors")
        assert {value.dtype for value in saved.values()} == {torch.float32}
        _, info = AutoModelForCausalLM.from_pretrained(place, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
    name = "model.layers.0.self_attn.q_proj.weight"
    change = (load_file(output / "model.safetensors")[name] - decoded(folder)[name]).abs().max()
    assert 0 < change < 3e-3


@pytest.mark.parametrize("kind", ["fp8", "mxfp4"])
def test_an_adapter_is_trained(fp8_dir, mxfp4_dir, rows, tmp_path, kind):
    folder, keys = (fp8_dir, FP8_KEYS) if kind == "fp8" else (mxfp4_dir, MXFP4_KEYS)
    targets = {"lora_target_linear": None, "lora_target_modules": ["q_proj", "v_proj"]}
    keys = {key: value for key, value in {**LORA, **targets, **keys}.items() if value is not None}
    newt.train(config(folder, rows, tmp_path / "out", **keys))
    first, second = losses(tmp_path / "out")
    assert second < first
    adapter = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all(value.abs().max() > 0 for name, value in adapter.items() if "lora_B" in name)


def test_blocks_that_are_cut_off_are_refused(tokenizer_dir, tmp_path):
    folder = fp8_checkpoint(tmp_path / "base", tokenizer_dir, head_dim=48)
    wrong = r"self_attn\.o_proj\.weight is 256x192 values, no whole number of the blocks of 128x128"
    with pytest.raises(NewtError, match=wrong):
        load(folder, **FP8_KEYS, float32=True)
    refuse_cut_blocks(folder, None)


def test_a_weight_smaller_than_a_block_is_one_block(tokenizer_dir, tmp_path):
    folder = fp8_checkpoint(tmp_path / "base", tokenizer_dir, head_dim=32, hidden_size=128)
    parameters = dict(load(folder, **FP8_KEYS, float32=True).model.named_parameters())
    name = "model.layers.0.self_attn.k_proj.weight"
    assert parameters[name].shape == (64, 128)
    assert torch.equal(parameters[name].data, decoded(folder)[name])


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "head_dim": 64}
IN_EXPERTS = {"lora_target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
ATTENTION = {"lora_target_linear": False, "lora_target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def experts_dir(tokenizer_dir, tmp_path_factory):
    return fp8_checkpoint(tmp_path_factory.mktemp("experts") / "base", tokenizer_dir, "qwen3_moe", **EXPERTS)


def adapted(base, folder, **keys):
    """Save an adapter with random weights; return its config and its logits with the base in the run's number type."""
    keys = {**LORA, **keys}
    found = load(base, **keys)
    stir(found.model)
    cfg = make_config(base_model=str(base), **keys)
    save_final(found.model, found.tokenizer, folder, cfg)
    return cfg, logits(found.model.float())


CASES = {
    "fp8": ("fp8_dir", FP8_KEYS),
    "fp8, dora": ("fp8_dir", {**FP8_KEYS, "peft_use_dora": True}),
    "fp8, ends": ("fp8_dir", {**FP8_KEYS, "lora_modules_to_save": ["embed_tokens", "lm_head"]}),
    "experts in fp8, attention": ("experts_dir", {**FP8_KEYS, **ATTENTION}),
    "experts in fp8": ("experts_dir", {**FP8_KEYS, **ATTENTION, **IN_EXPERTS}),
    "mxfp4, attention": ("mxfp4_dir", {**MXFP4_KEYS, **ATTENTION}),
    "mxfp4, experts": ("mxfp4_dir", {**MXFP4_KEYS, **ATTENTION, **IN_EXPERTS}),
}


@pytest.mark.parametrize("method", ["memory_efficient", "legacy"])
@pytest.mark.parametrize("case", CASES)
def test_merged_is_the_base_in_full_plus_the_adapter(request, tmp_path, case, method):
    fixture, keys = CASES[case]
    base = request.getfixturevalue(fixture)
    cfg, expected = adapted(base, tmp_path / "adapter", **keys, float32=True)
    report = merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged", method=method)
    assert report.merged == report.adapted > 0
    assert report.max_difference <= report.tolerance < report.adapter_effect
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert (logits(model) - expected).abs().max() <= 1e-4 * expected.abs().max()
    written = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert ("quantization_config" in written, written["dtype"]) == (False, "float32")
    assert any("are given back in full: float32" in note for note in report.notes)


@pytest.mark.parametrize("kind", ["fp8", "mxfp4", "experts in fp8"])
def test_weights_that_no_adapter_touches_are_those_decoded_by_hand(fp8_dir, mxfp4_dir, experts_dir, tmp_path, kind):
    base = {"fp8": fp8_dir, "mxfp4": mxfp4_dir, "experts in fp8": experts_dir}[kind]
    keys = MXFP4_KEYS if kind == "mxfp4" else FP8_KEYS
    cfg, _ = adapted(base, tmp_path / "adapter", **keys, **ATTENTION, bf16=True)
    report = merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    # Rounding lets random experts be chosen otherwise, so what the adapter does may be less.
    assert report.max_difference <= report.tolerance
    new, old = load_file(tmp_path / "merged" / "model.safetensors"), decoded(base)
    assert new.keys() == old.keys()
    assert {value.dtype for value in new.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"
    changed = {name for name in new if not torch.equal(new[name], old[name].bfloat16())}
    assert changed == {f"model.layers.{i}.self_attn.{name}_proj.weight" for i in (0, 1) for name in "qv"}


def test_parts_of_a_weight_in_several_files(mxfp4_dir, tmp_path):
    """Scales may stand in another file than what they scale, and a file may hold nothing but scales."""
    base = tmp_path / "base"
    base.mkdir()
    weights = load_file(mxfp4_dir / "model.safetensors")
    shards = [{}, {}]
    for name, value in weights.items():
        shards[name.endswith("_scales")][name] = value
    places = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file(shard, base / file, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for path in mxfp4_dir.iterdir():
        if path.suffix != ".safetensors":
            (base / path.name).write_bytes(path.read_bytes())
    cfg, expected = adapted(base, tmp_path / "adapter", **MXFP4_KEYS, **ATTENTION, **IN_EXPERTS, float32=True)
    merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert (logits(model) - expected).abs().max() <= 1e-4 * expected.abs().max()
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index.values()) == {path.name for path in (tmp_path / "merged").glob("*.safetensors")}


def test_a_wrong_merge_into_decoded_weights_is_found_and_removed(fp8_dir, tmp_path, monkeypatch):
    """The comparison loads the base through transformers, not through what the merge has read."""
    cfg, _ = adapted(fp8_dir, tmp_path / "adapter", **FP8_KEYS, float32=True)
    monkeypatch.setattr("newt.models.checkpoint_files._from_fp8", lambda values, scale: values.float())
    with pytest.raises(NewtError, match="merged model differs from base"):
        merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_a_base_in_few_bits_is_given_back_only_if_the_config_says_so(fp8_dir, tmp_path):
    cfg, _ = adapted(fp8_dir, tmp_path / "adapter", **FP8_KEYS, float32=True)
    cfg = make_config(base_model=str(fp8_dir), **LORA)
    with pytest.raises(NewtError, match=r"quantized \(fp8\): name the checkpoint .* FineGrainedFP8Config with"):
        merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_an_adapter_of_another_base_is_refused(fp8_dir, tokenizer_dir, tmp_path):
    cfg, _ = adapted(fp8_dir, tmp_path / "adapter", **FP8_KEYS, float32=True)
    other = fp8_checkpoint(tmp_path / "base", tokenizer_dir, rope_theta=5e5)
    cfg = make_config(base_model=str(other), **LORA, **FP8_KEYS, float32=True)
    with pytest.raises(NewtError, match="trained on a base whose config differs"):
        merge_lora(cfg, tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_adapter_of_a_checkpoint_is_merged(mxfp4_dir, rows, tmp_path):
    keys = {**LORA, **MXFP4_KEYS, **ATTENTION, **IN_EXPERTS, "save_steps": 1}
    newt.train(config(mxfp4_dir, rows, tmp_path / "out", **keys))
    cfg = make_config(base_model=str(mxfp4_dir), **keys, float32=True)
    for name in ("checkpoint-1", "checkpoint-2"):
        report = merge_lora(cfg, tmp_path / "out" / name, tmp_path / name)
        assert report.merged == report.adapted > 0
        assert report.max_difference <= report.tolerance
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("checkpoint-1", "checkpoint-2"))
    expert = "model.layers.0.mlp.experts.down_proj"
    assert not torch.equal(one[expert], two[expert])
