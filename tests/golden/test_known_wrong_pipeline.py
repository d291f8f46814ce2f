"""Mistakes of the field with data, each of which was seen in use: here they do not happen, or stop with a reason.

A test's number is that of the mistake in a list of them. These are about packing, the pipeline and what it says.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.golden.attempts import Row, Try, chat
from tests.helpers import messages as problems_of

import newt
from newt.commands.shared import open_run
from newt.commands.steps import prepare_data
from newt.data.pack import lower_bound_l2
from newt.data.summary import render
from newt.extend import Facts
from newt.support.errors import DataError, NewtError

# --------------------------------------------------------------------------- packing


@pytest.mark.parametrize(("kind", "why"), [("mamba", "do not stay apart"), ("unheard_of", "it is not proved")])
def test_18_packing_is_refused_where_samples_would_see_each_other(kind: str, why: str) -> None:
    told = problems_of(Facts(True, model={"model_type": kind}), sample_packing=True)
    assert len(told) == 1 and told[0].startswith("sample_packing: ") and why in told[0]


def test_18_the_phi_4_template_can_be_chosen_and_llama3_needs_no_beginning_token(attempt: Try) -> None:
    assert attempt.trained(chat("a", "b"), "qwen3", chat_template="phi_4").startswith("b")
    assert attempt.trained(chat("a", "b"), "qwen3", chat_template="llama3") == "b<|eot_id|>"


@pytest.mark.parametrize("name", ["uniform", "ascending"])
def test_20_bins_are_as_few_as_best_fit_decreasing_makes_them(name: str) -> None:
    lengths = np.random.default_rng(0).integers(1, 2049, 1000)
    lengths = np.sort(lengths) if name == "ascending" else lengths
    bins = newt.pack(lengths.tolist(), 2048)
    assert len(bins) <= 1.001 * lower_bound_l2(lengths, 2048) + 1
    assert sorted(row for rows in bins for row in rows) == list(range(1000))
    assert max(sum(lengths[row] for row in rows) for rows in bins) <= 2048


def test_20_a_row_longer_than_a_bin_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        newt.pack([10, 20], 16)


# --------------------------------------------------------------------------- the pipeline


def test_21_rows_without_a_trained_token_go_with_and_without_packing(attempt: Try) -> None:
    rows = [chat("only a question"), chat("a", "b")]
    for packing in (True, False):
        made = attempt.prepare(rows, sample_packing=packing)
        assert len(made.train) == 1 and made.summary.datasets[0].nothing_to_train == 1


def test_21_duplicates_go_and_are_compared_with_the_evaluation_rows(attempt: Try) -> None:
    rows = [chat("a", "b"), chat("c", "d"), chat("a", "b")]
    held = attempt.folder / "held.jsonl"
    held.write_text(json.dumps(chat("c", "d")) + "\n")
    keys = {"test_datasets": [{"path": str(held), "type": "chat_template"}]}
    told = render(attempt.prepare(rows, **keys).summary)
    assert "leakage: 1 of 1 evaluation rows are training rows as well" in told
    assert len(attempt.prepare(rows, **keys, dataset_exact_deduplication=True).train) == 1


def test_21_the_evaluation_length_holds_for_rows_split_off(attempt: Try) -> None:
    rows = [chat("a", "b " * (1 + 10 * (i % 2))) for i in range(40)]
    made = attempt.prepare(rows, val_set_size=0.5, eval_sequence_len=20)
    assert made.eval is not None and 0 < made.eval.lengths.max() <= 20 < made.train.lengths.max()


def test_21_curriculum_keeps_the_order_of_several_datasets_too(attempt: Try) -> None:
    config = attempt.config([chat(f"Question {i}", "b") for i in range(8)], curriculum_sampling=True)
    other = attempt.folder / "other.jsonl"
    other.write_text("".join(json.dumps(chat(f"Another {i}", "b")) + "\n" for i in range(8)))
    config["datasets"].append({"path": str(other), "type": "chat_template"})
    made = prepare_data(open_run(config))[1].train
    assert [made.provenance(i) for i in range(16)] == [(d, i) for d in range(2) for i in range(8)]


def test_21_a_number_of_parts_needs_the_part() -> None:
    assert any("needs dataset_shard_idx" in text for text in problems_of(dataset_shard_num=2))


def test_23_a_dataset_without_a_trained_token_is_an_error(attempt: Try) -> None:
    with pytest.raises(NewtError, match="nothing to train: of 2 rows read, 2 have no trained token"):
        attempt.prepare([chat("a"), chat("b")])


def test_24_every_misspelled_key_is_named(attempt: Try) -> None:
    config = attempt.config([chat("a", "b")], lora_alhpa=1, sample_pakcing=True, sequence_length=8, val_set=0.1)
    config["datasets"][0] |= {"train_on_eoss": "all", "role_to_train": ["user"]}
    told = "\n".join(map(str, newt.check(config)))
    for key in ("lora_alhpa", "sample_pakcing", "sequence_length", "val_set", "train_on_eoss", "role_to_train"):
        assert f"{key}: unknown key" in told


def test_25_prepared_data_are_made_anew_when_anything_changes(attempt: Try) -> None:
    rows = [chat("a", "b"), chat("c", "d")]
    prints = [attempt.prepare(rows).fingerprint, attempt.prepare([chat("a", "b"), chat("c", "e")]).fingerprint]
    changes: list[Row] = [
        {"excess_length_strategy": "truncate"},
        {"min_sample_len": 3},
        {"tokens": ["<n>"]},
        {"seed": 1},
    ]
    prints += [attempt.prepare(rows, **change).fingerprint for change in changes]
    assert len(set(prints)) == 6
    assert attempt.prepare(rows).fingerprint == prints[0]


def test_34_a_conversation_is_rendered_once_however_many_turns_it_has(
    attempt: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    from newt.data.render import ChatRenderer

    calls: list[int] = []
    original = ChatRenderer.render

    def counted(self: Any, *args: Any, **keys: Any) -> Any:
        calls.append(1)
        return original(self, *args, **keys)

    monkeypatch.setattr(ChatRenderer, "render", counted)
    numbers = []
    for turns in (2, 8, 64):
        rows = [chat(*["x"] * turns)] * 20
        calls.clear()
        attempt.tokenize(rows, "qwen3")
        numbers.append(len(calls))
    assert max(numbers) <= min(numbers) + 2, "the template's scaffold is looked at once, and each row rendered once"


def test_35_the_packing_plan_is_made_once_and_says_how_full_it_is(
    attempt: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    from newt.data import pack

    calls: list[int] = []
    original = pack.best_fit_decreasing

    def counted(*args: Any, **keys: Any) -> Any:
        calls.append(1)
        return original(*args, **keys)

    monkeypatch.setattr(pack, "best_fit_decreasing", counted)
    summary = attempt.prepare(
        [chat("a", "b " * i) for i in range(1, 40)], sample_packing=True, sequence_len=128
    ).summary
    assert len(calls) == 1 and 0.9 < (summary.packing_efficiency or 0) <= 1


def test_36_what_a_template_leaves_out_is_told(attempt: Try) -> None:
    turns = "{{ m.role }}: {{ m.content }}{{ eos_token }}"
    template = f"{{% for m in messages if m.role in ('user', 'assistant') %}}{turns}{{% endfor %}}"
    row = {"messages": [{"role": "critic", "content": "Bad."}, *chat("a", "b")["messages"]]}
    row["messages"][2]["reasoning_content"] = "Hm."
    told = render(attempt.prepare([row], "", {"chat_template_jinja": template}).summary)
    assert "critic turn that the template leaves out" in told and "reasoning that the template leaves out" in told


def test_36_a_message_of_weight_0_is_not_trained(attempt: Try) -> None:
    row = chat("a", "wrong", "b", "right")
    row["messages"][1]["weight"], row["messages"][3]["weight"] = 0, 1
    assert attempt.trained(row) == "right<|im_end|>"
    row["messages"][1]["weight"] = 0.5
    with pytest.raises(DataError, match=r"row 0: message 1 \(assistant\): weight must be 0 or 1, it is 0.5"):
        attempt.tokenize([row])


def test_37_rows_that_are_dropped_are_counted_where_everyone_looks(attempt: Try) -> None:
    rows = [chat("a", "b")] + [chat("a", "b " * 80) for _ in range(3)]
    told = render(attempt.prepare(rows, sequence_len=32).summary)
    assert "dropped 3 longer than the limit" in told and "3 (75.0%)" in told


def test_38_a_row_that_the_template_refuses_is_named(attempt: Try) -> None:
    rows = [chat("a", "b"), chat("a", "b"), {"messages": [{"role": "assistant", "content": "a"}] * 2}]
    with pytest.raises(DataError, match=r"rows.jsonl: row 2 \(line 3\): the chat template refuses this conversation"):
        attempt.prepare(rows, "gemma3")
