"""What the command line may say, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from newt.config.core import Data, Model, RunControl
from newt.config.load import Loaded
from newt.config.overrides import infer, parse

Read = Callable[..., Loaded]
Lines = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("Yes", True),
        ("FALSE", False),
        ("no", False),
        ("null", None),
        ("None", None),
        ("~", None),
        ("", None),
        ("8", 8),
        ("-1", -1),
        ("1_000", 1000),
        ("010", 10),
        ("0.5", 0.5),
        ("1e-4", 1e-4),
        ("-.5E3", -500.0),
        ("3.", 3.0),
        ("[a, 2, no]", ["a", 2, False]),
        ("{a: 1, b: [x]}", {"a": 1, "b": ["x"]}),
        ("[qk]_proj", "[qk]_proj"),
        ("{{ bos }}", "{{ bos }}"),
        ("1.2.3", "1.2.3"),
        ("inf", "inf"),
        ("nan", "nan"),
        ("a: b", "a: b"),
        ("#x", "#x"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_text_without_a_type(text: str, value: Any) -> None:
    found = infer(text)
    assert found == value
    assert type(found) is type(value)


def test_spellings_of_one_key() -> None:
    wanted = ("datasets", "0", "field_messages")
    for name in ("datasets.0.field-messages", "datasets__0__field_messages", "--datasets.0.field_messages"):
        assert [one.parts for one in parse({name: "x"})] == [wanted]
        assert [one.parts for one in parse([f"{name}=x"])] == [wanted]
    assert [one.flag for one in parse({"lora_r": 1, "datasets__0__ds_type": 2})] == ["--lora-r", "--datasets.0.ds-type"]
    assert [one.value for one in parse(["a=b=c", "flag"])] == ["b=c", True]
    assert list(parse({"": 1, "--": 2})) == []


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("max-steps=1e2", "max_steps", 100),
        ("learning_rate=2e-5", "learning_rate", 2e-5),
        ("num_epochs=3", "num_epochs", 3.0),
        ("train-on-inputs=yes", "train_on_inputs", True),
        ("train_on_inputs=on", "train_on_inputs", True),
        ("train_on_inputs", "train_on_inputs", True),
        ("adapter=5", "adapter", "5"),
        ("adapter=true", "adapter", "true"),
        ("adapter=1e5", "adapter", "1e5"),
        ("adapter=[x]", "adapter", "[x]"),
        ("adapter=null", "adapter", None),
        ("output_dir=", "output_dir", "./model-out"),
        ("resume_from_checkpoint=true", "resume_from_checkpoint", True),
        ("resume_from_checkpoint=out/checkpoint-5", "resume_from_checkpoint", "out/checkpoint-5"),
        ("lora_target_modules=[q_proj, 5]", "lora_target_modules", ["q_proj", "5"]),
        ("lora_target_modules=[qkv]_proj", "lora_target_modules", "[qkv]_proj"),
        ("lora_target_modules=q_proj", "lora_target_modules", "q_proj"),
        ("eval_strategy=no", "eval_strategy", "no"),
        ("bf16=false", "bf16", False),
        ("bf16=full", "bf16", "full"),
        ("optim_args={a: 1}", "optim_args", {"a": 1}),
        ("optim_args=a=1,b=2", "optim_args", "a=1,b=2"),
        ("lora_rank_pattern.q_proj=4", "lora_rank_pattern", {"q_proj": 4}),
        ("model-config.rope_theta=5", "overrides_of_model_config", {"rope_theta": 5}),
        ("dpo-beta=0.5", "rl_beta", 0.5),
    ],
)
def test_the_type_of_the_key_decides(read: Read, override: str, key: str, value: Any) -> None:
    loaded = read("", [override])
    assert [str(problem) for problem in loaded.problems] == []
    assert loaded.config is not None
    found = loaded.config.to_dict()[key]
    assert found == value
    assert type(found) is type(value)
    assert (key in loaded.config.given) == (value is not None and not override.endswith("="))


def test_a_caller_may_give_typed_values(read: Read) -> None:
    cfg = read("", {"seed": 3, "special_tokens": {"pad_token": "p"}, "trust_remote_code": None}).config
    assert cfg is not None
    assert cfg[RunControl].seed == 3
    assert cfg[Model].special_tokens is not None
    assert cfg[Model].special_tokens.pad_token == "p"


def test_nested_keys_keep_the_type_that_the_file_gave_them(read: Read) -> None:
    text = "model_config: {rope_theta: 10.0, name: '1', layers: {2: a}}\n"
    names = ("rope_theta=5", "name=2", "layers.2=b", "new=true")
    cfg = read(text, [f"overrides_of_model_config.{name}" for name in names]).config
    assert cfg is not None
    config = cfg[Model].overrides_of_model_config
    assert config == {"rope_theta": 5.0, "name": "2", "layers": {2: "b"}, "new": True}
    assert isinstance(config["rope_theta"], float)


def test_lists_are_changed_and_made(read: Read) -> None:
    loaded = read(
        "", ["datasets.0.split=train[:10]", "datasets.1.path=b", "test_datasets.0.path=c", "datasets.1.type=alpaca"]
    )
    cfg = loaded.config
    assert cfg is not None
    assert [(entry.path, entry.split) for entry in cfg[Data].datasets or ()] == [
        ("rows.jsonl", "train[:10]"),
        ("b", None),
    ]
    assert [str(problem) for problem in loaded.problems] == [
        "--test-datasets.0.path: test_datasets.0.type: unknown type None."
    ]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("lora-alhpa=8", "--lora-alhpa: unknown key. Did you mean lora_alpha?"),
        ("lora-r=abc", "--lora-r: must be a whole number, got 'abc'."),
        ("lora_r=1.5", "--lora-r: must be a whole number, got 1.5."),
        ("lora_r=-1", "--lora-r: must be greater than 0, got -1."),
        ("lora-r", "--lora-r: needs a value: it must be a whole number."),
        ("adapter", "--adapter: needs a value: it must be text."),
        ("deepspeed=x", "--deepspeed: is known, but Newt does not support it yet."),
        (
            "eval_strategy=stps",
            "--eval-strategy: must be no, epoch or steps, got 'stps'. Did you mean steps?",
        ),
        ("datasets.5.path=x", "--datasets.5.path: datasets.5: there is no such entry in the list."),
        ("datasets.x.path=x", "--datasets.x.path: datasets.x: there is no such entry in the list."),
        ("datasets.0.pth=x", "--datasets.0.pth: unknown key. Did you mean path?"),
        ("base_model.x=1", "--base-model.x: base_model: was not a mapping and is replaced."),
    ],
)
def test_one_line_for_each_mistake(lines: Lines, override: str, line: str) -> None:
    assert lines("", [override])[0] == line


def test_the_place_of_an_overridden_key_is_its_flag(read: Read) -> None:
    cfg = read("lora_r: x\n", ["lora-r=8"]).config
    assert cfg is not None
    assert str(cfg.where("lora_r")) == "--lora-r"
    assert str(cfg.where("datasets.0.type")) == "c.yml:8"


def test_a_strict_file_takes_only_keys_that_it_has(read: Read) -> None:
    loaded = read(
        "strict: true\nseed: 1\nspecial_tokens: {pad_token: p}\n",
        ["seed=2", "lora-r=8", "special_tokens.pad_token=q", "debug"],
    )
    assert [(str(problem), problem.kind) for problem in loaded.problems] == [
        ("--lora-r: is ignored: the file is strict and does not have this key.", "warning")
    ]
    cfg = loaded.config
    assert cfg is not None
    assert (cfg[RunControl].seed, cfg[RunControl].debug) == (2, True)
    assert "lora_r" not in cfg.given
    assert cfg[Model].special_tokens is not None
    assert cfg[Model].special_tokens.pad_token == "q"
    assert not read("strict: false\n", ["lora-r=8"]).problems
