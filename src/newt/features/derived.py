"""Keys that other tools work out and write into a config; Newt works them out for itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import NonNegativeInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature

_NOT_FREE = {
    "device": "Set CUDA_VISIBLE_DEVICES to choose GPUs.",
    "world_size": "The launcher sets it.",
    "local_rank": "The launcher sets it.",
}


class DerivedSettings(Section):
    """Keys that a user need not write."""

    coming: ClassVar[frozenset[str]] = frozenset({"preprocess_iterable"})

    is_preprocess: bool | None = None
    """Whether the command is ``preprocess``."""
    preprocess_iterable: bool | None = None
    """Prepare a streamed dataset ahead of training."""
    axolotl_config_path: str | None = None
    """Where the config was read."""
    total_num_tokens: NonNegativeInt | None = None
    """Tokens of the training data."""
    total_supervised_tokens: NonNegativeInt | None = None
    """Trained tokens of the training data."""
    local_rank: int | None = None
    """Number of this process on its machine."""
    world_size: NonNegativeInt | None = None
    """Number of processes."""
    device: str | None = None
    """Device of this process."""
    is_falcon_derived_model: bool | None = None
    """Whether the model is a Falcon."""
    is_llama_derived_model: bool | None = None
    """Whether the model is a Llama."""
    is_mistral_derived_model: bool | None = None
    """Whether the model is a Mistral."""
    is_qwen_derived_model: bool | None = None
    """Whether the model is a Qwen."""


class Derived(Feature):
    """Says that they are not needed."""

    name = "derived keys"
    Settings = (DerivedSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Whenever one of them is written."""
        return any(key in cfg.given for key in DerivedSettings.model_fields)

    def check(self) -> Iterable[Problem]:
        """A value that cannot be chosen is an error; one that is merely not needed is not."""
        for key in DerivedSettings.model_fields:
            if key not in self.cfg.given or DerivedSettings.is_coming(key):
                continue
            if key in _NOT_FREE:
                yield self.problem(key, "cannot be chosen here.", f"Remove it. {_NOT_FREE[key]}")
            elif self.cfg.value(key) not in (None, False):
                yield self.problem(key, "is not needed: Newt works it out.", "Remove it.", kind="warning")
