"""The commands, before one of them is imported."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command before it is imported.

    Attributes:
        module: the module of ``newt.commands`` that defines it as ``command``.
        group: heading in ``newt --help``.
        help: its line there.
    """

    module: str
    group: str
    help: str


COMMANDS: dict[str, Entry] = {
    "check": Entry("check", "Before training", "Say everything that is wrong with a config."),
    "config-explain": Entry("config_explain", "Before training", "Say where the value of every key comes from."),
    "inspect": Entry("inspect", "Before training", "Show which tokens will be trained, and why."),
    "preprocess": Entry("preprocess", "Before training", "Tokenize the data into the cache, with a summary."),
    "plot-schedule": Entry("plot_schedule", "Before training", "Draw the learning rate over the steps."),
    "selftest": Entry("selftest", "Before training", "Try whether the fast paths change what is trained."),
    "train": Entry("train", "Training", "Train what the config describes."),
    "evaluate": Entry("evaluate", "After training", "Measure the trained model on the config's data."),
    "inference": Entry("inference", "After training", "Ask the trained model something."),
    "merge-lora": Entry("merge_lora", "After training", "Merge an adapter into its base model."),
    "import-gguf": Entry("import_gguf", "Tools", "Turn a GGUF file into a model folder."),
    "config-schema": Entry("config_schema", "Tools", "Print every key with its type, default and meaning."),
    "config-migrate": Entry("config_migrate", "Tools", "Give older keys of a config today's names."),
    "families": Entry("families", "Tools", "Print what was proved of each model family."),
    "fetch": Entry("fetch", "Tools", "Copy the examples, DeepSpeed configs or docs."),
    "agent-docs": Entry("agent_docs", "Tools", "Print pages for coding agents, and for people in a hurry."),
    "completion": Entry("completion", "Tools", "Print the completion script of a shell."),
}

TO_COME = {
    "quantize": "quantize the trained model",
    "vllm-serve": "serve the model for GRPO",
    "lm-eval": "run benchmarks on the trained model",
    "merge-sharded-fsdp-weights": "join the shards of an FSDP checkpoint",
    "delinearize-llama4": "fuse the experts of a Llama 4 checkpoint again",
}
"""Commands of the field that Newt does not have yet, with what they do."""
