"""Debug flags, flags of older tools, and a user's Part in a real run."""

from __future__ import annotations

import os
import sys

import pytest


def test_examples_are_shown_before_training(newt, write_config, tmp_path):
    config = write_config(max_steps=1)
    code, out, err = newt("preprocess", config, "--debug-num-examples", "2")
    assert code == 0, err
    assert "row 0: " in out
    assert "row 1: " in out
    assert "row 2: " not in out
    assert "token(label, id): '<|im_start|>'(-100, 1)" in out
    assert out.index("row 0: ") < out.index("The tokenized data is in")
    code, out, _ = newt("train", config, "--debug-text-only")
    assert code == 0
    assert "row 0: " in out
    assert "token(label, id)" not in out
    assert "row 1: " not in out
    code, out, _ = newt("evaluate", config, "--debug", "--only", "validation")
    assert code == 0
    assert "token(label, id)" in out
    assert "row 0: " not in newt("preprocess", config)[1]


def test_preprocess_says_what_it_is_and_that_iterable_is_gone(newt, write_config, monkeypatch):
    monkeypatch.setenv("NEWT_IS_PREPROCESS", "")
    code, _, err = newt("preprocess", write_config(), "--iterable")
    assert (code, err) == (2, "--iterable is gone. Remove it: data is read in pieces anyway.\n")
    assert newt("preprocess", write_config())[0] == 0
    assert os.environ["NEWT_IS_PREPROCESS"] == "1"


def test_inference_takes_another_adapter_and_base(newt, write_config, tmp_path):
    code, _, err = newt("inference", write_config(), "--lora-model-dir", tmp_path / "none")
    assert code == 2
    assert f"--lora-model-dir: there is no folder {tmp_path / 'none'}" in err
    code, _, err = newt("inference", write_config(), "--base-model", "./none")
    assert code == 2
    assert "--base-model: " in err


def test_debug_still_shows_tracebacks(write_config):
    from newt.cli import main
    from newt.support.errors import NewtError

    with pytest.raises(NewtError):
        main(["train", str(write_config(lora_alhpa=1)), "--debug"])


def test_a_part_of_the_user_takes_part_in_training(newt, write_config, tmp_path, monkeypatch):
    (tmp_path / "my_part.py").write_text(MARKING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    code, _, err = newt("train", write_config(plugins=["my_part.Marking"], mark="done.txt", max_steps=1))
    sys.modules.pop("my_part", None)
    assert code == 0, err
    assert (tmp_path / "done.txt").read_text() == "1"


MARKING = """
from pathlib import Path

from newt.config.section import Section
from newt.extend import Feature


class MarkSettings(Section):
    mark: str | None = None


class Marking(Feature):
    name = "marking"
    Settings = (MarkSettings,)

    @classmethod
    def active(cls, cfg):
        return cfg[MarkSettings].mark is not None

    def plan_train(self, plan):
        plan.callbacks.append(self.callback)

    def callback(self):
        from transformers import TrainerCallback

        path = Path(self.cfg[MarkSettings].mark)

        class Mark(TrainerCallback):
            def on_train_end(self, args, state, control, **kwargs):
                path.write_text(str(state.global_step))

        return Mark()
"""
