"""Models and adapters that cannot be used: one line that says what and where, exit code 2, and nothing is written.

Faults that one function answers are tested with it (``tests/models``); here they go through the command line.
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import pytest
from safetensors.torch import load_file, save_file

from newt.support import optional


@pytest.fixture
def fails(newt, tmp_path):
    """Runs a command that must fail in one line of these parts, and leave no trace of a result."""

    def run(*arguments, says, stays=()):
        code, out, err = newt(*arguments)
        err = f"{out}\n{err}"  # newt check answers on standard output
        lines = [line for line in err.splitlines() if line.strip()]
        assert code == 2, err
        assert "Traceback" not in err
        found = [line for line in lines if all(part in line for part in says)]
        assert len(found) == 1, err
        written = {path.name for path in (tmp_path / "run").rglob("*.safetensors")}
        assert written <= set(stays), "no weights of a run that failed"

    return run


@pytest.fixture(scope="module")
def adapter(model_dir, tmp_path_factory):
    """An adapter of the tiny model, trained for two steps by the command line."""
    import yaml

    from newt.cli import main

    folder = tmp_path_factory.mktemp("trained")
    rows = folder / "rows.jsonl"
    turns = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two, three."}]
    rows.write_text((json.dumps({"messages": turns}) + "\n") * 8)
    keys = {
        "base_model": str(model_dir), "datasets": [{"path": str(rows), "type": "chat_template"}], "adapter": "lora",
        "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True, "micro_batch_size": 2, "max_steps": 2,
        "gradient_accumulation_steps": 1, "learning_rate": 0.01, "optimizer": "adamw_torch", "float32": True,
        "sequence_len": 64, "dataset_num_proc": 1, "output_dir": str(folder / "run"),
        "dataset_prepared_path": str(folder / "prepared"),
    }  # fmt: skip
    (folder / "config.yml").write_text(yaml.safe_dump(keys))
    with pytest.raises(SystemExit) as end:
        main(["train", str(folder / "config.yml")])
    assert not end.value.code
    return folder / "run"


def copy_of(folder, target, **config):
    """A copy of a model or an adapter whose config says something else."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("checkpoint-*"))
    path = target / ("adapter_config.json" if (target / "adapter_config.json").is_file() else "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return target


def line_of(config, key):
    """``file:line`` of a top-level key."""
    lines = config.read_text().splitlines()
    return f"{config}:{next(number for number, line in enumerate(lines, 1) if line.startswith(f'{key}:'))}: {key}: "


def merge_of(config, adapter, tmp_path):
    return "merge-lora", config, "--lora-model-dir", adapter, "--merged-dir", tmp_path / "run" / "merged"


# --------------------------------------------------------------------------- adapters


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
            "rope_parameters.rope_theta (10000.0, not 500000.0)",
        ),
        ({"hidden_act": "gelu"}, "hidden_act (silu, not gelu)"),
    ],
)
def test_an_adapter_of_a_base_of_the_same_shapes_and_name(
    fails, write_config, model_dir, adapter, tmp_path, values, says
):
    other = copy_of(model_dir, tmp_path / "elsewhere" / model_dir.name, **values)
    config = write_config(base_model=str(other), lora_model_dir=str(adapter))
    parts = (line_of(config, "lora_model_dir"), "was trained on a base whose config differs", says, "Name the base")
    fails("train", config, says=parts)
    fails("inference", config, says=parts)
    fails(*merge_of(config, adapter, tmp_path), says=parts)
    assert not (tmp_path / "run" / "merged").exists()


def test_an_adapter_without_a_record_is_taken_if_what_can_be_compared_agrees(
    newt, write_config, model_dir, adapter, tmp_path
):
    foreign = copy_of(adapter, tmp_path / "foreign")
    (foreign / "base_model.json").unlink()
    code, _, err = newt(*merge_of(write_config(), foreign, tmp_path))
    assert code == 0, err


