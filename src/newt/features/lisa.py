"""LISA: train only a few layers at a time, others every so many steps. https://arxiv.org/abs/2403.17919"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import PositiveInt

from newt.config.core import RunControl
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan, TrainPlan


class LisaSettings(Section):
    """Keys of LISA."""

    lisa_n_layers: PositiveInt | None = None
    """How many layers are trained at a time."""
    lisa_step_interval: PositiveInt | None = None
    """Steps after which other layers are drawn."""
    lisa_layers_attribute: str = "model.layers"
    """Name of the list of layers in the model."""


class Lisa(Feature):
    """Draws the layers that are trained."""

    name = "lisa"
    Settings = (LisaSettings,)
    off = "lisa_n_layers is not set"
    switches = ("lisa_n_layers", "lisa_step_interval")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of its two numbers is given."""
        settings = cfg[LisaSettings]
        return settings.lisa_n_layers is not None or settings.lisa_step_interval is not None

    def check(self) -> Iterable[Problem]:
        """Both numbers, and nothing else that decides what is trained."""
        settings = self.cfg[LisaSettings]
        for key, other in (("lisa_n_layers", "lisa_step_interval"), ("lisa_step_interval", "lisa_n_layers")):
            if getattr(settings, key) is None:
                yield self.problem((key, other), "is missing.", f"{other} needs it.")
        for other in ("adapter", "unfrozen_parameters"):
            if self.cfg.value(other):
                yield self.problem(("lisa_n_layers", other), f"cannot be used with {other}.", "Remove one.")
        layers = (self.facts.model or {}).get("num_hidden_layers")
        if isinstance(layers, int) and settings.lisa_n_layers and settings.lisa_n_layers > layers:
            yield self.problem("lisa_n_layers", f"the model has only {layers} layers.", "Make it smaller.")

    def plan_load(self, plan: LoadPlan) -> None:
        """Look for the layers as soon as there is a model."""
        plan.prepare_base.append(self.find)

    def find(self, model: Any, notes: list[str]) -> None:
        """Say how many layers are trained at a time.

        Raises:
            NewtError: the model has no such list of layers, or fewer.
        """
        from newt.training.callbacks.lisa import find_layers

        settings = self.cfg[LisaSettings]
        layers = len(find_layers(model, settings.lisa_layers_attribute, settings.lisa_n_layers or 1))
        notes.append(
            f"LISA: {settings.lisa_n_layers} of {layers} layers are trained at a time, others every "
            f"{settings.lisa_step_interval} steps; what is outside of the layers always is"
        )

    def plan_train(self, plan: TrainPlan) -> None:
        """Add the callback that draws."""
        plan.callbacks.append(self.callback)

    def callback(self) -> Any:
        """What draws the layers."""
        from newt.training.callbacks.lisa import Lisa as Draw

        settings = self.cfg[LisaSettings]
        return Draw(
            settings.lisa_n_layers or 1,
            settings.lisa_step_interval or 1,
            settings.lisa_layers_attribute,
            self.cfg[RunControl].seed,
        )
