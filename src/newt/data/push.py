"""Prepared data in a dataset repository of the Hub, so that they are made once for several machines.

Each prepared folder is a folder of the repository, and a configuration of the dataset, named by its hash:
``datasets.load_dataset("me/prepared", "<hash>")`` gives its token rows.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, DatasetCard, HfApi, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HTTPError  # type: ignore[attr-defined]

from newt.data.retry import first_line, is_offline, may_pass, retried
from newt.support.errors import NewtError
from newt.support.files import MANIFEST, verify_manifest
from newt.support.log import note, warn

_CARD = """---
configs: []
---
Token rows, prepared by newt for training.
"""


class HubCopies:
    """Prepared folders in a repository of the Hub.

    Args:
        repo: such as ``me/prepared``; it is made, private, when something is put into it.
    """

    def __init__(self, repo: str) -> None:
        self.repo = repo
        self._api = HfApi()
        self._keys: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset"}
        self._damaged: set[str] = set()

    def fetch(self, name: str, folder: Path) -> bool:
        """Put a prepared folder's files into an empty folder; False if the repository does not have it whole.

        Raises:
            NewtError: the Hub cannot be asked.
        """
        if not self._has(name):
            return False
        note(f"Fetching the prepared data {name} from {self.repo}")
        received = folder / "received"
        try:
            keys: dict[str, Any] = {**self._keys, "allow_patterns": f"{name}/*", "local_dir": received}
            self._tried(lambda: snapshot_download(**keys))
            damage = verify_manifest(received / name)
            if damage:
                self._damaged.add(name)
                warn(f"the prepared data {name} in {self.repo} are damaged ({damage[0]}): they are made again.")
                return False
            for path in sorted((received / name).iterdir()):
                path.rename(folder / path.name)
        finally:
            shutil.rmtree(received, ignore_errors=True)
        return True

    def push(self, name: str, folder: Path) -> None:
        """Put a prepared folder into the repository, in one commit, unless it is there already.

        Raises:
            NewtError: it cannot be put there; the data on this machine stay.
        """
        if name not in self._damaged and self._manifest(name) == (folder / MANIFEST).read_text(encoding="utf-8"):
            return
        self._tried(lambda: self._api.create_repo(**self._keys, private=True, exist_ok=True))
        if self._tried(lambda: self._api.repo_info(**self._keys)).private is False:
            warn(f"{self.repo} is public: everybody can read the prepared data in it.")
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        added = [CommitOperationAdd(f"{name}/{path.name}", str(path)) for path in files]
        card = CommitOperationAdd("README.md", self._card(name, [path.name for path in files]).encode())
        message = f"Add the prepared data {name}"
        self._tried(lambda: self._api.create_commit(**self._keys, operations=[*added, card], commit_message=message))
        note(f"The prepared data are in {self.repo} as {name}")

    def _has(self, name: str) -> bool:
        found: bool = self._tried(lambda: self._api.file_exists(**self._keys, filename=f"{name}/{MANIFEST}"))
        return found

    def _manifest(self, name: str) -> str:
        return self._text(f"{name}/{MANIFEST}") if self._has(name) else ""

    def _text(self, file: str) -> str:
        """Content of a small file, empty if it is not there."""

        def get() -> str:
            try:
                return Path(self._api.hf_hub_download(**self._keys, filename=file)).read_text(encoding="utf-8")
            except EntryNotFoundError:
                return ""

        text: str = self._tried(get)
        return text

    def _card(self, name: str, files: list[str]) -> str:
        """The repository's README with one more configuration."""
        card = DatasetCard(self._text("README.md") or _CARD)
        splits = {"train": "rows", "test": "test_rows"}
        here = {split: stem for split, stem in splits.items() if any(file.startswith(stem) for file in files)}
        paths = [{"split": split, "path": f"{name}/{stem}*.arrow"} for split, stem in here.items()]
        others = [one for one in card.data.get("configs") or [] if one.get("config_name") != name]
        card.data["configs"] = [*others, {"config_name": name, "data_files": paths}]
        return str(card)

    def _tried(self, ask: Any) -> Any:
        return retried(ask, (OSError, HTTPError, ValueError), self._failure)

    def _failure(self, error: Exception) -> NewtError:
        if is_offline(error):
            return NewtError(f"{self.repo}: offline mode is on (HF_HUB_OFFLINE). Go online.")
        hint = "Check the network." if may_pass(error) else "Check push_dataset_to_hub, and that the token may write."
        return NewtError(f"{self.repo}: {first_line(error).rstrip('.')}. {hint}")
