"""Rows behind addresses are the rows of the same files at hand, and nothing about the way there leaks."""

from __future__ import annotations

import gzip
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.pipeline import config
from tests.data.places import SCHEMES, Bucket, Web, buckets, web_server

from newt.config.core import Dataset
from newt.data import cache
from newt.data.preflight import problems
from newt.data.sources import Source, read
from newt.support.errors import DataError

ROWS = [{"text": f"row {i}", "extra": None if i % 2 else "x"} for i in range(300)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out, row_group_size=100)
    return out.getvalue()


def arrow() -> bytes:
    out = io.BytesIO()
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(out, table.schema) as file:
        file.write_table(table)
    return out.getvalue()


FILES = {
    "rows.jsonl": JSONL,
    "rows.json": json.dumps(ROWS, indent=1).encode(),
    "rows.jsonl.gz": gzip.compress(JSONL),
    "rows.jsonl.zst": pa.compress(JSONL, codec="zstd", asbytes=True),
    "rows.parquet": parquet(),
    "rows.arrow": arrow(),
}
LINES = {"rows.csv": b"text,extra\na,b\nc,\n", "rows.tsv": b"text\textra\na\tb\nc\t\n"}


@pytest.fixture(autouse=True)
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "downloads"
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", folder)
    return folder


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("newt.data.retry.time.sleep", found.append)
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    with web_server() as found:
        yield found


@pytest.fixture
def web(server: Web) -> Web:
    server.files.clear()
    server.asked.clear()
    server.failures.clear()
    server.marks = True
    return server


@pytest.fixture
def bucket() -> Iterator[type[Bucket]]:
    with buckets() as found:
        yield found


def source(path: str, default_split: str = "train", stream: bool = False, **keys: Any) -> Source:
    entry = Dataset(path=path, **keys)
    return read(entry, default_split=default_split, cfg=config([entry]), stream=stream)


def said(path: str, **keys: Any) -> list[str]:
    entry = Dataset(path=path, **keys)
    return [str(problem) for problem in problems(entry, "datasets.0", config([entry]))]


# --------------------------------------------------------------------------- the web


@pytest.mark.parametrize("name", FILES)
def test_files_of_the_web(web: Web, name: str) -> None:
    web.files[f"a/{name}"] = FILES[name]
    for stream in (False, True):
        found = source(f"{web.address}/a/{name}", stream=stream)
        assert list(found) == ROWS
        assert found.columns == ("text", "extra")
    assert [row["text"] for row in source(f"{web.address}/a/{name}", split="train[2:4]")] == ["row 2", "row 3"]


@pytest.mark.parametrize("name", LINES)
def test_tables_in_text_of_the_web(web: Web, name: str) -> None:
    web.files[name] = LINES[name]
    assert list(source(f"{web.address}/{name}")) == [{"text": "a", "extra": "b"}, {"text": "c", "extra": ""}]


def test_a_file_is_fetched_once_and_again_when_it_changed(web: Web) -> None:
    web.files["rows.jsonl"] = JSONL
    address = f"{web.address}/rows.jsonl"
    first = source(address)
    assert len(first) == 300
    assert list(first) == ROWS
    assert list(source(address)) == ROWS
    assert len(web.asked) == 3, "a look each, and one download"
    before = source(address).fingerprint
    web.files["rows.jsonl"] = JSONL.replace(b"row 7", b"row 8")
    assert source(address).fingerprint != before
    assert next(row["text"] for row in list(source(address))[7:]) == "row 8"


def test_without_a_mark_the_content_decides(web: Web) -> None:
    web.marks = False
    web.files["rows.jsonl"] = JSONL
    before = source(f"{web.address}/rows.jsonl").fingerprint
    assert source(f"{web.address}/rows.jsonl").fingerprint == before
    web.files["rows.jsonl"] = JSONL.replace(b"row 7", b"row 8")
    assert source(f"{web.address}/rows.jsonl").fingerprint != before


