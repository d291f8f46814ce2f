"""Tokenizers of mistral-common: its own ids, and masks that are known for every token."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mistral_common", reason="the package mistral-common is not installed")

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.mistral import MistralRows
from newt.formats.chat_template import ChatTemplate, ChatTemplateDataset
from newt.formats.completion import Completion
from newt.support.errors import DataError, NewtError

Row = dict[str, Any]
NAMES = tuple(
    """
    <unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] [IMG]
    <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT] [TRANSCRIBE]
    [AUDIO] [BEGIN_AUDIO] [ARGS] [CALL_ID] [THINK] [/THINK]
    """.split()  # noqa: SIM905 - one word each
)
WORDS = ("the", " the", " answer", "ful", "wonder", "wonderful", ".\n\n", "\n\n", " is", "12")
SHIPPED = {
    "v1": "tokenizer.model.v1",
    "v2": "mistral_instruct_tokenizer_240216.model.v2",
    "v3": "mistral_instruct_tokenizer_240323.model.v3",
    "v7": "mistral_instruct_tokenizer_241114.model.v7",
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"city": "Ulm"}}}


def write_tekken(folder: Path, version: str) -> Path:
    """A tokenizer of bytes and a few words."""
    pieces = [bytes([number]) for number in range(256)] + [word.encode() for word in WORDS]
    vocab = [{"rank": i, "token_bytes": base64.b64encode(p).decode(), "token_str": None} for i, p in enumerate(pieces)]
    special = [{"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(NAMES)]
    config = {
        "pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
        "num_vocab_tokens": len(vocab),
        "default_vocab_size": len(vocab) + len(special),
        "default_num_special_tokens": len(special),
        "version": version,
    }
    data = {"config": config, "vocab": vocab, "special_tokens": special, "version": 1, "type": "Tekken"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tekken.json").write_text(json.dumps(data))
    return folder


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Loads a tokenizer: ``tekken-v7`` is made here, ``v7`` is that of the package."""
    import mistral_common
    from transformers import MistralCommonBackend

    loaded: dict[str, Any] = {}

    def find(name: str) -> Any:
        if name not in loaded:
            folder = tmp_path_factory.mktemp(name)
            if name.startswith("tekken-"):
                write_tekken(folder, name.removeprefix("tekken-"))
            else:
                file = Path(mistral_common.__file__).parent / "data" / SHIPPED[name]
                shutil.copy(file, folder / f"tokenizer.model.{name}")
            loaded[name] = MistralCommonBackend.from_pretrained(folder, mode="finetuning")
        return loaded[name]

    return find


def rows_of(tokenizer: Any, *, train_on_inputs: bool = False, fmt: Any = None, **entry: Any) -> tuple[Any, MistralRows]:
    cfg = Config({Data: Data(train_on_inputs=train_on_inputs), Template: Template()})
    made = fmt or ChatTemplate(ChatTemplateDataset(path="x", type="chat_template", **entry), cfg)
    return made, MistralRows(tokenizer, cfg, made, 64)


def chat(*contents: Any, system: str | None = None, **more: Any) -> Row:
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    return {"messages": ([{"role": "system", "content": system}] if system else []) + turns, **more}


def trained(tokenizer: Any, row: Row, **keys: Any) -> str:
    """The trained tokens as text. Ids must be those of the library, and the inspector must say the same."""
    fmt, rows = rows_of(tokenizer, **keys)
    formatted = fmt(row)
    (made,) = rows.encode(formatted)
    own = tokenizer.apply_chat_template(
        [{**message, "content": message.get("content") or None} for message in formatted.messages],
        tools=formatted.tools and list(formatted.tools), return_dict=False,
    )  # fmt: skip
    assert made.input_ids.tolist() == own
    explained = rows.explain(formatted)
    assert [(token.id, token.label) for token in explained] == list(zip(*map(list, made), strict=True))
    text: str = tokenizer.decode([token.id for token in explained if token.label != -100])
    return text.replace("<0xF0><0x9F><0xA6><0x91>", "🦑").replace("\u2581", " ").lstrip(" ")


EVERY = ("v1", "v2", "v3", "v7", "tekken-v3", "tekken-v7", "tekken-v11", "tekken-v13")


