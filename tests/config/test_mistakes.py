"""Mistakes that people make in a config, as written files: every problem at once, in its line, with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from newt.cli import main

MODEL = """\
base_model: org/model
learning_rate: 1e-4
micro_batch_size: 1
gradient_accumulation_steps: 1
"""
DATA = """\
datasets:
  - path: rows.jsonl
    type: chat_template
"""
BASE = MODEL + DATA
"""Seven right lines; what a mistake adds begins in line 8."""
LORA = "adapter: lora\nlora_r: 8\nlora_alpha: 16\n"
QLORA = "adapter: qlora\nlora_r: 8\nlora_alpha: 16\nlora_target_linear: true\n"
NO_EFFECT = "has no effect: adapter is not set."

Said = list[tuple[int | None, str]]

MISTAKES: dict[str, tuple[str, Said]] = {
    "typo": (BASE + "sample_packng: true\n", [(8, "sample_packng: unknown key. Did you mean sample_packing?")]),
    "a top-level key in a dataset": (
        BASE + "    sequence_len: 512\n",
        [(8, "datasets.0.sequence_len: unknown key. It belongs at the top level.")],
    ),
    "a dataset's key at the top level": (
        BASE + "roles_to_train: [assistant]\n",
        [(8, "roles_to_train: unknown key. It belongs in an entry of datasets.")],
    ),
    "text for a number": (
        BASE.replace("1e-4", "fast"),
        [(2, "learning_rate: must be a number, got 'fast'.")],
    ),
    "a tab": (MODEL + "datasets:\n\t- path: rows.jsonl\n", [(6, "is indented with a tab")]),
    "a key twice": (BASE + "learning_rate: 2e-4\n", [(8, "learning_rate: is written twice, first in line 2.")]),
    "no colon": (BASE.replace("size: 1", "size 1"), [(3, "is not valid YAML: could not find expected ':'")]),
    "an open quote": (BASE + 'output_dir: "out\n', [(8, "is not valid YAML: found unexpected end of stream")]),
    "one space too few": (BASE.replace("    type", "   type"), [(7, "is not valid YAML: ")]),
    "a merge conflict": (BASE + "<<<<<<< HEAD\nseed: 1\n=======\nseed: 2\n>>>>>>> b\n", [(8, "is not valid YAML: ")]),
    "keys of two adapters": (
        BASE + LORA + "lora_target_linear: true\nrelora: true\nload_in_4bit: true\n",
        [(12, "relora: needs jagged_restart_steps.")],
    ),
    "an adapter's keys without it": (
        BASE + "lora_r: 8\nlora_alpha: 16\n",
        [(8, f"lora_r: {NO_EFFECT}"), (9, f"lora_alpha: {NO_EFFECT}")],
    ),
    "an adapter without modules": (BASE + LORA, [(8, "lora_target_modules: nothing is targeted.")]),
    "a broken regular expression": (
        BASE + LORA + "lora_target_modules: ['q_(proj']\n",
        [(11, "lora_target_modules: 'q_(proj' is not a regular expression")],
    ),
    "dropout above 1": (
        BASE + LORA + "lora_target_linear: true\nlora_dropout: 1.5\n",
        [(12, "lora_dropout: must be less than 1, got 1.5.")],
    ),
    "two warmups": (
        BASE + "warmup_steps: 10\nwarmup_ratio: 0.1\n",
        [(9, "warmup_ratio: cannot be used with warmup_steps.")],
    ),
    "two sources of evaluation data": (
        BASE + "val_set_size: 0.1\n" + DATA.replace("datasets", "test_datasets"),
        [(8, "val_set_size: cannot be used with test_datasets.")],
    ),
    "packing with a reward model": (
        BASE.replace("type: ", "type: bradley_terry.") + "reward_model: true\nsample_packing: true\n",
        [
            (9, "sample_packing: cannot be used with reward_model."),
        ],
    ),
    "8 bits with QLoRA": (
        BASE + QLORA + "load_in_8bit: true\n",
        [
            (12, "load_in_8bit: cannot be used with qlora."),
        ],
    ),
    "FSDP and DeepSpeed": (
        BASE + "deepspeed: ds.json\nfsdp_version: 2\nfsdp_config:\n  reshard_after_forward: true\n",
        [
            (8, "deepspeed: cannot be used with fsdp_config."),
        ],
    ),
    "an unknown type": (
        BASE.replace("chat_template", "sharegtp"),
        [(7, "datasets.0.type: unknown type 'sharegtp'.")],
    ),
    "datasets that are no list": (
        MODEL + "datasets:\n  path: rows.jsonl\n  type: chat_template\n",
        [(5, "datasets: must be a list, got a mapping.")],
    ),
    "an empty list of datasets": (MODEL + "datasets: []\n", [(5, "datasets: must be a list with at least 1 item")]),
    "no datasets": (MODEL, [(None, "datasets: is missing.")]),
    "no model": (BASE.replace("base_model", "# base_model"), [(None, "base_model: is missing.")]),
    "names of another library": (
        BASE + "num_train_epochs: 3\nper_device_train_batch_size: 4\n",
        [
            (8, "num_train_epochs: unknown key. Did you mean num_epochs?"),
            (9, "per_device_train_batch_size: unknown key. Did you mean micro_batch_size?"),
        ],
    ),
    "two number formats": (BASE + "bf16: true\nfp16: true\n", [(9, "fp16: cannot be used with bf16.")]),
    "neither true nor false": (
        BASE + "train_on_inputs: sometimes\n",
        [(8, "train_on_inputs: must be true or false, got 'sometimes'.")],
    ),
    "a negative batch": (
        BASE.replace("micro_batch_size: 1", "micro_batch_size: -1"),
        [(3, "micro_batch_size: must be greater than 0, got -1.")],
    ),
    "a misspelt optimizer": (
        BASE + "optimizer: adamw_troch\n",
        [(8, "optimizer: unknown optimizer 'adamw_troch'. Did you mean adamw_torch?")],
    ),
    "a misspelt schedule": (
        BASE + "lr_scheduler: cosin\n",
        [(8, "lr_scheduler: unknown schedule 'cosin'. Did you mean cosine?")],
    ),
    "a misspelt template": (
        BASE + "chat_template: chatlm\n",
        [(8, "chat_template: unknown template 'chatlm'. Did you mean chatml?")],
    ),
    "jinja without a template": (BASE + "chat_template: jinja\n", [(8, "chat_template: jinja needs the template.")]),
    "nothing to evaluate": (BASE + "eval_steps: 10\n", [(8, "eval_steps: there is nothing to evaluate.")]),
    "two cadences": (
        BASE + "val_set_size: 0.1\neval_steps: 10\nevals_per_epoch: 2\n",
        [(10, "evals_per_epoch: cannot be used with eval_steps.")],
    ),
    "the batch in two ways": (
        BASE + "batch_size: 8\n",
        [(8, "batch_size: cannot be used with gradient_accumulation_steps.")],
    ),
    "a key that is gone": (
        BASE + "rope_scaling:\n  factor: 2\n",
        [(8, "rope_scaling: is gone from the top level. Write it under model_config.")],
    ),
    "several at once": (
        BASE.replace("1e-4", "fast") + "sed: 1\nnum_epochs: 0\n",
        [
            (2, "learning_rate: must be a number, got 'fast'."),
            (8, "sed: unknown key. Did you mean seed?"),
            (9, "num_epochs: must be greater than 0, got 0."),
        ],
    ),
    "a list": ("- base_model: org/model\n", [(1, "a config is a mapping of keys to values, but this is a list.")]),
    "an empty file": ("", [(None, "is empty.")]),
}
"""What went wrong -> the file, and the line number and the beginning of everything that must be said."""
NOT_YET = "is known, but Newt does not support it yet."
"""Further lines that are no mistake of the user's, and go away one day."""


