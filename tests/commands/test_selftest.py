"""newt selftest on a config of disk."""

from __future__ import annotations

import json

import pytest

from newt.commands.selftest import line, short_run
from newt.commands.shared import open_run
from newt.config.core import Batch, Cadence, RunControl
from newt.training.subject import Result


def test_everything_that_applies_passes(write_config, newt, tmp_path):
    config = write_config(gradient_checkpointing=True, use_tensorboard=True, warmup_steps=3, saves_per_epoch=2)
    code, out, _ = newt("selftest", config, "--json")
    found = json.loads(out)
    results = {result["name"]: result["passed"] for result in found["results"]}
    assert (code, found["passed"]) == (0, True), out
    assert results == {
        "stop token is trained": True, "gradient accumulation": True, "packing": True, "loss without logits": True,
        "attention": True, "gradient checkpointing": True, "torch.compile": None, "resume": True, "saved adapter": True,
    }  # fmt: skip
    assert not (tmp_path / "run").exists(), "the run's own folder is not touched"


def test_a_saved_adapter_is_the_same_in_16_bits(write_config, newt):
    code, out, _ = newt("selftest", write_config(bf16=True, float32=None), "--json")
    found = {result["name"]: result for result in json.loads(out)["results"]}
    assert code == 0, out
    assert found["saved adapter"]["note"].startswith("logits differ by 0.0e+00"), "not only near: the same arithmetic"


def test_compiled_layers_are_tried_and_then_set_aside(write_config, newt):
    import torch

    torch._dynamo.reset()
    code, out, _ = newt("selftest", write_config(torch_compile=True, torch_compile_backend="eager"), "--json")
    torch._dynamo.reset()
    found = {result["name"]: result for result in json.loads(out)["results"]}
    assert code == 0, out
    assert (found["torch.compile"]["passed"], found["resume"]["passed"]) == (True, True)
    assert found["torch.compile"]["note"].endswith("layers")


def test_stop_token_that_is_not_trained_fails(write_config, newt, chat_file):
    dataset = {"path": str(chat_file), "type": "chat_template", "train_on_eos": "none", "train_on_eot": "none"}
    config = write_config(datasets=[dataset], adapter=None, lora_r=None, lora_alpha=None, lora_target_linear=None)
    code, out, _ = newt("selftest", config)
    assert code == 1
    assert "FAILED  stop token is trained" in out
    assert "ok      saved model" in out
    assert out.splitlines()[-1].endswith("failed: stop token is trained.")


def test_template_without_a_stop_token_is_refused(write_config, newt):
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    code, _, err = newt("selftest", write_config(chat_template="jinja", chat_template_jinja=template))
    assert code == 2
    assert "no stop token" in err


def test_other_methods_are_refused(write_config, newt, tmp_path):
    rows = tmp_path / "pairs.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    code, out, err = newt("selftest", write_config(rl="dpo", datasets=[{"path": str(rows)}], sample_packing=None))
    assert code in (2, 3)
    assert not out or "FAILED" not in out
    assert err


def test_the_short_run_keeps_what_is_computed(write_config, tmp_path):
    run = open_run(write_config(weight_decay=0.1, warmup_steps=7, save_steps=2, hub_model_id=None))
    short = short_run(run, tmp_path / "short", 48)
    assert short.cfg[RunControl].output_dir == str(tmp_path / "short")
    assert (short.cfg[Batch].accumulation, short.cfg[RunControl].max_steps, short.cfg[Cadence].save_steps) == (2, 2, 1)
    assert short.cfg[Batch].sequence_len == 48
    assert short.cfg.value("weight_decay") == 0.1
    assert not short.cfg.value("warmup_steps")
    assert [part.name for part in short.parts] == [part.name for part in run.parts]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (
            Result("packing", True, 1e-6, 2e-5, (1e-5, 1e-4), "x"),
            "ok      packing                  1.0e-06 (<1e-05)    2.0e-05 (<1e-04)  x",
        ),
        (Result("torch.compile", None, note="off"), f"skipped torch.compile{'':51}  off"),
        (Result("resume", False), "FAILED  resume"),
    ],
)
def test_lines_of_the_table(result, text):
    assert line(result).split() == text.split()
