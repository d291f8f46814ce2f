"""Which section reads a dataset entry."""

import pytest
from tests.helpers import MINIMAL, make_run, messages

from newt.config.load import load
from newt.layouts import FORMATS, format_of
from newt.registry import METHODS, sections
from newt.run import EntryType

DPO = {"rl": "dpo"}
KTO = {"rl": "kto"}
GRPO = {"rl": "grpo", "trl": {"reward_funcs": ["a.b"]}}
RM = {"reward_model": True}
PRM = {"process_reward_model": True}


def problems(entry, **keys):
    """Everything that reading the config says."""
    loaded = load({**MINIMAL, "datasets": [entry], **keys}, (), sections=sections(), entry_type=EntryType())
    return [str(problem) for problem in loaded.problems]


@pytest.mark.parametrize(
    ("kind", "keys", "name"),
    [
        ("chat_template", {}, "chat_template"),
        ("alpaca", {}, "alpaca"),
        ("alpaca:chat", {}, "alpaca"),
        ("alpaca_w_system.load_open_orca", {}, "alpaca"),
        ("gpteacher:phi", {}, "alpaca"),
        ("concisechoice:chat", {}, "context_qa"),
        ("reflection:chat", {}, "reflection"),
        ("metharme", {}, "metharme"),
        ("pygmalion.load", {}, "pygmalion"),
        ("llama2_chat", {}, "llama2_chat"),
        ("creative_acr.load_revise", {}, "creative_acr.load_answer"),
        ("messages", {}, "chat_template"),
        (None, {}, "pretokenized"),
        ("", {}, "pretokenized"),
        ("input_output", {}, "input_output"),
        ("pretrain", {}, "pretrain"),
        ("_synthetic", {}, "_synthetic"),
        ("axolotl.integrations.kd.chat_template", {}, "teacher"),
        ("my_rows.load", {}, "module"),
        ({"field_output": "answer"}, {}, "custom"),
        ("chatml", DPO, "preference"),
        ("chat_template", DPO, "preference"),
        ("chat_template.argilla", {"rl": "orpo"}, "preference"),
        ("llama3.prompt_pairs", {"rl": "simpo"}, "preference"),
        ({"field_prompt": "q"}, DPO, "preference"),
        (None, DPO, "preference"),
        ("my_rows.pairs", {"rl": "ipo"}, "preference module"),
        ("bradley_terry.llama3.icr", RM, "preference"),
        ("llama3.ultra", KTO, "unpaired"),
        ({"field_label": "good"}, KTO, "unpaired"),
        ("my_rows.rated", KTO, "unpaired module"),
        ("rewards.to_prompt", GRPO, "prompts"),
        ("stepwise_supervised", PRM, "stepwise_supervised"),
        ("completion", {"rl": "ebft", "ebft": {}}, "completion"),
    ],
)
def test_type_and_method_choose_the_format(kind, keys, name):
    (fmt,) = make_run(datasets=[{"path": "a/b", "type": kind}], **keys).formats
    assert fmt.name == name


@pytest.mark.parametrize(
    ("kind", "keys", "text"),
    [
        ("alpacca", {}, "unknown type 'alpacca'. Did you mean alpaca? Valid: chat_template, messages, alpaca, "),
        ("alpaca_chat.laod_qa", {}, "Did you mean alpaca_chat.load_qa?"),
        ("chatml.intel", {}, "chatml.intel belongs to rl: dpo or rl: ipo or"),
        ("alpaca", DPO, "alpaca belongs to supervised fine-tuning. Valid here: chatml, llama3,"),
        ("alpaca", GRPO, "alpaca belongs to supervised fine-tuning. Valid here: the dotted path of a function."),
        ("stepwise_supervised", {}, "stepwise_supervised belongs to process_reward_model: true."),
        ("chatml.intl", DPO, "unknown type 'chatml.intl'. Did you mean chatml.intel?"),
        ("sharegpt.load_x", {}, "sharegpt is now chat_template."),
        ("creative_acr", {}, "unknown type 'creative_acr'. Did you mean creative_acr.load_"),
        ("alpaca:bogus", {}, "unknown type 'alpaca:bogus'. Did you mean alpaca"),
        (None, PRM, "type is missing. Valid: stepwise_supervised."),
    ],
)
def test_other_types_are_explained(kind, keys, text):
    (message,) = problems({"path": "a/b", "type": kind}, **keys)
    assert text in message