def test_a_bad_line_has_its_number(web: Web) -> None:
    web.files["rows.jsonl"] = b'{"a": 1}\n{"a": }\n'
    with pytest.raises(DataError) as caught:
        list(source(f"{web.address}/rows.jsonl?key=hidden-key"))
    assert str(caught.value).startswith(f"{web.address}/rows.jsonl:2: is not valid JSON")
    assert "hidden-key" not in str(caught.value)


def test_several_files_and_splits(web: Web) -> None:
    web.files.update({"d/1.jsonl": b'{"a": 1}\n', "d/2.jsonl": b'{"a": 2}\n'})
    both = source(f"{web.address}/d", data_files=("2.jsonl", "1.jsonl"))
    assert list(both) == [{"a": 2}, {"a": 1}]
    named = {"train": (f"{web.address}/d/1.jsonl",), "test": f"{web.address}/d/2.jsonl"}
    assert list(source("json", data_files=named)) == [{"a": 1}]
    assert list(source("json", "test", data_files=named)) == [{"a": 2}]
    assert said("json", data_files=named, split="dev") == [
        "datasets.0.split: dev does not exist: data_files has train, test. Correct split."
    ]


def test_the_web_fails(web: Web, waits: list[float]) -> None:
    web.files["rows.jsonl"] = JSONL
    address = f"{web.address}/rows.jsonl"
    with pytest.raises(DataError, match=r"/none.jsonl: cannot be read: 404 Not Found. Check the address"):
        source(f"{web.address}/none.jsonl")
    assert waits == []
    web.failures[:] = [503, 500]
    assert len(source(address)) == 300
    assert waits == [5, 10]
    web.failures[:] = [503] * 3
    with pytest.raises(DataError, match=r"503 Service Unavailable. Check the network."):
        source(address)
    assert waits == [5, 10, 5, 10]


def test_a_download_that_breaks_off_is_repeated(web: Web, waits: list[float], downloads: Path) -> None:
    web.files["rows.parquet"] = FILES["rows.parquet"]
    found = source(f"{web.address}/rows.parquet")
    web.failures[:] = [0]
    assert list(found) == ROWS
    assert waits == [5]
    assert [path.name for path in downloads.rglob("*") if path.is_file()] == ["rows.parquet"]
    web.files["rows.parquet"] += b" "
    found = source(f"{web.address}/rows.parquet")
    web.failures[:] = [0, 0, 0]
    with pytest.raises(DataError, match=r"the connection ended after .* bytes. Check the network."):
        list(found)
    assert len([path for path in downloads.rglob("*") if path.is_file()]) == 1, "nothing half is left"


def test_nobody_answers(waits: list[float]) -> None:
    with pytest.raises(DataError, match=r"refused. Check the network."):
        source("http://127.0.0.1:9/rows.jsonl")
    assert waits == [5, 10]


# --------------------------------------------------------------------------- object stores


@pytest.mark.parametrize("scheme", SCHEMES)
def test_files_of_a_store(bucket: type[Bucket], scheme: str) -> None:
    bucket.put_all({f"/box/{name}": content for name, content in FILES.items()})
    for name in FILES:
        found = source(f"{scheme}://box/{name}")
        assert list(found) == ROWS, name
        assert found.columns == ("text", "extra")


@pytest.mark.parametrize("name", FILES)
def test_streams_of_a_store(bucket: type[Bucket], name: str, downloads: Path) -> None:
    bucket.put_all({f"/box/{name}": FILES[name]})
    assert list(source(f"gs://box/{name}", stream=True)) == ROWS
    assert not downloads.exists(), "a stream is not fetched"


