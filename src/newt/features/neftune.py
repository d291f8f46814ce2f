"""NEFTune: noise on the embeddings in training."""

from __future__ import annotations

from pydantic import Field

from newt.config.section import Config, Section
from newt.extend import Feature, TrainPlan


class NeftuneSettings(Section):
    """The key of NEFTune."""

    neftune_noise_alpha: float | None = Field(default=None, gt=0)
    """Strength of uniform noise on the embeddings in training (arXiv 2310.05914); 5 is usual."""


class Neftune(Feature):
    """Sets the trainer's argument."""

    name = "neftune"
    Settings = (NeftuneSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the strength is given."""
        return cfg[NeftuneSettings].neftune_noise_alpha is not None

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill it."""
        plan.args.fill(by=self.name, neftune_noise_alpha=self.cfg[NeftuneSettings].neftune_noise_alpha)
