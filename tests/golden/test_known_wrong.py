"""Mistakes of the field with data, each of which was seen in use: here they do not happen, or stop with a reason.

A test's number is that of the mistake in a list of them. The rows are tokenized as a user would: from a config.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.golden.attempts import Try, chat, firsts

import newt
from newt.data.summary import render
from newt.support.errors import DataError

# --------------------------------------------------------------------------- silent training-data errors


@pytest.mark.parametrize("tokenizer", ["qwen3", "llama3_1", "gemma3", "llama2"])
def test_0_a_long_document_keeps_all_its_tokens(attempt: Try, tokenizer: str) -> None:
    text = " ".join(f"word{i}" for i in range(700))
    made = attempt.tokenize([{"text": text}], tokenizer, {"type": "completion"}, sequence_len=64)
    joined = [id_ for row in made for id_ in row["input_ids"]]
    assert len(made) == -(-len(joined) // 64) and max(len(row["input_ids"]) for row in made) == 64
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(attempt.find(tokenizer))
    assert joined == [*loaded(text)["input_ids"], loaded.eos_token_id]


@pytest.mark.parametrize("tokenizer", ["qwen3", "llama3_1"])
def test_0_the_windows_of_a_long_document_cover_it(attempt: Try, tokenizer: str) -> None:
    text = " ".join(f"word{i}" for i in range(700))
    texts = {"pretraining_dataset": [{"path": "rows", "type": "pretrain"}], "datasets": None, "max_steps": 1}
    made = newt.tokenize({**attempt.config([], tokenizer, sequence_len=600), **texts}, [{"text": text}])
    said = " ".join(attempt.text(row["input_ids"], tokenizer) for row in made)
    assert len(made) > 3 and all(f"word{i}" in said for i in range(700))


def test_1_without_a_seed_everything_is_the_same_again(attempt: Try) -> None:
    rows = [chat(f"Question {i}", f"Answer {i}") for i in range(20)]
    orders = [firsts(attempt.prepare(rows, dataset_prepared_path=str(attempt.folder / name)).train) for name in "ab"]
    assert orders[0] == orders[1] and len(set(orders[0])) == 20


def test_1_parts_of_a_dataset_do_not_overlap_and_lose_nothing(attempt: Try) -> None:
    rows = [chat(f"Question {i}", f"Answer {i}") for i in range(20)]
    parts = [firsts(attempt.prepare(rows, "", {"shards": 3, "shards_idx": i}).train) for i in range(3)]
    everything = firsts(attempt.prepare(rows).train)
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(everything) and len(set(everything)) == 20
    assert sorted(firsts(attempt.prepare(rows, "", {"preprocess_shards": 3}).train)) == sorted(everything)


def test_3_the_opening_think_tag_is_trained_with_the_reasoning(attempt: Try) -> None:
    row = chat("2+2?", "4")
    row["messages"][1]["reasoning_content"] = "Easy."
    assert attempt.trained(row, "qwen3") == "<think>\nEasy.\n</think>\n\n4<|im_end|>"


def test_4_an_empty_answer_trains_its_stop_token(attempt: Try) -> None:
    row = chat("a", "", "b", "c")
    assert attempt.trained(row) == "<|im_end|>c<|im_end|>"


def test_5_a_terminator_of_several_tokens_is_trained_whole_and_told(attempt: Try) -> None:
    row = chat("a", "Hi there")
    assert attempt.trained(row, "llama2", chat_template="chatml") == "Hi there<|im_end|>"
    told = render(attempt.prepare([row], "llama2", chat_template="chatml").summary)
    assert "'<|im_end|>'" in told and "tokens of this tokenizer, add it under tokens" in told


@pytest.mark.parametrize(
    "template", ["mistral_v1", "mistral_v2v3", "mistral_v3_tekken", "mistral_v7_tekken", "pixtral"]
)
def test_6_the_system_prompt_of_a_finished_conversation_is_kept(attempt: Try, template: str) -> None:
    row = chat("a", "b", "c", "d", system="Be kind to newts.")
    (made,) = attempt.tokenize([row], "llama2", chat_template=template)
    assert attempt.text(made["input_ids"], "llama2").count("Be kind to newts.") == 1


@pytest.mark.parametrize("template", ["chatml", "llama3", "llava", "metharme"])
def test_6_tools_never_vanish_without_a_word(attempt: Try, template: str) -> None:
    function = {"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": {}}}
    row = chat("a", "b", tools=[{"type": "function", "function": function}])
    try:
        made = attempt.prepare([row], "qwen3", chat_template=template)
    except DataError as error:
        assert "tools" in str(error) and "row 0" in str(error)
        return
    shown = "get_weather" in attempt.text(made.train[0]["input_ids"], "qwen3")
    assert shown or "tools that the template leaves out" in render(made.summary)


def test_9_a_list_as_answer_is_refused(attempt: Try) -> None:
    with pytest.raises(DataError, match=r"row 0: .*output"):
        attempt.tokenize([{"instruction": "a", "input": "", "output": ["b", "c"]}], "", {"type": "alpaca"})


def test_9_another_beginning_token_stands_once_and_is_not_trained(attempt: Try) -> None:
    row = {"instruction": "a", "input": "", "output": "b"}
    keys = {"special_tokens": {"bos_token": "<|reserved_special_token_0|>"}}
    (made,) = attempt.tokenize([row], "llama3_1", {"type": "alpaca"}, **keys)
    text = attempt.text(made["input_ids"], "llama3_1")
    assert text.startswith("<|reserved_special_token_0|>") and "<|begin_of_text|>" not in text
    assert attempt.trained(row, "llama3_1", {"type": "alpaca"}, **keys) in ("b<|end_of_text|>", "b<|eot_id|>")


def test_9_the_length_rule_sees_prompt_and_response_together(attempt: Try) -> None:
    row = {"instruction": "a " * 90, "input": "", "output": "b " * 90}
    keys = {"sequence_len": 120, "excess_length_strategy": "truncate"}
    (made,) = attempt.tokenize([row], "qwen3", {"type": "alpaca"}, **keys)
    assert len(made["input_ids"]) == len(made["labels"]) == 120


def test_10_llama2_chat_and_pygmalion_train_their_answers(attempt: Try) -> None:
    said = {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "Good day."}]}
    assert "Good day." in attempt.trained(said, "llama2", {"type": "llama2_chat"})
    row = {"conversations": [{"role": "human", "value": "hello"}, {"role": "bot", "value": "Good day."}]}
    keys = {"special_tokens": {"pad_token": "</s>"}}
    assert attempt.trained(row, "llama2", {"type": "pygmalion"}, **keys).endswith("Good day.</s>")


@pytest.mark.parametrize("system", [None, ""])
def test_11_a_null_system_column_is_no_system_turn(attempt: Try, system: str | None) -> None:
    with_null, without = chat("a", "b"), chat("a", "b")
    with_null["system"] = system
    with_null["messages"][0]["name"] = None
    assert attempt.tokenize([with_null]) == attempt.tokenize([without])
    (alpaca,) = attempt.tokenize(
        [{"instruction": "a", "input": None, "output": "b", "system": system}], "", {"type": "alpaca"}
    )
    assert "None" not in attempt.text(alpaca["input_ids"])


@pytest.mark.parametrize("messages", [None, [], [{"role": "user", "content": None}]])
def test_11_a_null_conversation_is_named_by_its_row(attempt: Try, messages: Any) -> None:
    with pytest.raises(DataError, match="row 1"):
        attempt.tokenize([chat("a", "b"), {"messages": messages}])


def test_12_offsets_mean_the_content_also_where_the_template_trims(attempt: Try) -> None:
    content = "  first padded last"
    begin = content.index("padded")
    row = chat("a", content)
    row["messages"][1]["detail"] = [{"begin_offset": begin - 1, "end_offset": begin + 5, "train": True}]
    entry = {"message_field_training_detail": "detail", "train_on_eos": "none"}
    assert attempt.trained(row, "llama3_1", entry).strip() == "padded"


def test_12_a_token_across_the_border_of_a_detail_is_masked(attempt: Try) -> None:
    row = chat("a", [{"type": "text", "text": "wonder", "train": False}, {"type": "text", "text": "ful day"}])
    trained = attempt.trained(row, "qwen3", {"train_on_eos": "none"})
    assert "ful day".endswith(trained) and not trained.startswith("wonder")


# --------------------------------------------------------------------------- keys that were accepted and did nothing


def test_13_keys_of_a_conversation_have_their_effect(attempt: Try) -> None:
    function = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}
    row = chat("a", "b", instruments=[{"type": "function", "function": function}], persona="Be a newt.")
    row["messages"][1]["thought"] = "Hm."
    entry = {"field_tools": "instruments", "field_system": "persona", "field_thinking": "thought"}
    (made,) = attempt.tokenize([row], "qwen3", entry)
    text = attempt.text(made["input_ids"], "qwen3")
    assert "get_weather" in text and "Be a newt." in text and "<think>\nHm.\n</think>" in text
    own = {"chat_template_jinja": "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"}
    (made,) = attempt.tokenize([chat("a", "b")], "qwen3", own)
    assert attempt.text(made["input_ids"], "qwen3") == "<user>a<|im_end|><assistant>b<|im_end|>"


def test_13_a_dataset_can_ask_for_the_tokenizers_own_template(attempt: Try) -> None:
    plain = attempt.tokenize([chat("a", "b")])
    assert (
        attempt.tokenize([chat("a", "b")], "", {"chat_template": "tokenizer_default"}, chat_template="llama3") == plain
    )
    assert attempt.tokenize([chat("a", "b")], chat_template="llama3") != plain


def test_13_the_default_system_message_is_written_or_refused(attempt: Try) -> None:
    config = attempt.config([chat("a", "b")], "qwen3", chat_template="chatml", default_system_message="Be a newt.")
    if newt.check(config):
        assert any("default_system_message" in str(problem) for problem in newt.check(config))
    else:
        (made,) = newt.tokenize(config, [chat("a", "b")])
        assert "Be a newt." in attempt.text(made["input_ids"], "qwen3")


def test_14_batch_size_gives_the_accumulation(attempt: Try) -> None:
    from newt.config.core import Batch

    cfg = newt.load_config(attempt.config([chat("a", "b")], batch_size=8, micro_batch_size=2))
    assert (cfg[Batch].accumulation, cfg[Batch].global_size(2)) == (4, 16)


def test_14_a_number_of_rows_is_a_number_and_is_drawn_from_all(attempt: Try) -> None:
    rows = [chat(f"Question {i}", f"Answer {i}") for i in range(12)]
    made = attempt.prepare(rows, val_set_size=1)
    assert (len(made.train), len(made.eval or ())) == (11, 1)
    kept = attempt.prepare(rows, val_set_size=4, shuffle_merged_datasets=False).eval
    assert kept is not None
    numbers = [kept.provenance(i)[1] for i in range(4)]
    assert numbers == sorted(set(numbers)) != [8, 9, 10, 11]
