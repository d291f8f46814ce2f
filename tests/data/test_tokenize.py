from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.tokenize import IGNORED, RowError, RowTokenizer
from newt.extend import Conversation, Segment, Text, Tokens, Turn
from newt.formats.chat_template import ChatTemplate, ChatTemplateDataset
from newt.support.errors import DataError, NewtError

PIECES = [
    *(" ", "\n", "\n\n", "  ", "\t", "\r\n", "hello", "world!", "'s", "12345", "assistant", "user\n"),
    *("é", "e\u0301", "\u0301", "🦑", "👩🏽‍🚀", "数", "مرحبا"),
    *("<|im_end|>", "<|im_start|>assistant\n", "<|eot_id|>", "<|start_header_id|>", "<|endoftext|>", "<|im_", "end|>"),
    *("<end_of_turn>\n", "<start_of_turn>model\n", "</s>"),
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)
SYSTEM = st.none() | TEXT
Pieces = list[tuple[str, bool]]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def loaded(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def row_tokenizer(folder: Path, limit: int = 4096, **template: Any) -> RowTokenizer:
    cfg = Config({Data: Data(), Template: Template(**template)})
    fmt = ChatTemplate(ChatTemplateDataset(path="rows.jsonl", type="chat_template"), cfg)
    return RowTokenizer(loaded(folder), cfg, fmt, limit)


def messages_of(pairs: Sequence[tuple[str, str]], system: str | None) -> list[dict[str, Any]]:
    head = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    return head + [{"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True)]


def conversation(messages: Sequence[dict[str, Any]], **more: Any) -> Conversation:
    return Conversation(messages, [Turn(m["role"] == "assistant") for m in messages], **more)


def expected_labels(tokenizer: Any, text: str, pieces: Pieces) -> list[int]:
    """Labels by the definition: a token is trained if all of its characters are."""
    assert "".join(piece for piece, _ in pieces) == text
    train = [flag for piece, flag in pieces for _ in piece]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return [
        id_ if all(train[b:e]) else IGNORED
        for id_, (b, e) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def compare(rows: RowTokenizer, messages: list[dict[str, Any]], pieces: Pieces, **more: Any) -> None:
    tokenizer = rows.tokenizer
    [row] = rows.encode(conversation(messages, **more))
    assert row.input_ids.dtype == row.labels.dtype == np.int32
    assert row.input_ids.tolist() == tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **more)
    text = tokenizer.apply_chat_template(messages, tokenize=False, **more)
    assert row.labels.tolist() == expected_labels(tokenizer, text, pieces)


def chatml(messages: list[dict[str, Any]]) -> Pieces:
    pieces: Pieces = []
    for message in messages:
        pieces += [(f"<|im_start|>{message['role']}\n", False)]
        pieces += [(message["content"] + "<|im_end|>", message["role"] == "assistant"), ("\n", False)]
    return pieces


def llama3(messages: list[dict[str, Any]]) -> Pieces:
    pieces: Pieces = [("<|begin_of_text|>", False)]
    for message in messages:
        pieces += [(f"<|start_header_id|>{message['role']}<|end_header_id|>\n\n", False)]
        pieces += [(message["content"].strip() + "<|eot_id|>", message["role"] == "assistant")]
    return pieces


def gemma3(messages: list[dict[str, Any]]) -> Pieces:
    pieces: Pieces = [("<bos>", False)]
    prefix = ""
    if messages[0]["role"] == "system":
        prefix, messages = messages[0]["content"] + "\n\n", messages[1:]
    for i, message in enumerate(messages):
        role = "model" if message["role"] == "assistant" else "user"
        pieces += [(f"<start_of_turn>{role}\n" + (prefix if i == 0 else ""), False)]
        pieces += [(message["content"].strip() + "<end_of_turn>", role == "model"), ("\n", False)]
    return pieces


def qwen3(messages: list[dict[str, Any]]) -> Pieces:
    """For conversations that end with an answer: only that one shows its reasoning."""
    pieces: Pieces = []
    for i, message in enumerate(messages):
        content = message["content"]
        if i == len(messages) - 1:
            thinking = message.get("reasoning_content", "").strip("\n")
            content = f"<think>\n{thinking}\n</think>\n\n" + content.lstrip("\n")
        pieces += [(f"<|im_start|>{message['role']}\n", False)]
        pieces += [(content + "<|im_end|>", message["role"] == "assistant"), ("\n", False)]
    return pieces


@QUICK
@given(PAIRS, SYSTEM)
def test_chatml(tokenizer_dir: Path, pairs: list[tuple[str, str]], system: str | None) -> None:
    messages = messages_of(pairs, system)
    compare(row_tokenizer(tokenizer_dir), messages, chatml(messages))


@QUICK
@given(PAIRS, SYSTEM)
def test_llama3(real_tokenizer: Callable[[str], Path], pairs: list[tuple[str, str]], system: str | None) -> None:
    messages = messages_of(pairs, system)
    compare(row_tokenizer(real_tokenizer("llama3_1")), messages, llama3(messages))


@QUICK
@given(PAIRS, SYSTEM)
def test_gemma3(real_tokenizer: Callable[[str], Path], pairs: list[tuple[str, str]], system: str | None) -> None:
    messages = messages_of(pairs, system)
    compare(row_tokenizer(real_tokenizer("gemma3")), messages, gemma3(messages))


@QUICK
@given(PAIRS, SYSTEM, st.none() | TEXT)
def test_qwen3(
    real_tokenizer: Callable[[str], Path], pairs: list[tuple[str, str]], system: str | None, thinking: str | None
) -> None:
    messages = messages_of(pairs, system)
    if thinking is not None:
        messages[-1]["reasoning_content"] = thinking
    compare(row_tokenizer(real_tokenizer("qwen3")), messages, qwen3(messages))


TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]


@QUICK
@given(TEXT, TEXT, TEXT, TEXT)
def test_qwen3_tools(real_tokenizer: Callable[[str], Path], ask: str, before: str, value: str, result: str) -> None:
    import json

    call = {"type": "function", "function": {"name": "f", "arguments": {"a": value, "b": 1}}}
    messages = [
        {"role": "user", "content": ask},
        {"role": "assistant", "content": before, "tool_calls": [call, call]},
        {"role": "tool", "content": result},
        {"role": "assistant", "content": "done"},
    ]
    rows = row_tokenizer(real_tokenizer("qwen3"))
    text = rows.tokenizer.apply_chat_template(messages, tools=TOOLS, tokenize=False)
    arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    written = f'<tool_call>\n{{"name": "f", "arguments": {arguments}}}\n</tool_call>'
    first = (before + "\n" if before else "") + f"{written}\n{written}<|im_end|>"
    if ask.startswith("<tool_response>"):
        return
    last = "<think>\n\n</think>\n\ndone<|im_end|>"
    head = text[: text.rindex(first, 0, text.rindex("<tool_response>"))]
    middle = f"\n<|im_start|>user\n<tool_response>\n{result}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    compare(rows, messages, [(head, False), (first, True), (middle, False), (last, True), ("\n", False)], tools=TOOLS)


def test_many_rows_at_once_are_the_same_as_one_by_one(tokenizer_dir: Path) -> None:
    rows = row_tokenizer(tokenizer_dir)
    several = [
        conversation(messages_of([("hi", "ok")], None)),
        Text((Segment("ask ", False), Segment("say", True))),
        Tokens([1, 2, 3], [-100, 2, 3]),
        conversation(messages_of([("x", ""), ("y", "z")], "s")),
    ]
    together = rows.encode_many(several)
    for one, other in zip(together, [rows.encode(row) for row in several], strict=True):
        assert [(r.input_ids.tolist(), r.labels.tolist()) for r in one] == [
            (r.input_ids.tolist(), r.labels.tolist()) for r in other
        ]
    assert together[2][0].labels.tolist() == [-100, 2, 3]


def test_a_bad_row_of_a_batch_is_named(tokenizer_dir: Path) -> None:
    rows = row_tokenizer(tokenizer_dir, chat_template="jinja", chat_template_jinja="{{ messages[0].nothing.at }}")
    good = Text((Segment("a", True),))
    with pytest.raises(RowError, match="refuses this conversation") as caught:
        rows.encode_many([good, conversation(messages_of([("a", "b")], None))])
    assert caught.value.index == 1
    with pytest.raises(DataError, match="no messages"):
        rows.encode(Conversation([], []))


@pytest.mark.parametrize(
    ("ids", "labels", "error"),
    [([1, 2], [1], "2 entries and labels 1"), ([1.5], [1], "whole numbers"), (["1"], ["1"], "whole numbers")],
)
def test_token_rows_are_checked(tokenizer_dir: Path, ids: Any, labels: Any, error: str) -> None:
    with pytest.raises(DataError, match=error):
        row_tokenizer(tokenizer_dir).encode(Tokens(ids, labels))


def test_text_segments(real_tokenizer: Callable[[str], Path]) -> None:
    rows = row_tokenizer(real_tokenizer("llama3_1"))
    tokenizer = rows.tokenizer
    [row] = rows.encode(Text((Segment("Ask:", False, "prompt"), Segment(" say", True, "response"))))
    prompt, answer = tokenizer("Ask:")["input_ids"], tokenizer(" say", add_special_tokens=False)["input_ids"]
    assert prompt[0] == tokenizer.bos_token_id
    assert row.input_ids.tolist() == [*prompt, *answer, tokenizer.eos_token_id]
    assert row.labels.tolist() == [-100] * len(prompt) + [*answer, tokenizer.eos_token_id]
    [bare] = rows.encode(Text((Segment("a", True),), bos=False, eos=False))
    assert bare.input_ids.tolist() == tokenizer("a", add_special_tokens=False)["input_ids"]
    [ended] = rows.encode(Text((Segment("a", False), Segment("b<|eot_id|>", True))))
    assert ended.input_ids.tolist().count(tokenizer.eos_token_id) == 1
    [empty] = rows.encode(Text((Segment("a", False), Segment("", True))))
    assert empty.labels.tolist()[-1] == tokenizer.eos_token_id


def test_a_long_text_is_cut_without_loss(tokenizer_dir: Path) -> None:
    rows = row_tokenizer(tokenizer_dir, limit=16)
    text = "The quick brown fox jumps. " * 40
    pieces = rows.encode(Text((Segment(text, True),), split=True))
    assert {len(piece.input_ids) for piece in pieces[:-1]} == {16}
    joined = [id_ for piece in pieces for id_ in piece.input_ids.tolist()]
    assert joined == [*rows.tokenizer(text)["input_ids"], rows.tokenizer.eos_token_id]
    assert all((piece.input_ids == piece.labels).all() for piece in pieces)


@pytest.fixture(scope="session")
def greedy_dir(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """The small tokenizer, with a stop token that swallows the blanks after it and offsets without blanks."""
    from tokenizers import AddedToken, processors
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    tokenizer.add_special_tokens({"eos_token": AddedToken("<|end|>", rstrip=True, special=True)})
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|end|>")
    folder = tmp_path_factory.mktemp("greedy")
    tokenizer.save_pretrained(folder)
    return folder


def test_tokens_that_swallow_blanks_and_offsets_without_blanks(greedy_dir: Path) -> None:
    rows = row_tokenizer(greedy_dir)
    messages = messages_of([("u", "one two"), ("v", " x  ")], None)
    [row] = rows.encode(conversation(messages))
    text = rows.tokenizer.decode(row.labels[row.labels != IGNORED])
    assert text == "one two<|end|> x  <|end|>"
    split = Conversation(messages, [Turn(False), Turn(True, [(0, 4, False), (4, 7, True)]), Turn(False), Turn(False)])
    [row] = rows.encode(split)
    assert rows.tokenizer.decode(row.labels[row.labels != IGNORED]) == "wo<|end|>"  # " t" crosses the border


def test_eot_tokens_are_checked(tokenizer_dir: Path) -> None:
    row = conversation(messages_of([("a", "b")], None))
    absent = row_tokenizer(tokenizer_dir, eot_tokens=("<|never|>",))
    absent.encode(row)
    assert absent.notes == {"eot_tokens: the chat template never writes '<|never|>'": 1}
    several = row_tokenizer(tokenizer_dir, eot_tokens=("<|im_start|>assistant",))
    with pytest.raises(NewtError, match=r"'<\|im_start\|>assistant' is 2 tokens of this tokenizer, not one"):
        several.encode(row)


def test_the_token_with_which_the_template_ends_turns_is_trained_and_told(tokenizer_dir: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(tokenizer_dir, eos_token="<|endoftext|>").save_pretrained(tmp_path)
    rows = row_tokenizer(tmp_path)
    messages = messages_of([("a", "one"), ("b", "two")], None)
    for _ in range(2):
        [row] = rows.encode(conversation(messages))
        assert rows.tokenizer.decode(row.labels[row.labels != IGNORED]) == "one<|im_end|>two<|im_end|>"
    assert rows.notes == {"the chat template ends turns with '<|im_end|>': used as one of eot_tokens": 1}
    given = row_tokenizer(tmp_path, eot_tokens=("<|im_end|>",))
    [row] = given.encode(conversation(messages, train_on_eos="turn", train_on_eot="none"))
    assert rows.tokenizer.decode(row.labels[row.labels != IGNORED]) == "onetwo"
    assert given.notes == {}


def test_an_end_that_is_no_token_is_told(tokenizer_dir: Path) -> None:
    rows = row_tokenizer(tokenizer_dir, chat_template="phi_35")
    rows.encode(conversation(messages_of([("a", "one")], None)))
    [note] = rows.notes
    assert re.match(
        r"the chat template ends a turn with '<\|end\|>', not .*: it is \d tokens .* add it under tokens", note
    )


@pytest.mark.parametrize("eot", [None, ("<|im_end|>",)])
def test_two_policies_for_one_token_are_refused(tokenizer_dir: Path, eot: tuple[str, ...] | None) -> None:
    row = conversation(messages_of([("a", "b")], None), train_on_eos="turn", train_on_eot="none")
    with pytest.raises(NewtError, match="train_on_eos: turn and train_on_eot: none disagree"):
        row_tokenizer(tokenizer_dir, eot_tokens=eot).encode(row)


def test_notes_are_counted(tokenizer_dir: Path) -> None:
    rows = row_tokenizer(
        tokenizer_dir, chat_template="jinja", chat_template_jinja="{% for m in messages %}{{ m.content }} {% endfor %}"
    )
    row = conversation(messages_of([("a", "b")], None), train_on_eos="none", train_on_eot="none")
    rows.encode_many([row] * 3)
    assert rows.notes == {
        "trained turn without a stop token": 3,
        "the chat template ends turns with no token: list the tokens that end them in eot_tokens": 1,
    }


def test_an_answer_without_a_stop_token_is_refused(tokenizer_dir: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}{{ eos_token if loop.index0 in ends else '' }}{% endfor %}"
    rows = row_tokenizer(tokenizer_dir, chat_template="jinja", chat_template_jinja=template)
    messages = messages_of([("a", "b"), ("c", "d")], None)
    with pytest.raises(RowError, match="writes no stop token behind the last answer") as caught:
        rows.encode_many(
            [conversation(messages, template_kwargs={"ends": [3]})] * 2
            + [conversation(messages, template_kwargs={"ends": [1]})]
        )
    assert caught.value.index == 2
    open_end = messages[:3]  # the last turn asks: nothing is missing
    rows.encode(conversation(open_end, template_kwargs={"ends": [1]}))


def test_the_inspector_explains_every_token(tokenizer_dir: Path) -> None:
    rows = row_tokenizer(tokenizer_dir)
    row = conversation(messages_of([("hi", "\nok 🦑")], None))
    told = rows.explain(row)
    [encoded] = rows.encode(row)
    assert [token.id for token in told] == encoded.input_ids.tolist()
    assert [token.label for token in told] == encoded.labels.tolist()
    reasons = [reason for reason, after in pairwise([*[t.reason for t in told], ""]) if reason != after]
    assert reasons[-3:] == ["assistant content", "stop token", "template text"]
    assert "user turn: not trained" in reasons
    turns = [Turn(False), Turn(True, [(0, 4, False), (4, 7, True)])]
    cut = rows.explain(Conversation(messages_of([("hi", "one two")], None), turns))
    assert [(t.text, t.label) for t in cut if t.reason.startswith("straddles")] == [(" t", IGNORED)]
    response = rows.explain(Text((Segment("a", False, "prompt"), Segment("b", True, "response"))))
    assert [(t.text, t.reason) for t in response] == [("a", "prompt"), ("b", "response"), ("<|im_end|>", "end token")]
    assert rows.explain(Tokens([5], [5]))[0].reason == "given by the row"


def test_a_slow_tokenizer_is_refused() -> None:
    cfg = Config({Data: Data(), Template: Template()})
    fmt = ChatTemplate(ChatTemplateDataset(path="x", type="chat_template"), cfg)
    with pytest.raises(NewtError, match="not a fast tokenizer"):
        RowTokenizer(object(), cfg, fmt, 8)