@pytest.mark.parametrize(
    ("entry", "keys", "text"),
    [
        (
            {"type": "chatml.intel", "fild_chosen": "x"},
            DPO,
            "datasets.0.fild_chosen: unknown key. Did you mean field_ch",
        ),
        ({"type": {"field_promt": "q"}}, DPO, "datasets.0.type.field_promt: unknown key. Did you mean field_prompt?"),
        ({"type": {"field_labl": "q"}}, KTO, "datasets.0.type.field_labl: unknown key. Did you mean field_label?"),
        ({"type": {"no_input_frmat": "q"}}, {}, "datasets.0.type.no_input_frmat: unknown key. Did you mean no_input_f"),
        ({"type": "stepwise_supervised", "step_seperator": " "}, PRM, "Did you mean step_separator?"),
        ({"type": "input_output", "split_": "train"}, {}, "datasets.0.split_: unknown key. Did you mean split?"),
        ({"type": "alpaca", "step_separator": " "}, {}, "datasets.0.step_separator: has no effect with type alpaca"),
        ({"type": "_synthetic", "length": 0}, {}, "datasets.0.length: must be greater than 0, got 0."),
    ],
)
def test_keys_of_types_to_come_are_checked(entry, keys, text):
    (message,) = problems({"path": "a/b", **entry}, **keys)
    assert text in message


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"shards": 4, "preprocess_shards": 2}, "datasets.0.preprocess_shards: cannot be used with shards."),
        ({"shards_idx": 1}, "datasets.0.shards_idx: has no effect: shards is not set."),
        ({"shards": 4, "shards_idx": 4}, "datasets.0.shards_idx: must be less than shards (4)."),
        ({"name": []}, "datasets.0.name: is an empty list. Name a configuration, or remove it."),
        (
            {"type": "_synthetic", "max_input_id": 9},
            "datasets.0.max_input_id: must be greater than min_input_id (100).",
        ),
        (
            {"type": "chat_template", "message_field_role": "from"},
            "datasets.0.message_field_role: is an older spelling. Write message_property_mappings: {role: from}.",
        ),
        (
            {
                "type": "chat_template",
                "message_field_content": "value",
                "message_property_mappings": {"content": "text"},
            },
            "datasets.0.message_field_content: value contradicts message_property_mappings, which has content: text.",
        ),
    ],
)
def test_rules_within_an_entry(entry, text):
    found = messages(datasets=[{"path": "a/b", "type": "alpaca", **entry}])
    assert any(text in message for message in found), found


@pytest.mark.parametrize(
    "entry",
    [{"shards": 4, "shards_idx": 3}, {"preprocess_shards": 3}, {"weight": 0.5}, {"shards_idx": None, "name": "en"}],
)
def test_sound_entries(entry):
    found = messages(datasets=[{"path": "a/b", "type": "alpaca", **entry}])
    assert all("does not support it yet" in message for message in found)


def test_a_weight_of_evaluation_rows_is_refused():
    found = messages(test_datasets=[{"path": "a/b", "type": "alpaca", "weight": 2}])
    assert "test_datasets.0.weight: has no effect: every evaluation row is evaluated once. Remove it." in found


def test_keys_of_conversations_are_kept_for_preference_pairs():
    keys = {"field_messages": "conv", "roles": {"user": ["human"]}, "message_property_mappings": {"role": "from"}}
    entry = {"path": "a/b", "type": "chat_template.default", "name": "en", "ds_type": "json", **keys}
    assert problems(entry, **DPO) == []


def test_every_method_has_a_format_and_every_format_a_method():
    assert {fmt.rows for fmt in FORMATS} == {method.rows for method in METHODS}


def test_rows_without_a_type_need_no_type_when_they_are_not_prepared():
    assert problems({"path": "a/b"}, skip_prepare_dataset=True) == []


def test_a_value_that_is_no_name_is_read_by_nothing():
    assert format_of(5, "supervised") is None
