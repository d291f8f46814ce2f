"""Every mistake gives one exact line, all of them at once, and the rest of the config is still read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.config.config_parts import MINIMAL

from newt.config.core import Batch, Cadence, Data, Dataset, Model, RunControl
from newt.config.load import Loaded, check_sections, load, nested_sections, owners
from newt.config.schema import field_docs
from newt.config.section import Section, Where

Read = Callable[..., Loaded]
Lines = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lora_alhpa: 16", "lora_alhpa: unknown key. Did you mean lora_alpha?"),
        ("lora_target_module: [q]", "lora_target_module: unknown key. Did you mean lora_target_modules?"),
        ("LORA_R: 8", "LORA_R: unknown key. Did you mean lora_r?"),
        ("lr: 1.0", "lr: unknown key. Did you mean learning_rate?"),
        ("xyzzy: 1", "xyzzy: unknown key."),
        ("xyzzy:", "xyzzy: unknown key."),
        ("pad_token: x", "pad_token: unknown key. It belongs under special_tokens."),
        ("pad_tokn: x", "pad_tokn: unknown key. Did you mean pad_token, under special_tokens?"),
        ("path: x", "path: unknown key. It belongs in an entry of datasets."),
        ("field_messages: x", "field_messages: unknown key. It belongs in an entry of datasets."),
        ("train_on_split: x", "train_on_split: unknown key. Did you mean split, in an entry of datasets?"),
        ("5: x", "5: a key must be text."),
        ("yes: x", "True: a key must be text."),
        ("deepspeed: zero3.json", "deepspeed: is known, but Newt does not support it yet."),
        ("generation_do_sample: false", "generation_do_sample: is known, but Newt does not support it yet."),
        ("lora_r: abc", "lora_r: must be a whole number, got 'abc'."),
        ("lora_r: 2.5", "lora_r: must be a whole number, got 2.5."),
        ("lora_r: true", "lora_r: must be a whole number, got true."),
        ("lora_r: false", "lora_r: must be a number, got false."),
        ("lora_r: [1]", "lora_r: must be a whole number, got a list."),
        ("lora_r: 0", "lora_r: must be greater than 0, got 0."),
        ("num_epochs: yes", "num_epochs: must be a number, got true."),
        ("num_epochs: .inf", "num_epochs: must be a finite number, got inf."),
        ("val_set_size: -0.5", "val_set_size: must be at least 0, got -0.5."),
        ("train_on_inputs: maybe", "train_on_inputs: must be true or false, got 'maybe'."),
        ("adapter: [lora]", "adapter: must be text, got a list."),
        ("adapter: yes", "adapter: must be text, got true."),
        ("lora_target_modules: {a: 1}", "lora_target_modules: must be text or a list, got a mapping."),
        ("lora_target_modules: [a, [b]]", "lora_target_modules.1: must be text, got a list."),
        ("lora_rank_pattern: {q: 0}", "lora_rank_pattern.q: must be greater than 0, got 0."),
        ("lora_rank_pattern: {q: true}", "lora_rank_pattern.q: must be a whole number, got true."),
        ("bf16: fulll", "bf16: must be auto, full, true or false, got 'fulll'. Did you mean full?"),
        (
            "excess_length_strategy: dorp",
            "excess_length_strategy: must be drop, truncate or raise, got 'dorp'. Did you mean drop?",
        ),
        ("special_tokens: x", "special_tokens: must be a mapping, got 'x'."),
        ("special_tokens: {pad: x}", "special_tokens.pad: unknown key. Did you mean pad_token?"),
        ("special_tokens: {seed: 1}", "special_tokens.seed: unknown key. It belongs at the top level."),
        ("special_tokens: {1: x}", "special_tokens.1: a key must be text."),
        ("lr_groups: [{lr: 1}]", "lr_groups.0.name: is missing."),
        ("lr_groups: [{name: a, lrr: 1}]", "lr_groups.0.lrr: unknown key. Did you mean lr?"),
        ("test_datasets: []", "test_datasets: must be a list with at least 1 item, got an empty list."),
        ("test_datasets: {path: x}", "test_datasets: must be a list, got a mapping."),
        ("test_datasets: [x]", "test_datasets.0: must be a mapping with path and type, got 'x'."),
        ("rope_scaling: {factor: 2}", "rope_scaling: is gone from the top level. Write it under model_config."),
        (
            "unsloth_rope: true",
            "unsloth_rope: is gone. Remove it, and use lora_mlp_kernel, lora_qkv_kernel and lora_o_kernel.",
        ),
        ("seed: 1\nseed: 2", "seed: is written twice, first in line 1. Remove one."),
    ],
)
def test_one_line_for_each_mistake(lines: Lines, text: str, line: str) -> None:
    number = text.count("\n") + 1
    assert lines(text + "\n") == [f"c.yml:{number}: {line}"]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("type: alpaca", f"datasets.0.path: is missing. {field_docs(Dataset)['path']}"),
        ("{path: p, type: alpacca}", "datasets.0.type: unknown type 'alpacca'."),
        ("{path: p, type: to_come}", "datasets.0.type: to_come is known, but Newt does not support it yet."),
        ("{path: p, type: alpaca, train_on_split: t}", "datasets.0.train_on_split: unknown key. Did you mean split?"),
        ("{path: p, type: alpaca, pth: t}", "datasets.0.pth: unknown key. Did you mean path?"),
        ("{path: p, type: alpaca, lora_r: 8}", "datasets.0.lora_r: unknown key. It belongs at the top level."),
        (
            "{path: p, type: alpaca, sampl_packing: 8}",
            "datasets.0.sampl_packing: unknown key. Did you mean sample_packing, at the top level?",
        ),
        (
            "{path: p, type: alpaca, field_messages: m}",
            "datasets.0.field_messages: has no effect with type alpaca: it belongs to chat_template. "
            "Remove it, or change type.",
        ),
        (
            "{path: p, type: alpaca, step_separator: x}",
            "datasets.0.step_separator: is known, but Newt does not support it yet.",
        ),
        ("{path: p, type: alpaca, field: [a]}", "datasets.0.field: must be text, got a list."),
        ("{path: p, type: alpaca, 7: a}", "datasets.0.7: a key must be text."),
        (
            "{path: p, type: alpaca, ds_type: jsn}",
            "datasets.0.ds_type: must be json, csv, parquet, arrow or text, got 'jsn'. Did you mean json?",
        ),
    ],
)
def test_one_line_for_each_mistake_in_an_entry(lines: Lines, entry: str, line: str) -> None:
    rest = MINIMAL.partition("datasets:")[0]
    assert lines(f"{rest}datasets:\n  - {entry}\n", whole=True) == [f"c.yml:6: {line}"]


def test_an_entry_of_unknown_type_is_not_asked_for_the_keys_of_a_type(lines: Lines) -> None:
    found = lines("test_datasets:\n  - {path: p, type: hm, field: f, roles_to_train: [a]}\n")
    assert found == ["c.yml:2: test_datasets.0.type: unknown type 'hm'."]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty."),
        ("# nothing\n", "is empty."),
        ("- a\n", "a config is a mapping of keys to values, but this is a list."),
        ("hello", "a config is a mapping of keys to values, but this is text."),
        ("a: 1\n\tb: 2\n", "is indented with a tab, which YAML does not allow. Use spaces."),
        ("a: [1, 2\nb: 3\n", "is not valid YAML: did not find expected ',' or ']'."),
        ("a: 1\n---\nb: 2\n", "is not valid YAML: but found another document."),
        ("a: *missing\n", "is not valid YAML: found undefined alias."),
        ("a: \x01", "is not valid YAML: control characters are not allowed."),
        ("a: " + "[" * 5000, "is nested too deeply to be a config."),
    ],
)
def test_a_file_that_is_no_config(read: Read, text: str, problem: str) -> None:
    loaded = read(text, whole=True)
    assert loaded.config is None
    assert [line.message for line in loaded.problems] == [problem]
    assert str(loaded.problems[0]).startswith("c.yml")


def test_a_syntax_error_names_its_line(lines: Lines) -> None:
    assert lines("a: 1\n\tb: 2\n", whole=True)[0].startswith("c.yml:2: ")
    assert lines("a: 1\nb: 'x\n", whole=True)[0].startswith("c.yml:2: ")


def test_an_alias_that_expands_without_end_is_refused(lines: Lines) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert lines(bomb) == ["c.yml: is too large to be a config."]


def test_an_alias_that_contains_itself_is_refused(lines: Lines) -> None:
    assert lines("lora_target_modules: &a [*a]\n")[0] == "c.yml:1: lora_target_modules.0: refers to itself."


def test_unreadable_sources(tmp_path: Path) -> None:
    def only(source: Any) -> str:
        loaded = load(source, sections=(), entry_type=lambda *_: "")
        assert loaded.config is None
        (problem,) = loaded.problems
        return str(problem)

    assert only(tmp_path / "no.yml") == f"{tmp_path / 'no.yml'}: does not exist."
    assert only(tmp_path) == f"{tmp_path}: holds no .yml or .yaml file."
    assert only("http://example.org/c.yml").startswith("http://example.org/c.yml: is not encrypted")
    (tmp_path / "b.yml").write_bytes(b"\x80\x81\xff")
    assert only(tmp_path / "b.yml") == f"{tmp_path / 'b.yml'}: is not a text file in UTF-8."
    (tmp_path / "a.yaml").write_text("seed: 1")
    assert only(tmp_path) == f"{tmp_path}: holds several configs. Name one: a.yaml, b.yml."
    assert "cannot be read" in only("x" * 5000)
    assert "cannot be read" in only("a\0b") or "does not exist" in only("a\0b")


def test_a_folder_with_one_config_is_that_config(read: Read, tmp_path: Path) -> None:
    read("seed: abc\n")
    loaded = load(tmp_path, sections=(RunControl,), entry_type=lambda *_: "")
    assert loaded.config is not None
    assert loaded.config.source == tmp_path / "c.yml"
    assert loaded.problems[0].where == Where(str(tmp_path / "c.yml"), 1)


def test_all_mistakes_come_at_once_in_the_order_of_the_file(lines: Lines) -> None:
    text = "learning_rate: hello\nlora_alhpa: 1\nseed: x\ndatasets:\n  - path: 3.5\n    typ: a\n  - 7\nmax_steps: 0\n"
    assert lines(text, ["lora-r=-1"], whole=True) == [
        "c.yml: base_model: is missing. Folder of a model, or its id on the Hugging Face Hub.",
        "c.yml:1: learning_rate: must be a number, got 'hello'.",
        "c.yml:2: lora_alhpa: unknown key. Did you mean lora_alpha?",
        "c.yml:3: seed: must be a whole number, got 'x'.",
        "c.yml:5: datasets.0.type: unknown type None.",
        "c.yml:6: datasets.0.typ: unknown key. Did you mean type?",
        "c.yml:7: datasets.1: must be a mapping with path and type, got 7.",
        "c.yml:8: max_steps: must be greater than 0, got 0.",
        "--lora-r: must be greater than 0, got -1.",
    ]


def test_what_is_right_is_read_although_something_is_wrong(read: Read) -> None:
    loaded = read("seed: x\nmax_steps: 7\nmicro_batch_size: 2\ndatasets:\n  - 7\n  - {path: p}\n", whole=True)
    cfg = loaded.config
    assert cfg is not None
    assert (cfg[RunControl].seed, cfg[RunControl].max_steps, cfg[Batch].micro) == (42, 7, 2)
    assert cfg[Model].base_model == ""
    assert [entry.path for entry in cfg[Data].datasets or ()] == ["", "p"], "entries keep their numbers"
    assert list(check_sections(cfg, (Batch,))), "rules between keys can still run"


def test_values_are_typed_and_places_are_known(read: Read) -> None:
    cfg = read(
        "special_tokens:\n  pad_token: x\n  eos_token:\nmodel_config:\n"
        "  rope_theta: 1e6\nlora_r: '8'\nval_set_size: 2e-1\n"
    ).config
    assert cfg is not None
    assert cfg[Model].special_tokens is not None
    assert cfg[Model].special_tokens.pad_token == "x"
    assert cfg[Model].overrides_of_model_config == {"rope_theta": 1e6}
    assert cfg[Data].val_set_size == 0.2
    assert {"special_tokens", "special_tokens.pad_token", "datasets", "datasets.0", "datasets.0.type"} <= cfg.given
    assert "special_tokens.eos_token" not in cfg.given
    assert cfg.where("special_tokens.pad_token") == Where("c.yml", 2)
    assert cfg.where("overrides_of_model_config.rope_theta") == Where("c.yml", 5)
    assert cfg.where("datasets.0.type") == Where("c.yml", 14)
    assert cfg.where("datasets.0.split") == Where("c.yml", 13)
    assert cfg.where("max_steps") is None
    assert str(cfg.problem("max_steps", "is missing.")) == "c.yml: max_steps: is missing."


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-5", 1e-5),
        ("2E-4", 2e-4),
        ("1.e3", 1000.0),
        (".5e1", 5.0),
        ("1_0e1", 100.0),
        ("'2e-5'", 2e-5),
        ("3", 3.0),
    ],
)
def test_numbers_as_people_write_them(read: Read, written: str, value: float) -> None:
    loaded = read(f"rl_beta: {written}\n")
    assert not loaded.problems
    assert loaded.config is not None
    assert loaded.config.to_dict()["rl_beta"] == value


def test_yaml_itself_is_left_alone() -> None:
    import yaml

    assert yaml.safe_load("1e-5") == "1e-5"
    assert str(yaml.safe_load("2024-01-01")) == "2024-01-01"
    assert not isinstance(yaml.safe_load("2024-01-01"), str)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("adapter: 2024", "adapter", "2024"),
        ("adapter: 1e5", "adapter", "1e5"),
        ("adapter: 007", "adapter", "007"),
        ("adapter: 2024-01-01", "adapter", "2024-01-01"),
        ("adapter: =", "adapter", "="),
        ("lora_target_modules: [1, q]", "lora_target_modules", ["1", "q"]),
        ("eval_strategy: no", "eval_strategy", "no"),
        ("bf16: yes", "bf16", True),
        ("train_on_inputs: on", "train_on_inputs", True),
        ("save_total_limit:", "save_total_limit", 4),
        ("chat_template_kwargs: {a: null}", "chat_template_kwargs", {"a": None}),
        ("max_steps: 1e3", "max_steps", 1000),
    ],
)
def test_scalars_mean_what_was_written(read: Read, text: str, key: str, value: Any) -> None:
    loaded = read(text + "\n")
    assert not loaded.problems
    assert loaded.config is not None
    assert loaded.config.to_dict()[key] == value


def test_anchors_and_merges(read: Read) -> None:
    loaded = read(
        "datasets:\n  - &one {path: p, type: alpaca, split: train}\n  - <<: *one\n    split: test\n"
        "base_model: m\nlearning_rate: 1\nmicro_batch_size: 1\ngradient_accumulation_steps: 1\n",
        whole=True,
    )
    assert not loaded.problems
    assert loaded.config is not None
    assert [(entry.path, entry.split) for entry in loaded.config[Data].datasets or ()] == [
        ("p", "train"),
        ("p", "test"),
    ]
    assert loaded.config.where("datasets.1.split") == Where("c.yml", 4)
    assert loaded.config.where("datasets.1.path") == Where("c.yml", 2)


def test_null_is_absence_and_false_asks_a_missing_feature_for_nothing(read: Read) -> None:
    loaded = read("deepspeed:\nwandb_project: ~\nload_in_8bit: false\nplugins: []\nlora_r: null\n")
    assert not loaded.problems
    assert loaded.config is not None
    assert not loaded.config.given & {"deepspeed", "load_in_8bit", "lora_r"}


def test_kinds_of_problems(read: Read) -> None:
    assert [problem.kind for problem in read("fsdp: [full_shard]\nxyzzy: 1\n").problems] == ["unsupported", "invalid"]


def test_a_mapping_is_a_config_without_places() -> None:
    mapping = {
        "base_model": Path("a/b"),
        "sede": 1,
        "seed": "x",
        "datasets": ({"path": Path("p"), "type": "alpaca"},),
    }
    loaded = load(mapping, sections=(Model, Data, RunControl), entry_type=lambda *_: Dataset)
    assert [str(problem) for problem in loaded.problems] == [
        "sede: unknown key. Did you mean seed?",
        "seed: must be a whole number, got 'x'.",
    ]
    assert loaded.config is not None
    assert loaded.config[Model].base_model == str(Path("a/b"))
    assert loaded.config.source is None
    assert mapping["base_model"] == Path("a/b"), "the caller's mapping is not changed"


def test_two_owners_of_one_key_are_a_mistake_of_ours() -> None:
    class Other(Section):
        seed: int = 1

    with pytest.raises(AssertionError, match="RunControl and Other both own the key seed"):
        owners((RunControl, Other))
    assert owners((RunControl, RunControl))["seed"] is RunControl


def test_nested_sections_are_found_in_any_annotation() -> None:
    class Inner(Section):
        a: int = 1

    assert nested_sections(Inner | None) == [Inner]
    assert nested_sections(tuple[Inner, ...] | str) == [Inner]
    assert nested_sections(dict[str, Inner]) == []
    assert nested_sections(bool) == []


def test_checks_of_sections_run_once_each(read: Read) -> None:
    loaded = read("batch_size: 3\neval_steps: 5\n")
    assert loaded.config is not None
    found = list(check_sections(loaded.config, (Batch, Cadence, Batch)))
    assert [str(problem) for problem in found] == [
        "c.yml:1: batch_size: cannot be used with gradient_accumulation_steps. Remove batch_size.",
        "c.yml:2: eval_steps: there is nothing to evaluate. Set val_set_size or test_datasets.",
    ]
