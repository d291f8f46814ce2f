"""What is said about addresses before anybody is asked for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.data.pipeline import config
from tests.data.places import Bucket, buckets

from newt.config.core import Dataset
from newt.data import addresses
from newt.data.addresses import shown
from newt.data.preflight import problems


@pytest.fixture
def bucket() -> Iterator[type[Bucket]]:
    with buckets() as found:
        yield found


def said(path: str, **keys: Any) -> list[str]:
    entry = Dataset(path=path, **keys)
    return [str(problem) for problem in problems(entry, "datasets.0", config([entry]))]


def test_missing_packages_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "find_spec", lambda _: None)
    for scheme, package, extra in (
        ("s3", "s3fs", "s3"),
        ("gs", "gcsfs", "gcs"),
        ("gcs", "gcsfs", "gcs"),
        ("az", "adlfs", "azure"),
        ("abfs", "adlfs", "azure"),
        ("adl", "adlfs", "azure"),
        ("oci", "ocifs", "oci"),
    ):
        assert said(f"{scheme}://box/a.jsonl", storage_options={"anno": True}) == [
            f"datasets.0.path: {scheme}:// needs the package {package!r}: pip install 'newt-tune[{extra}]'"
        ]


@pytest.mark.parametrize(
    ("path", "keys", "text"),
    [
        ("gz://box/a.jsonl", {}, "gz:// is not an address that can be read. Did you mean gs://?"),
        ("ftp://host/a.jsonl", {}, "Newt reads https://, s3://, gs://"),
        ("file:///tmp/a.jsonl", {}, "Write the path without file://."),
        ("http://example.org/a.jsonl", {}, "http://example.org/a.jsonl is not encrypted"),
        ("https://me:password@example.org/a.jsonl", {}, "an address with a user name or a password cannot be read."),
        ("https://example.org/a.jsonl", {"storage_options": {"a": 1}}, "storage_options: has no effect"),
        ("https://example.org/a.jsonl", {"split": "test"}, "test does not exist: files have one split, train."),
        ("gs://", {}, "gs:// names no bucket. Write gs://bucket/path."),
        ("gs://box/a.jsonl", {"storage_options": {"tokn": "x"}}, "tokn is no option of gcsfs. Did you mean token?"),
        ("gs://box/a.jsonl", {"storage_options": {"xyz": "x"}}, "It knows anon, client, token."),
        ("rows.jsonl", {"storage_options": {"anon": True}}, "has no effect: path is not an address such as s3://"),
        ("org/name", {"storage_options": {"anon": True}}, "has no effect: path is not an address such as s3://"),
    ],
)
def test_bad_addresses_and_options(bucket: type[Bucket], path: str, keys: dict[str, Any], text: str) -> None:
    (message,) = said(path, **keys)
    assert text in message
    assert "password@" not in message


def test_good_addresses(bucket: type[Bucket]) -> None:
    for path in ("https://example.org/a.jsonl", "gs://box/d", "s3://box/d/*.parquet", "http://localhost:1/a.csv"):
        assert said(path) == []
    assert said("gs://box/a.jsonl", storage_options={"token": "x", "use_listings_cache": False}) == []
    assert said("gs://box/d", split="validation") == []


def test_keys_in_addresses_are_not_shown() -> None:
    assert shown("https://me:word@host:1/a.jsonl?key=x#y") == "https://host:1/a.jsonl"
    assert shown("s3://box/a?.jsonl") == "s3://box/a?.jsonl"
    assert shown("org/name") == "org/name"