def test_folders_of_a_store(bucket: type[Bucket]) -> None:
    parts = {f"/box/d/data/{name}.jsonl": json.dumps({"n": name}).encode() for name in ("train-0", "train-1", "test-0")}
    bucket.put_all({**parts, "/box/d/README.md": b"x", "/box/d/.hidden.jsonl": b"x"})
    assert list(source("gs://box/d")) == [{"n": "train-0"}, {"n": "train-1"}]
    assert list(source("gs://box/d/", "test")) == [{"n": "test-0"}]
    assert list(source("gs://box/d", split="train[1:]")) == [{"n": "train-1"}]
    assert list(source("gs://box/d/data/train-*.jsonl")) == [{"n": "train-0"}, {"n": "train-1"}]
    files = ("data/test-*.jsonl", "data/train-1.jsonl")
    assert list(source("gs://box/d", data_files=files)) == [{"n": "test-0"}, {"n": "train-1"}]
    assert list(source("gs://box/d", "test", data_files={"test": files[1]})) == [{"n": "train-1"}]
    bucket.put_all({"/box/mixed/a.jsonl": b"{}", "/box/mixed/b.csv": b"a\n1\n"})
    with pytest.raises(DataError, match=r"gs://box/mixed: holds several types of files \(csv, json\). Set data_files"):
        source("gs://box/mixed")
    assert list(source("gs://box/mixed", ds_type="csv")) == [{"a": "1"}]
    bucket.put_all({"/box/none/a.bin": b"x"})
    with pytest.raises(DataError, match="gs://box/none: there are no data files in it"):
        source("gs://box/none")


