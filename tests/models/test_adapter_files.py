"""Adapters on disk that do not fit are refused with what differs."""

import json
import re
import shutil

import pytest
from safetensors.torch import load_file, save_file
from tests.helpers import make_config
from tests.models.tiny import LORA, load

from newt.models.adapter_files import BASE, adapter_config, note_ignored
from newt.models.save import save_final
from newt.support.errors import NewtError


@pytest.fixture
def adapter(model_dir, tmp_path):
    loaded = load(model_dir, **LORA)
    save_final(loaded.model, loaded.tokenizer, tmp_path / "adapter", make_config(base_model=str(model_dir)))
    return tmp_path / "adapter"


def change(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def go_on(base, adapter, **keys):
    return load(base, adapter="lora", lora_model_dir=str(adapter), **keys)


def test_unknown_fields_are_not_dropped(model_dir, adapter):
    change(adapter, lora_beta=3, zz=1)
    with pytest.raises(NewtError, match=r"does not know: lora_beta, zz\. Did you mean lora_b"):
        go_on(model_dir, adapter)
    change(adapter, peft_type="NEW")
    with pytest.raises(NewtError, match="unknown peft_type 'NEW'"):
        go_on(model_dir, adapter)


def edited(base, folder, **values):
    """A copy of a base whose config says something else."""
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return folder


def test_another_base_is_refused_with_what_differs(model_dir, adapter, tmp_path):
    (adapter / BASE).unlink()
    with pytest.raises(NewtError, match=r"Their configs differ in rms_norm_eps \(1e-06, not 0\.25\)"):
        go_on(edited(model_dir, tmp_path / "other", rms_norm_eps=0.25), adapter)


def test_the_same_shapes_and_name_with_another_config_are_refused(model_dir, adapter, tmp_path):
    change(adapter, base_model_name_or_path=f"elsewhere/{model_dir.name}")
    for number, (values, said) in enumerate([
        ({"rope_parameters": {"rope_theta": 5.0, "rope_type": "default"}}, "rope_parameters.rope_theta (10000.0, not"),
        ({"hidden_act": "gelu", "rms_norm_eps": 0.1}, "hidden_act (silu, not gelu), rms_norm_eps (1e-06, not 0.1).")
    ]):  # fmt: skip
        other = edited(model_dir, tmp_path / str(number) / model_dir.name, **values)
        with pytest.raises(NewtError, match=re.escape(f"differs from that of base_model: {said}")):
            go_on(other, adapter)
        (adapter / BASE).rename(tmp_path / "record")
        go_on(other, adapter)  # an adapter without a record: its base has the same name and fits
        (tmp_path / "record").rename(adapter / BASE)


def test_what_a_run_may_change_is_not_compared(model_dir, adapter, tmp_path):
    other = edited(
        model_dir, tmp_path / "x" / model_dir.name,
        max_position_embeddings=4096, bos_token_id=7, dtype="bfloat16", use_cache=False, attention_dropout=0.1,
    )  # fmt: skip
    change(adapter, base_model_name_or_path=str(other))
    go_on(other, adapter)
    (adapter / BASE).write_text(json.dumps({"key_of_a_newer_transformers": 1, "hidden_size": 64}))
    go_on(other, adapter)
    (adapter / BASE).write_text("[")
    with pytest.raises(NewtError, match=r"base_model\.json is damaged: remove it"):
        go_on(other, adapter)


def test_an_override_is_a_part_of_the_base(model_dir, tmp_path):
    keys = {**LORA, "overrides_of_model_config": {"rms_norm_eps": 0.1}}
    loaded = load(model_dir, **keys)
    save_final(loaded.model, loaded.tokenizer, tmp_path / "adapter", make_config(base_model=str(model_dir), **keys))
    go_on(model_dir, tmp_path / "adapter", overrides_of_model_config={"rms_norm_eps": 0.1})
    with pytest.raises(NewtError, match=r"rms_norm_eps \(0\.1, not 1e-06\)"):
        go_on(model_dir, tmp_path / "adapter")


Q0 = r"model\.layers\.0\.self_attn\.q_proj"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda key, w: {key: w[:, :32].clone()}, f"has in_features 32 in {Q0}, and the base model 64"),
        (
            lambda key, w: {key.replace("layers.0", "layers.9"): w.clone()},
            r"layers\.9\.self_attn\.q_proj, which the base",
        ),
    ],
)
def test_weights_of_another_shape_or_place_are_named(model_dir, adapter, edit, message):
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    key = next(key for key in weights if "layers.0.self_attn.q_proj.lora_A" in key)
    save_file({**weights, **edit(key, weights[key])}, path)
    with pytest.raises(NewtError, match=message):
        go_on(model_dir, adapter)


def test_the_adapters_own_settings_win_and_the_user_is_told(model_dir, adapter, capsys):
    model = go_on(model_dir, adapter, lora_r=16, lora_alpha=8, lora_rank_pattern={"q_proj": 2}, lora_dropout=0.5).model
    said = capsys.readouterr().err
    assert f"lora_r: 16 is ignored: the adapter in {adapter} has 4." in said
    assert "lora_rank_pattern: {'q_proj': 2} is ignored" in said
    assert "lora_alpha" not in said
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert layer.lora_A["default"].weight.shape[0] == 4
    assert layer.lora_dropout["default"].p == 0.5, "dropout is not a part of what was trained"


def test_the_order_of_names_is_no_difference(tmp_path, capsys):
    note_ignored({"a": ("t", ["x", "y"]), "b": ("p", {})}, {"t": ["y", "x"], "p": None}, tmp_path)
    assert capsys.readouterr().err == ""


def test_a_damaged_folder_is_named(tmp_path):
    with pytest.raises(NewtError, match=r"adapter_config\.json is missing"):
        adapter_config(tmp_path)
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(NewtError, match="is not the config of an adapter"):
        adapter_config(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(NewtError, match=r"adapter_model\.safetensors is missing"):
        adapter_config(tmp_path)


def test_weights_that_were_cut_off_are_one_line(model_dir, adapter):
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(NewtError, match=r"adapter_model\.safetensors is damaged or cut off\. Copy"):
        go_on(model_dir, adapter)
