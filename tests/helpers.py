"""Small makers that many tests need."""

from __future__ import annotations

from typing import Any

from newt.config.load import load
from newt.config.section import Config
from newt.extend import Facts
from newt.registry import sections
from newt.run import EntryType, Run

MINIMAL: dict[str, Any] = {
    "base_model": "some/model",
    "datasets": [{"path": "rows.jsonl", "type": "chat_template"}],
    "learning_rate": 1e-3,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
}


def make_config(**keys: Any) -> Config:
    """A config of the minimal keys and those given; None removes a key."""
    mapping = {key: value for key, value in {**MINIMAL, **keys}.items() if value is not None}
    loaded = load(mapping, (), sections=sections(), entry_type=EntryType())
    assert loaded.config is not None
    assert not loaded.problems, [str(problem) for problem in loaded.problems]
    return loaded.config


def make_run(facts: Facts = Facts(), **keys: Any) -> Run:  # noqa: B008
    """A run of such a config."""
    return Run(make_config(**keys), facts)


def messages(facts: Facts = Facts(), **keys: Any) -> list[str]:  # noqa: B008
    """The texts of all problems that the parts report."""
    return [str(problem) for problem in make_run(facts, **keys).problems()]


def complaints(facts: Facts = Facts(), **keys: Any) -> list[str]:  # noqa: B008
    """The texts of all problems, without those that only say that a key is not supported yet."""
    return [str(problem) for problem in make_run(facts, **keys).problems() if problem.kind != "unsupported"]


def unsupported(**keys: Any) -> set[str]:
    """The keys that are answered with "not supported yet"."""
    return {problem.keys[0] for problem in make_run(**keys).problems() if problem.kind == "unsupported"}
