"""Older spellings give the same config as today's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.config.config_parts import ALL

from newt.config.load import Loaded, owners
from newt.config.pending import PENDING
from newt.config.rename import MISTAKEN, REMOVED, RENAMED

Read = Callable[..., Loaded]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model_type: LlamaForCausalLM", "type_of_model: LlamaForCausalLM"),
        ("model_revision: abc", "revision_of_model: abc"),
        ("model_config: {rope_theta: 1}", "overrides_of_model_config: {rope_theta: 1}"),
        ("model_kwargs: {a: 1}", "overrides_of_model_kwargs: {a: 1}"),
    ],
)
def test_both_spellings_are_good(read: Read, old: str, new: str) -> None:
    first, second = read(old + "\n"), read(new + "\n")
    assert not first.problems
    assert not second.problems
    assert first.config is not None
    assert second.config is not None
    assert first.config.to_dict() == second.config.to_dict()
    assert first.config.given == second.config.given
    assert first.config.places == second.config.places


@pytest.mark.parametrize(
    ("text", "new", "value"),
    [
        ("dpo_beta: 0.2", "rl_beta", 0.2),
        ("evaluation_strategy: epoch", "eval_strategy", "epoch"),
        ("dataset_processes: 3", "dataset_num_proc", 3),
    ],
)
def test_an_older_name_works_with_a_warning(read: Read, text: str, new: str, value: Any) -> None:
    loaded = read(text + "\n")
    old = text.partition(":")[0]
    assert [(str(problem), problem.kind) for problem in loaded.problems] == [
        (f"c.yml:1: {old}: is now called {new}.", "warning")
    ]
    assert loaded.config is not None
    assert loaded.config.to_dict()[new] == value


def test_an_older_name_of_a_key_to_come_is_reported_once(read: Read) -> None:
    (problem,) = read("noisy_embedding_alpha: 5\n").problems
    assert str(problem) == "c.yml:1: noisy_embedding_alpha: is known, but Newt does not support it yet."
    assert problem.keys == ("noisy_embedding_alpha", "neftune_noise_alpha")


def test_a_bad_value_is_reported_under_the_name_that_was_written(read: Read) -> None:
    (problem,) = read("model_type: [a]\n").problems
    assert str(problem) == "c.yml:1: model_type: must be text, got a list."
    assert problem.keys == ("model_type", "type_of_model")


def test_two_spellings_must_agree(read: Read) -> None:
    loaded = read("type_of_model: a\nmodel_type: b\n")
    assert [str(problem) for problem in loaded.problems] == [
        "c.yml:2: model_type: is another name of type_of_model, which has another value. Keep one."
    ]
    assert not read("type_of_model: a\nmodel_type: a\n").problems
    assert not read("type_of_model: a\nmodel_type:\n").problems


def test_an_override_wins_over_the_older_spelling_of_the_file(read: Read) -> None:
    loaded = read("model_type: a\n", ["type_of_model=b"])
    assert not loaded.problems
    assert loaded.config is not None
    assert loaded.config.to_dict()["type_of_model"] == "b"


def test_the_tables_name_real_keys() -> None:
    known = {*owners(ALL), *PENDING}
    assert {rule.new for rule in RENAMED.values()} <= known
    assert not set(REMOVED) & known
    assert not set(MISTAKEN) & known


def test_an_older_name_that_gives_way_is_ignored_with_a_warning(read: Read) -> None:
    loaded = read("dataset_processes: 3\ndataset_num_proc: 2\n")
    (problem,) = [one for one in loaded.problems if "ignored" in one.message]
    assert str(problem) == "c.yml:1: dataset_processes: is ignored: dataset_num_proc is given. Remove it."
    assert problem.kind == "warning"
    assert loaded.config is not None
    assert loaded.config.value("dataset_num_proc") == 2