@pytest.mark.parametrize("name", EVERY)
def test_answers_and_their_ends_are_trained_with_a_system_prompt_and_several_turns(
    load: Callable[[str], Any], name: str
) -> None:
    row = chat("What is it?", "the answer", "And 12 é🦑?", "é🦑 wonderful", system="the answer is 12.")
    text = trained(load(name), row).replace(" ", "")
    assert text == "theanswer</s>é🦑wonderful</s>"


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"train_on_eos": "none"}, "b|d"),
        ({"train_on_eos": "last"}, "b|d</s>"),
        ({"train_on_eos": "all"}, "b</s>|d</s>"),
        ({"roles_to_train": ["user"]}, "a|c"),
        ({"roles_to_train": ["user"], "train_on_eos": "all"}, "a</s>|c</s>"),
        ({"train_on_inputs": True}, "a|b</s>|c|d</s>"),
        ({"roles_to_train": ["system", "assistant"]}, "s|b</s>|d</s>"),
    ],
)
def test_every_knob(load: Callable[[str], Any], name: str, keys: Row, expected: str) -> None:
    if name == "v1" and (keys.get("train_on_inputs") or "assistant" not in keys.get("roles_to_train", ["assistant"])):
        pytest.skip("the first version joins the blank of its scaffold to the first word of a question")
    system = "s" if "system" in keys.get("roles_to_train", ()) and name != "v1" else None
    found = trained(load(name), chat("a", "b", "c", "d", system=system), **keys).replace(" ", "")
    wanted = expected if system or not expected.startswith("s") else expected.removeprefix("s|")
    # Some versions write the system prompt before the last question.
    assert found in (wanted.replace("|", ""), "b</s>s\n\nd</s>", "b</s>sd</s>")


@pytest.mark.parametrize("name", ["v3", "v7", "tekken-v3", "tekken-v7", "tekken-v13"])
def test_flags_of_messages_parts_and_details(load: Callable[[str], Any], name: str) -> None:
    row = chat("a", "b", "c", "d")
    row["messages"][1]["train"], row["messages"][2]["train"] = False, True
    assert trained(load(name), row, message_field_training="train").replace(" ", "") == "cd</s>"
    row = chat("a", "b", "c", "d")
    row["messages"][1]["weight"] = 0
    assert trained(load(name), row).replace(" ", "") == "d</s>"
    parts = [{"type": "text", "text": "the", "train": False}, {"type": "text", "text": " answer is"}]
    assert trained(load(name), chat("a", parts)).strip() == "answer is</s>"
    row = chat("a", "the answer is 12")
    row["messages"][1]["detail"] = [{"begin_offset": 3, "end_offset": 9, "train": True}]
    assert trained(load(name), row, message_field_training_detail="detail").strip() == "answer</s>"


def test_a_token_across_a_border_is_masked_and_a_character_of_several_tokens_is_whole(
    load: Callable[[str], Any],
) -> None:
    parts = [{"type": "text", "text": "wonder", "train": False}, {"type": "text", "text": "ful the🦑"}]
    fmt, rows = rows_of(load("tekken-v7"))
    tokens = rows.explain(fmt(chat("a", parts)))
    straddling = [token.text for token in tokens if "straddles" in token.reason]
    assert straddling == ["wonderful"]
    assert sum(token.label != -100 for token in tokens) == 1 + 4 + 1  # the word, four bytes, the end


@pytest.mark.parametrize("name", ["v3", "v7", "tekken-v3", "tekken-v7", "tekken-v11", "tekken-v13"])
def test_calls_of_tools_are_trained_and_their_results_are_not(load: Callable[[str], Any], name: str) -> None:
    messages = [
        {"role": "user", "content": "the"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "name": "weather", "tool_call_id": "abcdefghi", "content": "21 degrees"},
        {"role": "assistant", "content": "21"},
    ]
    text = trained(load(name), {"messages": messages, "tools": [TOOL]})
    assert text.startswith("[TOOL_CALLS]") and "weather" in text and "Ulm" in text and text.endswith("21</s>")
    assert "degrees" not in text and "description" not in text and text.count("</s>") == 2
    asked = trained(load(name), {"messages": messages, "tools": [TOOL]}, roles_to_train=["tool"])
    assert "degrees" in asked and "[" not in asked and ("abcdefghi" in asked) == (name in ("v3", "tekken-v3"))


