"""Bad data from the command line: one clear line that names the dataset and the row, exit code 2, nothing half-done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from newt.cli import main

Row = dict[str, Any]
GOOD = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def turns(*pairs: tuple[str, Any], **more: Any) -> Row:
    return {"messages": [{"role": role, "content": content} for role, content in pairs], **more}


def call(arguments: Any) -> Row:
    """A row in which a tool is called."""
    function = {"name": "get_weather", "arguments": arguments}
    asked = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
    return {"messages": [{"role": "user", "content": "a"}, asked]}


@pytest.fixture
def preprocess(
    tmp_path: Path, model_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Runs ``newt preprocess`` on a file; returns the last line of the error, which must be the only one about it."""
    monkeypatch.chdir(tmp_path)

    def run(
        content: str | bytes | list[Any], *, name: str = "rows.jsonl", entry: Row | None = None, **keys: Any
    ) -> str:
        lines = content if not isinstance(content, list) else "".join(json.dumps(row) + "\n" for row in content)
        (tmp_path / name).write_bytes(lines if isinstance(lines, bytes) else lines.encode())
        config = {
            "base_model": str(model_dir),
            "datasets": [{"path": name, "type": "chat_template", **(entry or {})}],
            "sequence_len": 256,
            "micro_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "learning_rate": 1e-3,
            "dataset_num_proc": 1,
            "dataset_prepared_path": "prepared",
            **keys,
        }
        (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["preprocess", "config.yml"])
        streams = capsys.readouterr()
        assert end.value.code == 2, streams.err
        assert "Traceback" not in streams.err
        assert not [path for path in tmp_path.glob("prepared/*") if path.is_dir()], "half a result was left behind"
        lines_said = [
            line for line in streams.err.splitlines() if line.strip() and not line.startswith("[transformers]")
        ]
        return lines_said[-1]

    return run


def test_a_malformed_json_line(preprocess: Callable[..., str]) -> None:
    said = preprocess(json.dumps(GOOD) + '\n{"messages": [\n' + json.dumps(GOOD) + "\n")
    assert said.startswith("rows.jsonl:2: is not valid JSON")


def test_a_line_that_is_no_object(preprocess: Callable[..., str]) -> None:
    assert preprocess([GOOD, [1, 2]]) == "rows.jsonl:2: a row must be a JSON object, this is a list."


def test_a_wrong_encoding(preprocess: Callable[..., str]) -> None:
    said = preprocess(json.dumps(GOOD).encode() + b"\n" + '{"messages": "é"}\n'.encode("latin-1"))
    assert said.startswith("rows.jsonl:2: is not UTF-8")


def test_a_missing_column_lists_those_that_are_there(preprocess: Callable[..., str]) -> None:
    assert "'messages'" in (said := preprocess([{"conversations": [], "id": 1}])) and "conversations, id" in said
    said = preprocess([GOOD, {"conversations": [], "id": 1}])
    assert "row 1 (line 2): messages is missing; the row has: conversations, id" in said


@pytest.mark.parametrize("messages", [None, [], "no JSON", 3, [None], ["text"]])
def test_messages_that_are_none(preprocess: Callable[..., str], messages: Any) -> None:
    assert "rows.jsonl: row 1 (line 2): messages" in preprocess([GOOD, {"messages": messages, "id": 1}])


def test_a_message_without_a_role_or_content(preprocess: Callable[..., str]) -> None:
    said = preprocess([GOOD, {"messages": [{"from": "human", "value": "a"}]}])
    assert "row 1 (line 2): message 0 has no 'role'; it has: from, value" in said
    assert "row 0 (line 1): message 0 (user) has no 'content'" in preprocess([turns(("user", None))])


def test_roles_that_the_template_refuses(preprocess: Callable[..., str], real_tokenizer: Callable[[str], Path]) -> None:
    row = turns(("user", "a"), ("user", "b"), ("assistant", "c"))
    said = preprocess([GOOD, row], tokenizer_config=str(real_tokenizer("gemma3")))
    assert "rows.jsonl: row 1 (line 2): the chat template refuses this conversation" in said