def test_an_adapter_of_a_base_of_other_shapes(fails, write_config, model_dir, adapter, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    other = tmp_path / model_dir.name
    shutil.copytree(model_dir, other)
    config = AutoConfig.from_pretrained(model_dir)
    config.intermediate_size = 96
    AutoModelForCausalLM.from_config(config).save_pretrained(other)
    says = ("128 in model.layers.0.mlp.", "and the base model 96: it was trained on another model")
    fails("train", write_config(base_model=str(other), lora_model_dir=str(adapter)), says=says)
    fails(*merge_of(write_config(base_model=str(other)), adapter, tmp_path), says=("intermediate_size (128, not 96)",))


def test_fields_that_peft_does_not_know(fails, write_config, adapter, tmp_path):
    folder = copy_of(adapter, tmp_path / "odd", lora_alhpa=3)
    says = (f"{folder}/adapter_config.json has fields that the installed peft does not know: lora_alhpa. Did you mean",)
    config = write_config(lora_model_dir=str(folder))
    fails("train", config, says=says)
    fails("inference", config, says=says)
    fails(*merge_of(config, folder, tmp_path), says=says)


def test_an_adapter_with_rows_for_another_vocabulary(fails, write_config, model_dir, tmp_path, newt):
    keys = {"lora_modules_to_save": ["embed_tokens", "lm_head"], "output_dir": str(tmp_path / "first")}
    assert newt("train", write_config(**keys), "--max-steps", "1")[0] == 0
    other = copy_of(model_dir, tmp_path / model_dir.name, vocab_size=640)
    weights = load_file(other / "model.safetensors")
    rows = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = rows.new_zeros(640, rows.shape[1])
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    config = write_config(base_model=str(other), lora_model_dir=str(tmp_path / "first"))
    fails("train", config, says=(line_of(config, "lora_model_dir"), "does not fit the base model", "608", "640"))


def test_targets_that_match_nothing_list_the_candidates(fails, write_config):
    config = write_config(lora_target_linear=None, lora_target_modules=["q_porj"])
    says = (line_of(config, "lora_target_modules"), "'q_porj' matches no module", "The model has: q_proj, ", "up_proj")
    fails("train", config, says=says)
    config = write_config(lora_target_linear=None, lora_target_parameters=["experts.up"])
    fails("train", config, says=(line_of(config, "lora_target_parameters"), "The model has no three-dimensional"))


def test_an_override_on_the_command_line_is_the_place(fails, write_config):
    config = write_config(lora_target_linear=None, lora_target_modules=["q_proj"])
    fails("train", config, "--lora-target-modules", "[k_porj]", says=("--lora-target-modules: lora_target_modules: ",))


# --------------------------------------------------------------------------- what is trained


def test_nothing_is_trained(fails, write_config):
    keys = {"adapter": None, "lora_r": None, "lora_alpha": None, "lora_target_linear": None}
    config = write_config(**keys, unfrozen_parameters=["^nothing"])
    fails("train", config, says=(line_of(config, "unfrozen_parameters"), "matches no parameter. The model has names"))
    config = write_config(**keys, unfrozen_parameters=[r"model.embed_tokens.weight[0:0]"])
    fails("train", config, says=("unfrozen_parameters",))


def test_new_tokens_need_a_trained_embedding(fails, write_config):
    says = ("'<think>' is new to this tokenizer", "Set lora_modules_to_save: [embed_tokens, lm_head]", "[600]")
    fails("train", write_config(tokens=["<think>"]), says=says)
    config = write_config(special_tokens={"eos_token": "</s>"})
    fails("train", config, says=(line_of(config, "special_tokens"), "'</s>' is new"))


def test_an_end_token_of_several_tokens(fails, write_config):
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<END>\n{% endfor %}"
    config = write_config(chat_template="jinja", chat_template_jinja=template, eot_tokens=["<END>"])
    says = (line_of(config, "eot_tokens"), "'<END>' is ", "tokens of this tokenizer, not one. Add it under tokens")
    fails("train", config, says=says)


# --------------------------------------------------------------------------- the base


def test_four_bits_without_bitsandbytes(fails, write_config, monkeypatch):
    from newt.models import facts

    qlora = {"adapter": "qlora", "load_in_4bit": True}
    monkeypatch.setattr(facts, "installed", lambda: {})
    config = write_config(**qlora)
    fails("check", config, says=(line_of(config, "load_in_4bit"), "needs the package bitsandbytes", "newt-tune[bnb]"))
    fails("train", config, says=(line_of(config, "load_in_4bit"), "needs the package bitsandbytes", "newt-tune[bnb]"))


def test_four_bits_without_bitsandbytes_where_it_was_not_foreseen(fails, write_config, monkeypatch):
    """Its folder is there, and it cannot be found."""
    hidden = lambda name: None if name == "bitsandbytes" else find_spec(name)  # noqa: E731
    monkeypatch.setattr(optional, "find_spec", hidden)
    config = write_config(adapter="qlora", load_in_4bit=True)
    fails("train", config, says=("load_in_4bit needs the package 'bitsandbytes': pip install 'newt-tune[bnb]'",))


@pytest.mark.parametrize("name", ["flash_attention_2", "xformers"])
def test_an_attention_that_cannot_run_here(fails, write_config, name, monkeypatch):
    from newt.models import facts

    monkeypatch.setattr(facts, "_capabilities", list)  # also on a machine with a GPU
    config = write_config(attn_implementation=name)
    for command in ("check", "train"):
        fails(command, config, says=(line_of(config, "attn_implementation"), f"{name} needs a GPU", "sdpa."))


def test_code_that_comes_with_the_model(fails, write_config, model_dir, tmp_path):
    own = copy_of(model_dir, tmp_path / "own", model_type="own", auto_map={"AutoConfig": "code.Own"})
    (own / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = write_config(base_model=str(own), sample_packing=False)
    fails("train", config, says=(line_of(config, "base_model"), "needs Python code", "set trust_remote_code: true"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json. Name the folder of a model."),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not valid JSON. Copy the model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights. Copy the model again"),
        (
            lambda folder: [path.unlink() for path in folder.glob("*token*")],
            "holds no tokenizer files. Set tokenizer_config",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-5000]
            ),
            "is damaged or cut off",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "is damaged or cut off"),
    ],
    ids=["no config", "half a config", "no weights", "no tokenizer", "cut off", "zeros"],
)
def test_an_incomplete_folder(fails, write_config, model_dir, adapter, tmp_path, damage, says):
    folder = shutil.copytree(model_dir, tmp_path / "model")
    damage(folder)
    config = write_config(base_model=str(folder))
    for command in (("check", config), ("train", config), merge_of(config, adapter, tmp_path)):
        fails(*command, says=(line_of(config, "base_model"), says))


def test_a_missing_shard_and_a_missing_weight(fails, write_config, model_dir, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(model_dir, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(model_dir).save_pretrained(folder, max_shard_size="200KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    weights = load_file(shard)
    shard.unlink()
    config = write_config(base_model=str(folder))
    for command in ("check", "train"):
        fails(command, config, says=(line_of(config, "base_model"), shard.name))
    weights.pop(lost := min(weights))
    save_file(weights, shard, metadata={"format": "pt"})
    fails("train", config, says=(line_of(config, "base_model"), shard.name, lost, "Copy the model again"))