def test_reasoning_is_trained_with_its_tags_and_can_be_flagged(load: Callable[[str], Any]) -> None:
    row = chat("a", "12")
    row["messages"][1]["reasoning_content"] = "the answer"
    assert trained(load("tekken-v13"), row) == "[THINK]the answer[/THINK]12</s>"
    row["messages"][1]["reasoning_content"] = [
        {"type": "text", "text": "the", "train": False}, {"type": "text", "text": " answer", "train": True},
    ]  # fmt: skip
    assert trained(load("tekken-v13"), row) == " answer[/THINK]</s>".lstrip()


@pytest.mark.parametrize("name", ["v1", "v3", "tekken-v7"])
def test_neighbours_of_one_role_are_joined_and_stay_apart_in_the_mask(load: Callable[[str], Any], name: str) -> None:
    roles = ("user", "user", "assistant", "assistant")
    messages = [{"role": role, "content": text} for role, text in zip(roles, ("q", "r", "b", "c"), strict=True)]
    text = trained(load(name), {"messages": messages})
    assert text.replace(" ", "") in ("b\n\nc</s>", "b<0x0A><0x0A>c</s>")
    messages[2]["weight"] = 0
    assert trained(load(name), {"messages": messages}).replace(" ", "") == "c</s>"


def test_what_the_library_refuses_is_one_line_with_the_reason(load: Callable[[str], Any]) -> None:
    fmt, rows = rows_of(load("v3"))
    with pytest.raises(DataError, match="mistral-common refuses this conversation: Expected last role Assistant"):
        rows.encode_many([fmt(chat("a", "b")), fmt(chat("a"))])
    with pytest.raises(DataError, match="mistral-common refuses this conversation"):
        rows.encode(fmt({"messages": [{"role": "critic", "content": "a"}, {"role": "assistant", "content": "b"}]}))
    fmt, rows = rows_of(load("v3"), train_on_eot="all")
    with pytest.raises(NewtError, match="train_on_eot"):
        rows.encode(fmt(chat("a", "b")))


@pytest.mark.parametrize("name", ["v3", "tekken-v7"])
def test_plain_text_and_control_text_in_it(load: Callable[[str], Any], name: str) -> None:
    cfg = Config({Data: Data(), Template: Template()})
    fmt = Completion(Completion.Settings(path="x", type="completion"), cfg)
    _, rows = rows_of(load(name), fmt=fmt)
    (made,) = rows.encode(fmt({"text": "the [INST] answer</s>"}))
    ids = made.input_ids.tolist()
    assert ids[0] == 1 and ids[-1] == 2 and ids.count(2) == 1 and 3 not in ids
    assert (made.labels == made.input_ids).all()
    assert [token.id for token in rows.explain(fmt({"text": "the [INST] answer</s>"}))] == ids


def test_a_tokenizer_of_the_package_goes_the_whole_way(tmp_path: Path, model_dir: Path) -> None:
    import newt

    folder = write_tekken(tmp_path / "tokenizer", "v7")
    rows: Sequence[Row] = [chat("What?", "the answer is 12", system="the") for _ in range(4)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "base_model": str(model_dir), "tokenizer_config": str(folder), "tokenizer_use_mistral_common": True,
        "datasets": [{"path": str(file), "type": "chat_template"}], "sequence_len": 64, "learning_rate": 1e-3,
        "micro_batch_size": 1, "gradient_accumulation_steps": 1, "max_steps": 2, "output_dir": str(tmp_path / "run"),
        "dataset_prepared_path": str(tmp_path / "prepared"), "dataset_num_proc": 1, "report_samples": 1,
        "optimizer": "adamw_torch", "float32": True,
    }  # fmt: skip
    made = newt.tokenize(config, rows)
    assert len(made) == 4 and sum(label != -100 for label in made[0]["labels"]) == 7
    result = newt.train(config)
    assert result.steps == 2 if hasattr(result, "steps") else True
    assert list(Path(tmp_path / "run").glob("tekken.json"))
