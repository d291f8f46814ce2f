"""Prepared data in a repository: looked for there first, put there whole, and made without it when it is damaged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tests.data.fake_hub import FakeHub, fake_hub
from tests.data.pipeline import FakeTokenizer, config, plan_of, write_ids

from newt.config.core import Dataset
from newt.data import prepare as preparing
from newt.data.prepare import Datasets, prepare
from newt.data.push import HubCopies
from newt.support.errors import NewtError

TOKEN = "hf_thetokenthatnobodymaysee"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.chdir(tmp_path)
    write_ids(tmp_path / "a.jsonl", [5] * 8)
    with fake_hub() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        template = found.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield found


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that were made, not fetched."""
    folders: list[Path] = []
    build = preparing._build

    def noted(plan: Any, tokenizer: Any, train: Any, test: Any, folder: Path) -> None:
        folders.append(folder)
        build(plan, tokenizer, train, test, folder)

    monkeypatch.setattr(preparing, "_build", noted)
    return folders


def run(place: str, repo: str = "me/prepared", **keys: Any) -> Datasets:
    plan = plan_of(config([Dataset(path="a.jsonl")], dataset_prepared_path=place, **keys))
    plan.copies.fill(lambda: HubCopies(repo), by="test")
    return prepare(plan, FakeTokenizer())


def rows(found: Datasets) -> list[list[int]]:
    return [row["input_ids"].tolist() for row in found.train]


def test_another_machine_fetches_what_one_made(hub: FakeHub, made: list[Path], capfd: Any) -> None:
    first = run("here")
    assert len(made) == 1
    assert hub.private == {"me/prepared": True}
    assert first.path is not None
    assert {f"{first.fingerprint}/{path.name}" for path in first.path.iterdir()} | {"README.md"} == set(
        hub.repos["me/prepared"]
    )
    second = run("there")
    assert len(made) == 1
    assert rows(second) == rows(first)
    assert second.path == Path("there") / first.fingerprint
    assert sorted(path.name for path in second.path.iterdir()) == sorted(path.name for path in first.path.iterdir())
    assert hub.commits == {"me/prepared": 1}
    run("here")
    assert hub.commits == {"me/prepared": 1}, "what is there is not put there again"
    said = "".join(capfd.readouterr())
    assert TOKEN not in said
    assert f"Bearer {TOKEN}" in hub.tokens


def test_each_hash_is_a_configuration(hub: FakeHub) -> None:
    first = run("here").fingerprint
    second = run("here", num_dataset_shards_to_save=2).fingerprint
    card = hub.repos["me/prepared"]["README.md"].decode()
    assert card.count("config_name") == 2
    assert f"- config_name: {first}" in card
    assert f"path: {second}/rows*.arrow" in card


def test_what_was_prepared_before_is_put_there_too(hub: FakeHub, made: list[Path]) -> None:
    plain = plan_of(config([Dataset(path="a.jsonl")], dataset_prepared_path="here"))
    prepare(plain, FakeTokenizer())
    run("here")
    assert len(made) == 1
    assert hub.commits == {"me/prepared": 1}


@pytest.mark.parametrize("name", ["rows.arrow", "manifest.json"])
def test_damaged_copies_are_made_again_and_mended(
    hub: FakeHub, made: list[Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run("here")
    place = f"{first.fingerprint}/{name}"
    whole = hub.repos["me/prepared"][place]
    hub.repos["me/prepared"][place] = whole[:-9]
    hub.commits["me/prepared"] += 1
    second = run("there")
    assert len(made) == 2
    assert rows(second) == rows(first)
    assert hub.repos["me/prepared"][place] == whole
    assert second.path is not None
    assert not (second.path / "received").exists()


def test_a_public_repository_is_told(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repos["me/open"], hub.commits["me/open"], hub.private["me/open"] = {}, 0, False
    run("here", "me/open")
    assert "me/open is public: everybody can read the prepared data in it." in capsys.readouterr().err


def test_errors_are_tried_again_and_then_said(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("newt.data.retry.time.sleep", waits.append)
    errors: list[Exception] = [ConnectionError("reset"), TimeoutError("slow")]
    copies = HubCopies("me/prepared")

    def file_exists(**_: Any) -> bool:
        if errors:
            raise errors.pop()
        return False

    monkeypatch.setattr(copies._api, "file_exists", file_exists)
    with caplog.at_level(logging.DEBUG):
        assert copies.fetch("x", Path("here")) is False
    assert waits == [5, 10]
    errors[:] = [ConnectionError("reset")] * 3
    with pytest.raises(NewtError, match=r"^me/prepared: reset. Check the network.$"):
        copies.fetch("x", Path("here"))
    assert TOKEN not in caplog.text


def test_a_refused_upload_leaves_the_data(hub: FakeHub, made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    copies = HubCopies("me/prepared")

    def refuse(**_: Any) -> None:
        raise PermissionError("403 Forbidden: you do not have the rights")

    monkeypatch.setattr(copies._api, "create_repo", refuse)
    plan = plan_of(config([Dataset(path="a.jsonl")], dataset_prepared_path="here"))
    plan.copies.fill(lambda: copies, by="test")
    with pytest.raises(NewtError, match=r"you do not have the rights. Check push_dataset_to_hub, and that the token"):
        prepare(plan, FakeTokenizer())
    plain = plan_of(config([Dataset(path="a.jsonl")], dataset_prepared_path="here"))
    assert len(prepare(plain, FakeTokenizer()).train) == 8
    assert len(made) == 1


def test_offline_is_said(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NewtError, match="me/prepared: offline mode is on"):
        run("here")
