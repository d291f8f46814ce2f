"""Uploads checkpoints and the trained model to a model repository of the Hub, beside training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

from newt.data.retry import first_line, retried
from newt.support.errors import NewtError
from newt.support.log import note, warn
from newt.training import checkpoints
from newt.training.callbacks.base import RunCallback
from newt.training.trackers import UPLOAD_SECONDS, Desk, linked_copy

LAST = "last-checkpoint"


@dataclass
class Repository:
    """A model repository, made when something is put into it.

    Attributes:
        name: such as ``me/my-model``.
        revision: branch.
        base_model: what the model was made from, for the card.
        adapter: only an adapter is uploaded.
    """

    name: str
    revision: str | None = None
    base_model: str | None = None
    adapter: bool = False
    ready: bool = False
    api: Any = field(default_factory=HfApi)

    def put(self, folder: Path, inside: str, message: str) -> None:
        """Upload a folder in one commit.

        Args:
            folder: what is uploaded.
            inside: folder of the repository, empty for its root.
            message: of the commit.

        Raises:
            NewtError: it was not possible, after three tries.
        """
        if not self.ready:
            self._tried(self._make)
            self.ready = True
        keys = {"repo_id": self.name, "revision": self.revision, "commit_message": message}
        self._tried(lambda: self.api.upload_folder(**keys, folder_path=str(folder), path_in_repo=inside or None))

    def _make(self) -> None:
        self.api.create_repo(self.name, private=True, exist_ok=True)
        if self.revision not in (None, "main"):
            self.api.create_branch(self.name, branch=self.revision, exist_ok=True)
        if not self.api.file_exists(self.name, "README.md", revision=self.revision):
            card = str(self._card()).encode()
            keys = {"repo_id": self.name, "revision": self.revision, "commit_message": "Add a model card"}
            self.api.upload_file(path_or_fileobj=card, path_in_repo="README.md", **keys)

    def _card(self) -> ModelCard:
        library = "peft" if self.adapter else "transformers"
        base = None if self.base_model is None or Path(self.base_model).expanduser().exists() else self.base_model
        data = ModelCardData(library_name=library, base_model=base, tags=["newt"])
        title = self.name.partition("/")[2] or self.name
        return ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {title}\n\nTrained with Newt.\n")

    def _tried(self, ask: Callable[[], Any]) -> Any:
        return retried(ask, (OSError, HTTPError, ValueError), lambda error: NewtError(first_line(error).rstrip(".")))


class HubUploads(RunCallback):
    """Uploads what a strategy names; a failed upload does not end the run, and is told at its end.

    ``end``: the trained model. ``every_save``: also the model of every checkpoint. ``checkpoint``: also the newest
    checkpoint as a whole, in ``last-checkpoint``. ``all_checkpoints``: also each checkpoint, under its own name.
    """

    def __init__(self, repository: Repository, strategy: str, output_dir: Path) -> None:
        """Keep where and what."""
        self.repository, self.strategy, self.output_dir = repository, strategy, output_dir
        self.desk: Desk | None = None
        self.waiting: list[str] = []
        self.failed: list[str] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin."""
        if state.is_world_process_zero:
            self.desk = Desk(f"the upload to {self.repository.name}")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Upload the checkpoint."""
        if self.desk is None or self.strategy == "end":
            return
        name = checkpoints.name_of(state.global_step)
        folder = Path(args.output_dir) / name
        self._upload(folder, "", name, f"Training in progress, step {state.global_step}")
        if self.strategy != "every_save":
            inside = LAST if self.strategy == "checkpoint" else name
            self._upload(folder, inside, name, f"Checkpoint of step {state.global_step}")

    def on_run_end(self, folder: Path | None) -> None:
        """Upload the trained model, wait for everything, and say what happened."""
        if self.desk is None:
            return
        if folder is not None:
            self._upload(folder, "", "the trained model", "The trained model")
        if self.waiting:
            note(f"Waiting for the upload of {', '.join(dict.fromkeys(self.waiting))} to {self.repository.name}")
        self.desk.close(say=False)
        self.desk = None
        for copy in self.output_dir.glob(".hub-*"):
            shutil.rmtree(copy, ignore_errors=True)
        missing = list(dict.fromkeys([*self.failed, *(f"{name}: it does not answer" for name in self.waiting)]))
        for reason in missing:
            warn(f"Not uploaded to {self.repository.name}: {reason}")
        if missing and folder is not None:
            note(f"To upload later: hf upload {self.repository.name} {folder} --exclude 'checkpoint-*/*'")
        elif folder is not None:
            note(f"The model is in {self.repository.name} on the Hub")

    def _upload(self, folder: Path, inside: str, name: str, message: str) -> None:
        assert self.desk is not None
        try:
            copy = linked_copy(folder, self.output_dir / f".hub-{inside or 'model'}-{name}", model_only=not inside)
        except OSError as error:
            self.failed.append(f"{name}: {error}")
            return
        self.waiting.append(name)

        def upload() -> None:
            try:
                self.repository.put(copy, inside, message)
            except NewtError as error:
                self.failed.append(f"{name}: {error}")
            finally:
                self.waiting.remove(name)
                shutil.rmtree(copy, ignore_errors=True)

        self.desk.send(upload, UPLOAD_SECONDS)