def test_a_saved_dataset_in_a_store(bucket: type[Bucket], tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": table, "test": table.select(range(3))}).save_to_disk(tmp_path / "saved")
    files = {path.relative_to(tmp_path): path for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    bucket.put_all({f"/box/{name}": path.read_bytes() for name, path in files.items()})
    assert list(source("az://box/saved")) == ROWS
    assert list(source("az://box/saved", "test")) == ROWS[:3]
    assert list(source("az://box/saved", split="train[:2]")) == ROWS[:2]


def test_the_store_gets_a_copy_of_the_options(bucket: type[Bucket]) -> None:
    bucket.put_all({"/box/a.jsonl": JSONL})
    options = {"token": "top-secret", "client": {"region": "x"}}
    assert len(source("gs://box/a.jsonl", storage_options=options)) == 300
    assert bucket.made_with[0]["token"] == "top-secret"
    assert options == {"token": "top-secret", "client": {"region": "x"}}
    bucket.made_with.clear()
    assert len(source("gs://box/a.jsonl", storage_options={"anon": True})) == 300
    assert bucket.made_with[0]["anon"] is True


def test_secrets_are_said_nowhere(bucket: type[Bucket]) -> None:
    bucket.put_all({"/box/a.jsonl": JSONL})
    entry = Dataset(path="gs://box/a.jsonl", storage_options={"token": "top-secret"})
    bucket.errors[:] = [PermissionError("token top-secret may not read this")]
    with pytest.raises(DataError) as caught:
        read(entry, default_split="train", cfg=config([entry]))
    assert str(caught.value) == (
        "gs://box/a.jsonl: cannot be read: token *** may not read this. Check the credentials (storage_options)."
    )
    found = read(entry, default_split="train", cfg=config([entry]))
    from tests.data.pipeline import Ids

    assert "secret" not in json.dumps(cache._of_entry(entry, Ids(entry, config([entry])), found))
    same = read(entry.model_copy(update={"storage_options": None}), default_split="train", cfg=config([entry]))
    assert same.fingerprint == found.fingerprint


def test_a_store_fails(bucket: type[Bucket], waits: list[float]) -> None:
    bucket.put_all({"/box/a.jsonl": JSONL})
    with pytest.raises(DataError, match=r"gs://box/none.jsonl: cannot be read: it does not exist. Check the address."):
        source("gs://box/none.jsonl")
    with pytest.raises(DataError, match=r"gs://box/x\*.jsonl: cannot be read: it does not exist"):
        source("gs://box/x*.jsonl")
    assert waits == []
    bucket.errors[:] = [ConnectionResetError("reset"), TimeoutError("slow")]
    assert len(source("gs://box/a.jsonl")) == 300
    assert waits == [5, 10]
    bucket.errors[:] = [ConnectionResetError("reset")] * 3
    with pytest.raises(DataError, match=r"gs://box/a.jsonl: cannot be read: reset. Check the network."):
        source("gs://box/a.jsonl")


def test_a_changed_file_of_a_store_is_seen(bucket: type[Bucket]) -> None:
    bucket.put_all({"/box/a.jsonl": b'{"a": 1}\n'})
    before = source("gs://box/a.jsonl").fingerprint
    assert list(source("gs://box/a.jsonl")) == [{"a": 1}]
    assert source("gs://box/a.jsonl").fingerprint == before
    bucket.put_all({"/box/a.jsonl": b'{"a": 2}\n'})
    assert source("gs://box/a.jsonl").fingerprint != before
    assert list(source("gs://box/a.jsonl")) == [{"a": 2}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n\xff\n', "gs://box/a.jsonl:2: is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(JSONL)[:-40], "gs://box/a.jsonl.gz: is damaged or not compressed"),
        ("a.jsonl.zst", FILES["rows.jsonl.zst"][:-40], "gs://box/a.jsonl.zst: cannot be read: Truncated"),
        ("a.parquet", FILES["rows.parquet"][:-40], "gs://box/a.parquet: cannot be read as a table"),
    ],
)
def test_damage_behind_an_address_is_named(bucket: type[Bucket], name: str, content: bytes, message: str) -> None:
    bucket.put_all({f"/box/{name}": content})
    for stream in (False, True):
        with pytest.raises(DataError) as caught:
            list(source(f"gs://box/{name}", stream=stream))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------- a server of S3


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """``storage_options`` of an S3 server on this machine."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"key": "the-key", "secret": "the-secret", "endpoint_url": f"http://127.0.0.1:{server.server_port}"}
    server.shutdown()


def test_s3(s3: dict[str, Any], waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    store = fsspec.filesystem("s3", **s3)
    store.mkdir("box")
    for name, content in FILES.items():
        store.pipe_file(f"box/d/{name}", content)
    for name in FILES:
        assert list(source(f"s3://box/d/{name}", storage_options=s3)) == ROWS, name
        assert list(source(f"s3://box/d/{name}", storage_options=s3, stream=True)) == ROWS, name
    assert len(source("s3://box/d", storage_options=s3, ds_type="parquet")) == 300
    assert len(source("s3://box/d/*.jsonl*", storage_options=s3)) == 900
    before = source("s3://box/d/rows.jsonl", storage_options=s3).fingerprint
    assert source("s3://box/d/rows.jsonl", storage_options=s3).fingerprint == before
    store.pipe_file("box/d/rows.jsonl", JSONL.replace(b"row 7", b"row 8"))
    assert source("s3://box/d/rows.jsonl", storage_options=s3).fingerprint != before
    with pytest.raises(DataError, match=r"s3://box/none.jsonl: cannot be read: it does not exist"):
        source("s3://box/none.jsonl", storage_options=s3)
    assert set(s3) == {"key", "secret", "endpoint_url"}


def test_s3_with_anonymous_access(s3: dict[str, Any], waits: list[float]) -> None:
    store = fsspec.filesystem("s3", **s3)
    store.mkdir("open")
    store.pipe_file("open/a.jsonl", JSONL, ACL="public-read")
    store.pipe_file("open/b.jsonl", JSONL)
    assert said("s3://open/a.jsonl", storage_options={"anon": True, "endpoint_url": s3["endpoint_url"]}) == []
    options = {"anon": True, "endpoint_url": s3["endpoint_url"]}
    assert len(source("s3://open/a.jsonl", storage_options=options)) == 300
    with pytest.raises(DataError, match=r"b.jsonl: cannot be read: Forbidden. Check the credentials"):
        source("s3://open/b.jsonl", storage_options=options)
    wrong = {**s3, "endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 1}}}
    with pytest.raises(DataError) as caught:
        source("s3://open/a.jsonl", storage_options=wrong)
    assert str(caught.value).endswith("Check the network.")
    assert "the-secret" not in str(caught.value)
    assert waits == [5, 10]
    assert said("s3://open/a.jsonl", storage_options={"secrt": "x"})[0].endswith("Did you mean secret?")
