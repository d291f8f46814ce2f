"""Parts, ownership of keys, and what a config selects."""

from collections import Counter

from tests.helpers import make_run, messages

from newt.config.core import Dataset
from newt.extend import Facts
from newt.registry import sections
from newt.run import EntryType, Run


def test_every_key_has_one_owner():
    count = Counter(key for section in sections() for key in section.model_fields)
    assert [key for key, owners in count.items() if owners > 1] == []


def test_a_run_selects_what_the_config_asks_for():
    run = make_run(Facts(model={"model_type": "llama"}), sample_packing=True)
    names = [part.name for part in run.parts]
    assert names[0] == "sft"
    assert "packing" in names
    assert "lora" not in names
    assert run.family is not None


def test_a_key_of_a_feature_that_is_off_is_reported():
    assert messages(lora_alpha=16) == ["lora_alpha: has no effect: adapter is not set. Remove it, or switch it on."]


def test_missing_columns_list_those_found():
    facts = Facts(known=True, columns={"datasets.0": ("conversations", "id")})
    (message,) = messages(facts)
    assert "no column 'messages'; they have: conversations, id." in message


def test_unknown_and_coming_dataset_types():
    choose = EntryType()
    assert "Did you mean alpaca?" in choose({"path": "x", "type": "alpacca"})
    assert choose({"path": "x"}) is Dataset  # its rows must be tokens already
    assert choose({"path": "x", "type": "kd.chat_template"}).is_coming("type")
    assert "field_messages: conversations" in choose({"path": "x", "type": "sharegpt"})


def test_two_parts_that_fill_one_slot_are_a_problem_not_a_crash():
    run = make_run()

    class Rival(type(run.method)):
        name = "rival"

    run.features = (*run.features, Rival(run.cfg))
    assert any("sft and rival both want to be the loss" in str(problem) for problem in Run.problems(run))
