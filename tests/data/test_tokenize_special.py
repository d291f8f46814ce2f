"""Special tokens in what rows say, the default system message, and the same rows with the faster tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.helpers import make_config

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.tokenize import IGNORED, RowTokenizer
from newt.extend import Conversation, Segment, Text, Turn
from newt.formats.chat_template import ChatTemplate, ChatTemplateDataset
from newt.rows import filled

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PLAIN = st.lists(
    st.sampled_from([" ", "\n", "hello", "é", "e\u0301", "🦑", "assistant", "user\n", "  x", "1"]), max_size=5
).map("".join)
SAID = ["<|im_end|>", "<|im_start|>assistant\n", "<|eot_id|>", "<|start_header_id|>", "<end_of_turn>", "</s>", "<bos>"]
LOUD = st.lists(st.sampled_from([*SAID, " ", "hi", "é", "<|im_", "end|>"]), max_size=5).map("".join)
NAMES = ("qwen3", "llama3_1", "gemma3", "llama2")


@cache
def load(folder: Path, fast: bool = False) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@cache
def rows_of(folder: Path, split: bool = False, fast: bool = False, **template: Any) -> RowTokenizer:
    cfg = Config({Data: Data(split_special_tokens=split), Template: Template(**template)})
    fmt = ChatTemplate(ChatTemplateDataset(path="rows.jsonl", type="chat_template"), cfg)
    rows = RowTokenizer(load(folder, fast), cfg, fmt, 4096)
    if fast and not rows.texts.is_fast:
        rows.texts.speed_up([])
    return rows


def settings_of(name: str) -> dict[str, Any]:
    return {"chat_template": "mistral_v1"} if name == "llama2" else {}


def talk(*texts: str, **more: Any) -> Conversation:
    messages = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]
    return Conversation(messages, [Turn(bool(i % 2)) for i in range(len(texts))], **more)


def lists(found: Sequence[Sequence[Any]]) -> list[Any]:
    return [[(row.input_ids.tolist(), row.labels.tolist()) for row in rows] for rows in found]


@pytest.mark.parametrize("name", ["qwen3", "llama3_1", "gemma3"])
def test_the_faster_tokenizer_changes_nothing(real_tokenizer: Callable[[str], Path], name: str) -> None:
    pytest.importorskip("fastokens")
    folder = real_tokenizer(name)
    sides = {split: (rows_of(folder, split), rows_of(folder, split, True)) for split in (False, True)}
    assert all(fast.texts.is_fast for _, fast in sides.values())

    @settings(QUICK, max_examples=6 if name == "gemma3" else 20)  # its vocabulary is slow
    @given(st.lists(st.tuples(LOUD, LOUD), min_size=1, max_size=3), LOUD)
    def check(pairs: list[tuple[str, str]], text: str) -> None:
        for plain, fast in sides.values():
            rows = [talk(*pair) for pair in pairs] + [Text((Segment(text, False), Segment("answer", True)))]
            assert lists(fast.encode_many(rows)) == lists(plain.encode_many(rows))
            for row in rows:
                told = fast.explain(row)
                [made] = fast.encode(row)
                assert [(t.id, t.label) for t in told] == list(
                    zip(made.input_ids.tolist(), made.labels.tolist(), strict=True)
                )

    check()


@pytest.mark.parametrize("name", NAMES)
def test_split_special_tokens(real_tokenizer: Callable[[str], Path], name: str) -> None:
    folder = real_tokenizer(name)
    split, whole = rows_of(folder, True, **settings_of(name)), rows_of(folder, **settings_of(name))
    special = set(split.tokenizer.all_special_ids)

    @QUICK
    @given(PLAIN, PLAIN, LOUD, LOUD)
    def check(ask: str, answer: str, loud: str, reply: str) -> None:
        calm = talk(ask, answer)
        assert lists([split.encode(calm)]) == lists([whole.encode(calm)])  # nobody said a special token
        [row] = split.encode(talk(loud, reply))
        [bare] = split.encode(talk("x", "y"))
        # As many special tokens as the template writes, and the text is the same.
        count = [sum(id_ in special for id_ in each.input_ids.tolist()) for each in (row, bare)]
        assert count[0] == count[1], (loud, reply)
        read = split.tokenizer.apply_chat_template(talk(loud, reply).messages, tokenize=False, **template_of(split))
        decoded = split.tokenizer.decode(row.input_ids, clean_up_tokenization_spaces=False)
        if name == "llama3_1":
            assert decoded == read

    check()


def template_of(rows: RowTokenizer) -> dict[str, Any]:
    return {"chat_template": rows._chat._masker.renderer.template}


def test_split_labels_are_exact(tokenizer_dir: Path) -> None:
    rows = rows_of(tokenizer_dir, True)
    [row] = rows.encode(talk("a<|im_end|>", "b<|im_end|>c"))
    end = rows.tokenizer.eos_token_id
    ids, labels = row.input_ids.tolist(), row.labels.tolist()
    assert ids.count(end) == 2
    trained = [label for label in labels if label != IGNORED]
    assert rows.tokenizer.decode(trained) == "b<|im_end|>c<|im_end|>"
    assert trained.count(end) == 1


TOOL = [{"type": "function", "function": {"name": "f", "description": "<|im_end|>", "parameters": {"type": "object"}}}]


def test_text_of_tools_and_calls_is_split_too(real_tokenizer: Callable[[str], Path]) -> None:
    rows = rows_of(real_tokenizer("qwen3"), True)
    call = {"function": {"name": "f", "arguments": {"a": "<|im_start|>"}}}
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    made = {}
    for tools, shown in ((TOOL, call), (json.loads(json.dumps(TOOL).replace("<|im_end|>", "d")), None)):
        if shown is None:
            messages[1]["tool_calls"] = [{"function": {"name": "f", "arguments": {"a": "d"}}}]
        [row] = rows.encode(Conversation(messages, [Turn(False), Turn(True)], tools))
        made[shown is None] = [row.input_ids.tolist().count(rows.tokenizer.convert_tokens_to_ids(t)) for t in SAID[:1]]
        text = rows.tokenizer.decode(row.labels[row.labels != IGNORED])
        assert text.endswith("</tool_call><|im_end|>")
    assert made[False] == made[True]


def test_special_tokens_that_a_format_writes_stay_special(tokenizer_dir: Path) -> None:
    rows = rows_of(tokenizer_dir, True)
    text, fields = filled("<|im_start|>{ask}<|im_end|>\n", ask="a<|im_end|>")
    end = rows.tokenizer.eos_token_id
    [row] = rows.encode(Text((Segment(text, False, fields=fields), Segment("b<|im_end|>", True))))
    assert row.input_ids.tolist().count(end) == 2  # that of the format, and the end of the row
    [joined] = rows.encode(Text((Segment(text, False, fields=fields), Segment("b<|im_end|>", True)), joined=True))
    assert joined.input_ids.tolist().count(end) == 2
    assert rows.tokenizer.decode(joined.labels[joined.labels != IGNORED]) == "b<|im_end|><|im_end|>"


def test_rows_that_say_special_tokens_are_named(tokenizer_dir: Path) -> None:
    rows = rows_of(tokenizer_dir)
    rows.encode_many([talk("a", "b"), talk("x<|im_end|>", "y"), talk("<|im_end|><|im_start|>", "y")])
    assert rows.control_rows == {"<|im_end|>": [1, 2], "<|im_start|>": [2]}
    rows.encode(talk("a", "b"))
    assert rows.control_rows == {}


# ---------------------------------------------------------------------- default_system_message

AWKWARD = 'Be "kind" %} {{ x }} \\n é 🦑\nnow'


@pytest.mark.parametrize("name", ["chatml", "llama3", "qwen_25", "gemma3"])
@pytest.mark.parametrize("message", ["Be kind.", AWKWARD])
def test_default_system_message(tokenizer_dir: Path, name: str, message: str) -> None:
    plain = rows_of(tokenizer_dir, chat_template=name)
    default = rows_of(tokenizer_dir, chat_template=name, default_system_message=message)
    bare = talk("q", "a")
    turns = [Turn(False), *bare.turns]
    spelled = Conversation([{"role": "system", "content": message}, *bare.messages], turns)
    assert lists([default.encode(bare)]) == lists([plain.encode(spelled)])
    own = Conversation([{"role": "system", "content": "Own."}, *bare.messages], turns)
    assert lists([default.encode(own)]) == lists([plain.encode(own)])


def test_the_default_is_part_of_the_template_that_is_saved(tokenizer_dir: Path) -> None:
    from newt.data.template import resolve_template

    cfg = Config({Data: Data(), Template: Template(chat_template="chatml", default_system_message="Be kind.")})
    tokenizer = load(tokenizer_dir)
    entry = ChatTemplateDataset(path="x", type="chat_template")
    tokenizer.chat_template = resolve_template(entry, cfg, tokenizer)
    said = tokenizer.apply_chat_template([{"role": "user", "content": "q"}], tokenize=False, add_generation_prompt=True)
    expected = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert said.endswith(expected)
    again = Config({Data: Data(), Template: Template(default_system_message="Be kind.")})
    assert resolve_template(entry, again, tokenizer) == tokenizer.chat_template  # not twice


@pytest.mark.parametrize("split", [False, True])
def test_the_summary_names_the_tokens_and_the_first_row(tokenizer_dir: Path, tmp_path: Path, split: bool) -> None:
    from newt.data.prepare import prepare
    from newt.extend import DataPlan

    path = tmp_path / "rows.jsonl"
    said = {3: "a<|im_end|>", 600: "<|im_end|>"}  # rows of two chunks
    lines = [{"messages": talk(said.get(i, f"q{i}"), "a").messages} for i in range(700)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    cfg = make_config(
        datasets=[{"path": str(path), "type": "chat_template"}], split_special_tokens=split, dataset_num_proc=2,
        dataset_prepared_path=str(tmp_path / "prepared"),
    )  # fmt: skip
    entry = cfg[Data].datasets[0] if cfg[Data].datasets else None
    assert entry is not None
    [summary] = prepare(DataPlan(cfg, [ChatTemplate(entry, cfg)]), load(tokenizer_dir)).summary.datasets
    [(text, count)] = [item for item in summary.notes.items() if "special token" in item[0]]
    assert count == 2
    assert "'<|im_end|>'" in text
    assert text.endswith("row 3 (line 4)")
    assert ("is plain text" in text) == split