def check(file: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Exit code and printed lines, without the verdict at the end and what is not built yet."""
    with pytest.raises(SystemExit) as stop:
        main(["check", "--no-facts", file])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert err == ""
    return int(stop.value.code or 0), [line for line in out.splitlines()[:-1] if NOT_YET not in line]


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_said_in_its_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text, said = MISTAKES[name]
    Path("c.yml").write_text(text, encoding="utf-8")
    code, lines = check("c.yml", capsys)
    begins = ["c.yml: " + text if line is None else f"c.yml:{line}: {text}" for line, text in said]
    assert code == 2
    assert len(lines) == len(begins), lines
    assert [line for line, begin in zip(lines, begins, strict=True) if not line.startswith(begin)] == []
    assert [path.name for path in tmp_path.iterdir()] == ["c.yml"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "c.yml: does not exist."),
        (b"base_model: \xff\xfe\n", "c.yml: is not a text file in UTF-8."),
        (b"\x89PNG\r\n\x1a\n\x00", "c.yml: is not a text file in UTF-8."),
    ],
)
def test_an_unreadable_file_is_one_line(
    content: bytes | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("c.yml").write_bytes(content)
    code, lines = check("c.yml", capsys)
    assert (code, lines) == (2, [said])


def test_there_are_many() -> None:
    assert len(MISTAKES) >= 30


def test_a_dataset_without_type_is_found_by_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows may come tokenized, and have no type then; these are not."""
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n', encoding="utf-8")
    config = tmp_path / "c.yml"
    config.write_text(MODEL + f"datasets:\n  - path: {tmp_path / 'rows.jsonl'}\n", encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["check", str(config)])
    assert stop.value.code == 2
    (line,) = [text for text in capsys.readouterr().out.splitlines() if "datasets" in text]
    assert line.startswith(f"{config}:6: datasets.0.type: the rows have no column 'input_ids'")
    assert line.endswith("Set type: without one, rows must be tokenized already.")
