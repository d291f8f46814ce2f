"""Uploads to the Hugging Face Hub: checkpoints of the run, and prepared data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from newt.config.core import Cadence, Model, RunControl
from newt.config.section import Config, Problem, Section
from newt.extend import DataPlan, Feature, TrainPlan
from newt.support import env

_NAME = r"[\w-][\w.-]*"


def _not_reached(part: Feature, key: str) -> Iterable[Problem]:
    from huggingface_hub import get_token

    if env.flag("HF_HUB_OFFLINE") or env.flag("TRANSFORMERS_OFFLINE"):
        yield part.problem(key, "offline mode is on (HF_HUB_OFFLINE).", "Go online, or remove it.")
    elif get_token() is None:
        yield part.problem(key, "there is no token of the Hub.", "Run hf auth login, or set HF_TOKEN.")


class HubSettings(Section):
    """Keys of uploads of the model."""

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
        name = self.cfg[HubSettings].hub_model_id or ""
        if not re.fullmatch(rf"({_NAME}/)?{_NAME}", name):
            yield self.problem("hub_model_id", f"{name} is not a repository.", "Write it as org/name.")
        if self.facts.known:
            yield from _not_reached(self, "hub_model_id")

    def plan_train(self, plan: TrainPlan) -> None:
        """Add the callback."""
        plan.callbacks.append(self._callback)

    def _callback(self) -> Any:
        from newt.training.callbacks.hub import HubUploads, Repository

        settings, base = self.cfg[HubSettings], self.cfg[Model].base_model
        adapter = bool(self.cfg.value("adapter"))
        repository = Repository(str(settings.hub_model_id), settings.hub_revision, base, adapter)
        output_dir = Path(self.cfg[RunControl].output_dir).expanduser()
        return HubUploads(repository, settings.hub_strategy or "every_save", output_dir)


class HubDatasetSettings(Section):
    """Keys of uploads of prepared data."""

    push_dataset_to_hub: str | None = None
    """Dataset repository that prepared data are looked for in, and uploaded to. A new one is private."""
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
        """An upload needs the token, and a repository."""
        settings = self.cfg[HubDatasetSettings]
        keys = ("push_dataset_to_hub", "hf_use_auth_token")
        if not re.fullmatch(rf"{_NAME}/{_NAME}", settings.push_dataset_to_hub or ""):
            message = f"{settings.push_dataset_to_hub} is not a repository."
            yield self.problem("push_dataset_to_hub", message, "Write it as org/name.")
        if not settings.hf_use_auth_token:
            yield self.problem(keys, "needs the token of the Hub.", "Set hf_use_auth_token: true.")
        elif self.facts.known:
            yield from _not_reached(self, "push_dataset_to_hub")

    def plan_data(self, plan: DataPlan) -> None:
        """Prepared data are looked for in the repository, and put into it."""
        repo = self.cfg[HubDatasetSettings].push_dataset_to_hub

        def copies() -> Any:
            from newt.data.push import HubCopies

            return HubCopies(str(repo))

        plan.copies.fill(copies, by=self.name)
