"""Masked diffusion: learn to fill in masked tokens, in any order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem, Section
from newt.extend import Method


class DiffusionConfig(Section):
    """``diffusion``."""

    noise_schedule: Literal["linear", "cosine"] = "linear"
    """How the share of masked tokens depends on time."""
    min_mask_ratio: float = Field(default=0.1, ge=0, le=1)
    """Smallest share of masked tokens."""
    max_mask_ratio: float = Field(default=0.9, ge=0, le=1)
    """Largest share of masked tokens."""
    num_diffusion_steps: PositiveInt = 128
    """Steps of time."""
    eps: float = Field(default=1e-3, gt=0, lt=1)
    """Smallest probability of a mask."""
    importance_weighting: bool = True
    """Divide each token's loss by its probability of being masked."""
    mask_token_id: NonNegativeInt | None = None
    """Id of the mask token."""
    mask_token_str: str | None = None
    """Text of the mask token; it is added if the tokenizer lacks it. Default ``<|diffusion_mask|>``."""
    generate_samples: bool = True
    """Generate samples during training."""
    generation_interval: PositiveInt = 100
    """Steps between samples."""
    num_generation_samples: PositiveInt = 3
    """How many."""
    generation_steps: PositiveInt = 128
    """Steps in which a sample is filled in."""
    generation_temperature: float = Field(default=0.0, ge=0)
    """Temperature; 0 takes the most likely token."""
    generation_max_length: PositiveInt = 100
    """Longest sample in tokens."""


class DiffusionSettings(PluginSection):
    """The key of diffusion."""

    plugin = "DiffusionPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    diffusion: DiffusionConfig | None = None
    """Train a masked diffusion model. Default values when the plugin is listed without this block."""


class Diffusion(Method):
    """Masked diffusion on supervised rows."""

    name = "diffusion"
    Settings = (DiffusionSettings,)

    @classmethod
    def selected(cls, cfg: Config) -> bool:
        """With the plugin."""
        return cfg[DiffusionSettings].asked(cfg)

    def check(self) -> Iterable[Problem]:
        """An order of shares, and one name of the mask."""
        block = self.cfg[DiffusionSettings].diffusion or DiffusionConfig()
        if block.min_mask_ratio > block.max_mask_ratio:
            yield self.problem("diffusion.min_mask_ratio", f"is above max_mask_ratio ({block.max_mask_ratio}).")
        if block.mask_token_id is not None and block.mask_token_str is not None:
            yield self.problem("diffusion.mask_token_str", "cannot be used with mask_token_id.", "Remove one.")
        if self.cfg.value("rl"):
            yield self.problem(("rl", "plugins"), "cannot be used with diffusion.", "Remove one.")
