"""The command line: help at once, overrides, errors in one line, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from newt import __version__, cli
from newt.commands.check import verdict
from newt.commands.config_schema import pick
from newt.commands.options import config_command, parse_overrides
from newt.config.section import ConfigError, Problem
from newt.support.errors import NewtError

HEAVY = {"torch", "transformers", "datasets", "pyarrow", "numpy", "peft", "trl", "accelerate"}


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(args)
    return int(stop.value.code or 0)


def modules_after(code: str, cwd: Path) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after some code."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('\\nMODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.rpartition("MODULES")[2].split()}


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "wrong.yml"
    path.write_text("base_model: no/such\nlora_alhpa: 16\nseed: x\ndatasets: [{path: none.jsonl, type: alpacca}]\n")
    return path


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["trian"]])
def test_help_and_version_load_nothing_but_click(arguments: list[str], tmp_path: Path) -> None:
    loaded = modules_after(f"from newt.cli import main; main({arguments!r})", tmp_path)
    assert "click" in loaded
    assert not loaded & {*HEAVY, "pydantic", "yaml", "rich", "jinja2"}


def test_checking_a_config_loads_no_heavy_library(wrong: Path, tmp_path: Path) -> None:
    loaded = modules_after(f"from newt.cli import main; main(['check', {str(wrong)!r}])", tmp_path)
    assert "pydantic" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_exists_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = import_module(f"newt.commands.{cli.COMMANDS[name].module}").command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert run(name, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: newt {name} ")
    assert len(text.splitlines()[2].strip()) > 10


def test_help_lists_the_commands_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line.startswith("Before") or line.startswith("After")] == [
        "Before training:",
        "After training:",
    ]
    for name, entry in cli.COMMANDS.items():
        assert any(line.split() == [name, *entry.help.split()] for line in text.splitlines()), name
    assert run("--version") == 0
    assert capsys.readouterr().out == f"newt {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["trian"], "there is no command 'trian'. Did you mean train?"),
        (["xyzzy"], "there is no command 'xyzzy'. See newt --help."),
        (["check"], "Missing argument 'CONFIG'."),
        (["check", "--lora-r", "8"], "the config comes first: newt check CONFIG --lora-r ..."),
        (["check", "c.yml", "stray"], "'stray' is not an option. Write --key value."),
        (["check", "c.yml", "--seed", "1", "2"], "'2' is not an option. Write --key value."),
        (["check", "c.yml", "-x"], "'-x' is not an option. Write --key value."),
        (["config-schema", "--field", "lorar"], "there is no key 'lorar'. Did you mean lora_r?"),
        (["config-schema", "--field", "xyzzy"], "there is no key 'xyzzy'. Leave --field away to see all keys."),
        (["config-schema", "--what"], "No such option '--what'."),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err == line + "\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("--lora-r 8", {"lora_r": "8"}),
        ("--lora_r=8", {"lora_r": "8"}),
        ("--tf32", {"tf32": True}),
        ("--no-sample-packing", {"sample_packing": False}),
        ("--no_sample_packing --tf32", {"sample_packing": False, "tf32": True}),
        ("--datasets.0.field-messages x", {"datasets.0.field_messages": "x"}),
        ("--trl__beta 0.1", {"trl__beta": "0.1"}),
        ("--seed -1 --learning_rate -1e-5", {"seed": "-1", "learning_rate": "-1e-5"}),
        ("--optim-args a=1,b=2", {"optim_args": "a=1,b=2"}),
        ("--output-dir=", {"output_dir": ""}),
        ("--seed 1 --seed 2", {"seed": "2"}),
        ("", {}),
    ],
)
def test_overrides(arguments: str, found: dict[str, Any]) -> None:
    assert parse_overrides(arguments.split()) == found


@pytest.mark.parametrize("arguments", [["x"], ["-x", "1"], ["--=3"], ["--"], ["--a", "1", "2"]])
def test_what_is_not_an_override(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError, match="is not an option"):
        parse_overrides(arguments)


def test_a_command_gets_config_overrides_and_its_own_options() -> None:
    seen: dict[str, Any] = {}

    @config_command("try")
    @click.option("--rows", default=3)
    def command(**given: Any) -> None:
        """Try something."""
        seen.update(given)

    command.main(["c.yml", "--seed", "-1", "--rows", "5", "--lora_r=8", "--flag"], standalone_mode=False)
    assert seen == {"config": "c.yml", "rows": 5, "overrides": {"seed": "-1", "lora_r": "8", "flag": True}}


def test_check_prints_every_problem_and_a_verdict(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(wrong), "--no-facts", "--lora-r", "many") == 2
    lines = capsys.readouterr().out.splitlines()
    assert f"{wrong}:2: lora_alhpa: unknown key. Did you mean lora_alpha?" in lines
    assert f"{wrong}:3: seed: must be a whole number, got 'x'." in lines
    assert "--lora-r: must be a whole number, got 'many'." in lines
    assert any(line.startswith(f"{wrong}:4: datasets.0.type: unknown type 'alpacca'.") for line in lines)
    assert lines[-1].startswith(f"{wrong}: ")
    assert lines[-1].endswith(" problems.")


def test_check_says_by_its_exit_code_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yml"
    good = "base_model: m\nlearning_rate: 1e-3\nmicro_batch_size: 1\ngradient_accumulation_steps: 1\n"
    path.write_text(good + "datasets: [{path: rows.jsonl, type: chat_template}]\n")
    assert run("check", str(path), "--no-facts") == 0
    assert capsys.readouterr().out == f"{path}: nothing is wrong.\n"
    assert run("check", str(path), "--no-facts", "--evaluation_strategy", "no") == 0
    assert run("check", str(path), "--no-facts", "--deepspeed", "zero3.json") == 3
    assert capsys.readouterr().out.splitlines()[-1] == f"{path}: 1 not supported yet."
    assert run("check", str(path), "--no-facts", "--deepspeed", "zero3.json", "--seed", "x") == 2
    assert run("check", str(tmp_path / "none.yml")) == 2
    assert f"{tmp_path / 'none.yml'}: does not exist." in capsys.readouterr().out


def test_verdicts() -> None:
    assert verdict({}) == "nothing is wrong."
    assert verdict({"warning": 1}) == "nothing is wrong, 1 warning."
    assert verdict({"invalid": 1, "warning": 2}) == "1 problem, 2 warnings."
    assert verdict({"invalid": 3, "unsupported": 2}) == "3 problems, 2 not supported yet."


def test_schema_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config-schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["seed"]["default"] == 42
    assert run("config-schema", "--field", "SEED", "--format", "yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"seed": schema["properties"]["seed"]}
    assert run("config-schema", "--field", "datasets") == 0
    assert json.loads(capsys.readouterr().out)["$defs"]
    assert list(pick(schema, "special-tokens")["$defs"]) == ["SpecialTokens"]


def test_an_error_for_the_user_is_printed_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OddError(NewtError):
        exit_code = 7

    _command_that_raises(monkeypatch, OddError("one\ntwo"))
    assert run("check", "c.yml") == 7
    assert capsys.readouterr().err == "one\ntwo\n"
    with pytest.raises(OddError):
        cli.main(["check", "c.yml", "--debug"])
    with pytest.raises(OddError):
        cli.main(["--debug", "check", "c.yml"])


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _command_that_raises(monkeypatch, KeyboardInterrupt())
    assert run("check", "c.yml") == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _command_that_raises(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["check", "c.yml"])


def _command_that_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @config_command("check")
    def command(config: str, overrides: dict[str, Any]) -> None:
        """Raise."""
        raise error

    monkeypatch.setattr("newt.commands.check.command", command)


def test_a_dotenv_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWT_TEST_SET", "before")
    monkeypatch.setenv("NEWT_TEST_NEW", "")
    monkeypatch.delenv("NEWT_TEST_NEW")
    (tmp_path / ".env").write_text("NEWT_TEST_SET=after\nNEWT_TEST_NEW=new\n")
    assert run("--version") == 0
    assert os.environ["NEWT_TEST_SET"] == "before"
    assert os.environ["NEWT_TEST_NEW"] == "new"


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["quantize", "c.yml"], 3, "the command quantize is known, but Newt does not support it yet."),
        (["train", "c.yml", "--cloud", "x.yml"], 3, "--cloud is known, but Newt does not support it yet."),
        (
            ["train", "c.yml", "--shard"],
            2,
            "--shard has nothing to do here: Large models are saved in several files by themselves. Remove it.",
        ),
        (["check", "c.yml", "--gradio"], 2, "--gradio is an option of newt inference. Remove it."),
        (["merge-lora", "c.yml", "--no-download"], 2, "--no-download is an option of newt preprocess. Remove it."),
        (["inference", "c.yml", "--chat", "--gradio"], 2, "--chat and --gradio cannot be used together. Keep one."),
        (["inference", "c.yml", "--lines", "--gradio"], 2, "--gradio and --lines cannot be used together. Keep one."),
    ],
)
def test_options_of_the_field(arguments: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == code
    assert capsys.readouterr().err == line + "\n"


def test_a_run_that_only_lacks_support_says_so_by_its_exit_code() -> None:
    def error(*kinds: Any) -> int:
        return ConfigError(Problem(("k",), "x", kind=kind) for kind in kinds).exit_code

    assert error("unsupported", "unsupported") == 3
    assert error("unsupported", "invalid") == 2
    assert error() == 2


def test_other_packages_add_commands_but_take_none(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    @click.command("hello")
    def hello() -> None:
        """Greet."""
        click.echo("hello")

    class Point:
        value = "other:hello"

        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> click.Command:
            return hello

    asked: list[str] = []

    def entry_points(*, group: str) -> list[Point]:
        asked.append(group)
        return [Point("hello"), Point("train")]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    assert run("hello") == 0
    captured = capsys.readouterr()
    assert captured.out == "hello\n"
    assert "warning: other:hello wants to be the command train, which is Newt's own: it is ignored." in captured.err
    assert set(asked) == {"newt.cli_commands"}
    assert run("train", "--help") == 0
    assert "Train the model" in capsys.readouterr().out


def test_several_configs_in_a_folder_are_a_question_only_to_somebody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text("base_model: x\n")
    assert run("check", str(tmp_path), "--no-facts") == 2
    assert "holds several configs. Name one: a.yml, b.yml." in capsys.readouterr().out
    monkeypatch.setattr("newt.commands.options.sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.prompt", lambda *_, **__: 2)
    assert run("check", str(tmp_path), "--no-facts") == 2
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{tmp_path / 'b.yml'}: ")
