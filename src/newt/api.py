"""Newt from Python: the same code as the commands, for notebooks and scripts.

A config is a path, a mapping, or what :func:`load_config` returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from newt.commands.shared import Overrides, Source, find_problems, open_run
from newt.config.section import Config, ConfigError, Problem

if TYPE_CHECKING:
    from newt.commands.train import TrainResult
    from newt.models.merge import MergeReport


def load_config(path_or_mapping: Source, overrides: Overrides = ()) -> Config:
    """Read and validate a config.

    Args:
        path_or_mapping: a YAML file, a folder with one, or a mapping with the same keys.
        overrides: dotted keys with values, as a mapping or as ``["lora_r=8"]``.

    Raises:
        ConfigError: with all problems.
    """
    return open_run(path_or_mapping, overrides).cfg


def check(path_or_mapping: Source, overrides: Overrides = ()) -> list[Problem]:
    """Everything that is wrong with a config, sorted by line; empty when nothing is."""
    return find_problems(path_or_mapping, overrides)[1]


def tokenize(
    path_or_mapping: Source, rows: Iterable[Mapping[str, Any]], dataset: int = 0
) -> list[dict[str, list[int]]]:
    """Token rows that the config makes of raw rows, without packing or shuffling.

    Args:
        path_or_mapping: the config.
        rows: raw rows, as they stand in the dataset.
        dataset: number of the entry of ``datasets`` whose format reads them.

    Returns:
        One mapping for each output row: ``input_ids`` and ``labels`` (-100: not trained), lists of int.

    Raises:
        DataError: names the row that cannot be used.
    """
    from newt.commands.steps import open_tokenizer
    from newt.data.look import tokenize_rows

    run = open_run(path_or_mapping)
    return tokenize_rows(run.data_plan(), open_tokenizer(run), rows, dataset)


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack rows of the given lengths into bins: for each bin, the numbers of its rows (best fit, longest first).

    Raises:
        ValueError: a row is longer than ``capacity``.
    """
    import numpy as np

    from newt.data.pack import best_fit_decreasing

    order, offsets = best_fit_decreasing(np.asarray(lengths, dtype=np.int32), capacity)
    return [order[begin:end].tolist() for begin, end in pairwise(offsets)]


def train(config: Source, overrides: Overrides = ()) -> TrainResult:
    """Train; returns where the model is, the steps, and the losses before and after."""
    from newt.commands import train as command

    return command.train(open_run(config, overrides, writes=True))


def evaluate(config: Source, overrides: Overrides = ()) -> dict[str, dict[str, float]]:
    """Loss, perplexity and token count of the trained model on ``training`` and ``validation`` data."""
    from newt.commands import evaluate as command

    return command.evaluate(open_run(config, overrides))


def merge_lora(config: Source, overrides: Overrides = ()) -> MergeReport:
    """Merge the trained adapter into the base model below ``output_dir/merged`` and verify it."""
    from newt.commands import merge_lora as command

    return command.merge(open_run(config, overrides))  # type: ignore[no-any-return]


def generate(config: Source, prompts: Sequence[str], *, base: bool = False, **sampling: Any) -> list[str]:
    """Answers of the trained model (or the base model) to prompts, each a conversation of its own.

    Args:
        config: the config.
        prompts: user messages.
        base: use the base model even if a trained one exists.
        **sampling: max_new_tokens (256), temperature (0: greedy, the default), top_p, top_k, repetition_penalty.
    """
    from newt.commands.inference import Chat

    if isinstance(prompts, str):  # a sequence too: of letters
        raise TypeError("prompts must be a list of texts, not one text")
    settings = {"max_new_tokens": 256, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
    chat = Chat(open_run(config), base=base, raw=False, sampling={**settings, **sampling})
    return ["".join(chat.answer(prompt)) for prompt in prompts]


__all__ = ["Config", "ConfigError", "Problem", "check", "evaluate", "generate", "load_config", "merge_lora", "pack",
           "tokenize", "train"]  # fmt: skip
