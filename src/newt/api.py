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
    path_or_mapping: Source,
    rows: Iterable[Mapping[str, Any]],
    dataset: int | Mapping[str, Any] = 0,
    *,
    overrides: Overrides = (),
    evaluation: bool = False,
) -> list[dict[str, list[int]]]:
    """Token rows that the config makes of raw rows: formatted, tokenized, masked, cut or dropped.

    They are not packed and not shuffled. The datasets of the config need not exist: ``rows`` stand for them. With an
    entry of one's own a mapping needs little else::

        newt.tokenize({"base_model": "Qwen/Qwen3-0.6B"}, rows, {"type": "alpaca"})

    Args:
        path_or_mapping: the config.
        rows: raw rows, as they stand in the dataset.
        dataset: number of the entry of ``datasets`` whose format reads them, or such an entry.
        overrides: dotted keys that replace those of the config.
        evaluation: an entry of ``test_datasets``, whose rows may have another length.

    Returns:
        One mapping for each output row: ``input_ids`` and ``labels`` (-100: not trained), lists of int.

    Raises:
        ConfigError: with all problems of the config.
        DataError: names the row that cannot be used.
        IndexError: there is no such entry.
    """
    from newt.commands.steps import open_tokenizer
    from newt.data.look import tokenize_rows

    if isinstance(dataset, Mapping):
        key = "test_datasets" if evaluation else "datasets"
        overrides = {**_as_mapping(overrides), key: [{"path": "rows", **dataset}]}
        if isinstance(path_or_mapping, Mapping):
            path_or_mapping = {**_TO_TOKENIZE, **path_or_mapping}
        dataset = 0
    run = open_run(path_or_mapping, overrides, data=False)
    return tokenize_rows(run.data_plan(), open_tokenizer(run), rows, dataset, evaluation=evaluation)


_TO_TOKENIZE = {"learning_rate": 1e-4, "micro_batch_size": 1, "gradient_accumulation_steps": 1,
                "datasets": [{"path": "rows", "type": "chat_template"}]}  # fmt: skip
"""Keys that a config must have, and that do not matter to token rows."""


def _as_mapping(overrides: Overrides) -> dict[str, Any]:
    if isinstance(overrides, Mapping):
        return dict(overrides)
    return {key: value for key, _, value in (text.partition("=") for text in overrides)}


def pack(
    lengths: Sequence[int],
    capacity: int,
    *,
    max_per_bin: int | None = None,
    sequentially: bool = False,
    seed: int = 0,
) -> list[list[int]]:
    """Pack rows of the given lengths into bins: for each bin, the numbers of its rows.

    Args:
        lengths: tokens of each row.
        capacity: tokens of a bin.
        max_per_bin: rows of a bin at most (``sample_packing_bin_size``).
        sequentially: keep the order of the rows (``sample_packing_sequentially``) instead of the best fit over all
            rows, the longest first.
        seed: decides which of several rows of one length goes where.

    Raises:
        ValueError: a row is longer than ``capacity``, or empty.
    """
    import numpy as np

    from newt.data.pack import best_fit_decreasing, sequential

    numbers = np.asarray(lengths, dtype=np.int32)
    if sequentially:
        order, offsets = sequential(numbers, capacity, max_per_bin)
    else:
        order, offsets = best_fit_decreasing(numbers, capacity, seed, max_per_bin)
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

    return command.merge(open_run(config, overrides, data=False))  # type: ignore[no-any-return]


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
    unknown = [name for name in sampling if name not in settings]
    if unknown:
        raise TypeError(f"generate() has no setting {unknown[0]!r}. It has: {', '.join(settings)}")
    chat = Chat(open_run(config, data=False), base=base, raw=False, sampling={**settings, **sampling})
    return ["".join(chat.answer(prompt)) for prompt in prompts]


__all__ = ["Config", "ConfigError", "Problem", "check", "evaluate", "generate", "load_config", "merge_lora", "pack",
           "tokenize", "train"]  # fmt: skip