@pytest.mark.parametrize("arguments", ['{"city": ', "Paris"])
def test_arguments_of_a_tool_that_are_no_json(preprocess: Callable[..., str], arguments: str) -> None:
    said = preprocess([GOOD, call(arguments)])
    assert "row 1 (line 2): message 1 (assistant): the arguments of the tool call get_weather are not JSON" in said


def test_parameters_of_a_tool_that_are_no_json(preprocess: Callable[..., str]) -> None:
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": "{"}}]
    assert "row 0 (line 1): the parameters of the tool get_weather are not JSON" in preprocess(
        [{**GOOD, "tools": tools}]
    )


def test_an_image_in_a_model_of_text(preprocess: Callable[..., str]) -> None:
    picture = [{"type": "text", "text": "What is this?"}, {"type": "image", "url": "cat.png"}]
    said = preprocess([GOOD, turns(("user", picture), ("assistant", "A cat."))])
    assert "rows.jsonl: row 1 (line 2): message 0 (user)" in said and "image" in said


def test_no_rows_at_all(preprocess: Callable[..., str]) -> None:
    assert "rows.jsonl" in preprocess("")


def test_no_rows_after_filtering(preprocess: Callable[..., str]) -> None:
    said = preprocess([turns(("user", "a")), turns(("user", "a"), ("assistant", "b " * 300))])
    assert (
        "rows.jsonl: nothing to train: of 2 rows read, 1 have no trained token, 1 are longer than sequence_len" in said
    )


def test_a_single_long_row_with_raise(preprocess: Callable[..., str]) -> None:
    said = preprocess([GOOD, turns(("user", "a"), ("assistant", "b " * 300))], excess_length_strategy="raise")
    assert "rows.jsonl: row 1 (line 2): has " in said and "sequence_len is 256. Raise sequence_len, or set" in said


def test_an_end_of_turn_token_that_is_several_tokens(preprocess: Callable[..., str]) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}[[end of turn]]{% endfor %}"
    said = preprocess([GOOD], eot_tokens=["[[end of turn]]"], chat_template_jinja=template)
    assert "eot_tokens: '[[end of turn]]' is" in said and "tokens of this tokenizer, not one" in said
    assert "added_tokens_overrides" in said


def test_a_template_without_a_stop_token(preprocess: Callable[..., str]) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    said = preprocess([GOOD], chat_template_jinja=template)
    assert "stop token" in said and "eot_tokens" in said


def test_a_template_that_is_no_jinja(preprocess: Callable[..., str]) -> None:
    assert "the chat template is not valid Jinja: line 1" in preprocess([GOOD], chat_template_jinja="{% for m %}")


def test_flags_that_are_no_flags(preprocess: Callable[..., str]) -> None:
    row = turns(("user", "a"), ("assistant", [{"type": "text", "text": "b", "weight": 0.5}]))
    assert "row 0 (line 1): message 1 (assistant): weight of a content part must be 0 or 1" in preprocess([row])
    row = json.loads(json.dumps(GOOD))
    row["messages"][1]["train"] = "yes"
    said = preprocess([GOOD, row], entry={"message_field_training": "train"})
    assert "row 1 (line 2): message 1 (assistant): train must be true or false, it is 'yes'" in said
    row["messages"][1] |= {"train": True, "detail": [{"begin_offset": 0, "end_offset": 9, "train": True}]}
    said = preprocess([row], entry={"message_field_training_detail": "detail"})
    assert "message 1 (assistant): training detail 0..9 is outside of the content (0..0)" in said


def test_half_a_surrogate_pair(preprocess: Callable[..., str]) -> None:
    said = preprocess(json.dumps(GOOD) + "\n" + json.dumps(turns(("user", "a"), ("assistant", "\ud800"))) + "\n")
    assert "row 1 (line 2): holds half of a surrogate pair, which is not text." in said


def test_a_parquet_file_that_is_none(preprocess: Callable[..., str]) -> None:
    assert "rows.parquet" in preprocess(b"no parquet", name="rows.parquet")
