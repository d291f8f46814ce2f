"""Models that read images or sound as well: their processor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from newt.config.section import Config, Problem, Section
from newt.extend import Feature

NOT_THERE = ("revision", "trust_remote_code")
"""Arguments that have a key of their own."""


class MultimodalSettings(Section):
    """Keys of the processor."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    processor_type: str | None = None
    """Class of transformers that prepares images, sound and text, such as ``AutoProcessor``."""
    processor_kwargs: dict[str, Any] | None = None
    """Further arguments of the processor."""
    is_multimodal: bool | None = None
    """Treat the model as one that reads images or sound, whatever its config says."""


class Multimodal(Feature):
    """Loads a processor in the place of the tokenizer alone."""

    name = "multimodal"
    Settings = (MultimodalSettings,)
    off = "processor_type is not set"
    switches = ("processor_type", "processor_kwargs", "is_multimodal")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when a processor is named or configured."""
        settings = cfg[MultimodalSettings]
        return bool(settings.processor_type or settings.processor_kwargs or settings.is_multimodal)

    def check(self) -> Iterable[Problem]:
        """Arguments that are said elsewhere are not said again."""
        for key in NOT_THERE:
            if key in (self.cfg[MultimodalSettings].processor_kwargs or {}):
                hint = f"Remove it: {'revision_of_model' if key == 'revision' else key} says it."
                yield self.problem(f"processor_kwargs.{key}", "cannot be set here.", hint)
