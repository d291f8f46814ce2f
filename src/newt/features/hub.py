"""Uploads to the Hugging Face Hub: checkpoints of the run, and prepared data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from newt.config.core import Cadence
from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class HubSettings(Section):
    """Keys of uploads of the model."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    hub_model_id: str | None = None
    """Model repository to upload to, such as ``me/my-model``. A new one is private."""
    hub_strategy: Literal["end", "every_save", "checkpoint", "all_checkpoints"] | None = None
    """When to upload, and what. Default: every_save."""
    hub_revision: str | None = None
    """Branch to upload to. Default: main."""


class Hub(Feature):
    """Uploads checkpoints."""

    name = "hub"
    Settings = (HubSettings,)
    off = "hub_model_id is not set"
    switches = ("hub_model_id",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when a repository is named."""
        return cfg[HubSettings].hub_model_id is not None

    def check(self) -> Iterable[Problem]:
        """Only what is saved can be uploaded."""
        strategy = self.cfg[Cadence].save_strategy
        if strategy not in (None, "steps", "epoch"):
            message = f"no checkpoint is uploaded: save_strategy is {strategy}."
            yield self.problem(("hub_model_id", "save_strategy"), message, "Set it to steps or epoch.", kind="warning")


class HubDatasetSettings(Section):
    """Keys of uploads of prepared data."""

    coming: ClassVar[frozenset[str]] = frozenset({"push_dataset_to_hub"})

    push_dataset_to_hub: str | None = None
    """Dataset repository to upload prepared data to. A new one is private."""
    hf_use_auth_token: bool | None = None
    """Send the stored token of the Hub. It is sent to the Hub anyway whenever there is one."""


class HubDataset(Feature):
    """Uploads prepared data."""

    name = "hub dataset"
    Settings = (HubDatasetSettings,)
    off = "push_dataset_to_hub is not set"
    switches = ("push_dataset_to_hub", "hf_use_auth_token")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when a repository is named."""
        return cfg[HubDatasetSettings].push_dataset_to_hub is not None

    def check(self) -> Iterable[Problem]:
        """An upload needs the token."""
        if not self.cfg[HubDatasetSettings].hf_use_auth_token:
            keys = ("push_dataset_to_hub", "hf_use_auth_token")
            yield self.problem(keys, "needs the token of the Hub.", "Set hf_use_auth_token: true.")
