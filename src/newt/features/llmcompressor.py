"""LLM Compressor: train a sparse model and keep it sparse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field

from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class LlmCompressorConfig(Section):
    """``llmcompressor``."""

    recipe: dict[str, Any] | str = Field()
    """Recipe of LLM Compressor, or the path of its file."""
    save_compressed: bool = False
    """Save the model in its compressed form."""


class LlmCompressorSettings(PluginSection):
    """The key of LLM Compressor."""

    plugin = "LLMCompressorPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    llmcompressor: LlmCompressorConfig | None = None
    """Keep the zeros of a sparse model while it is trained."""


class LlmCompressor(Feature):
    """Applies the recipe."""

    name = "llmcompressor"
    Settings = (LlmCompressorSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the block is given."""
        return cfg[LlmCompressorSettings].llmcompressor is not None

    def check(self) -> Iterable[Problem]:
        """The package."""
        if self.facts.known and "llmcompressor" not in self.facts.packages:
            yield self.problem("llmcompressor", "needs the package llmcompressor.", "Install it.")
