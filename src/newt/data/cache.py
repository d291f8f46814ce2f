"""Prepared data on disk, found again by a hash over everything that it was made from."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from newt.config.core import Batch, Data, Dataset, RunControl, Template
from newt.config.secrets import redacted
from newt.data.addresses import shown
from newt.data.sources import Source
from newt.extend import DataPlan, Format
from newt.support.files import sha256_file, verify_manifest, write_atomically
from newt.support.log import note, warn

DATA_VERSION = 1
"""Layout of the folder; a higher number makes all earlier folders unusable."""
DEFAULT_FOLDER = "last_run_prepared"
INPUTS = "inputs.json"

_ELSEWHERE = {"datasets", "test_datasets", "dataset_prepared_path", "dataset_num_proc", "dataset_keep_in_memory"}
"""Keys of ``Data`` that do not change the rows, or that have their own place among the inputs."""

_OF_USE = (
    *("sample_packing", "eval_sample_packing", "sample_packing_bin_size", "sample_packing_group_size"),
    *("sample_packing_sequentially", "group_by_length", "kd_temperature"),
)
"""Keys of how the rows are used. They are a part of the hash, as users of the field know it."""

_PLACES = {"output_dir", "dataset_prepared_path", "datasets", "test_datasets"}
"""Keys that say where something is; the entries of datasets count one by one."""

_SECRET = {"storage_options"}
"""Keys of an entry that open a place and say nothing about what is there."""

Inputs = dict[str, Any]


# --------------------------------------------------------------------------- what the data depend on


def inputs(plan: DataPlan, tokenizer: Any, train: Sequence[Source], test: Sequence[Source]) -> Inputs:
    """Everything that the prepared data depend on, JSON-ready: the cache key is a hash of it.

    That is: the content of each source, every setting of its entry, the settings that the pipeline reads, the
    tokenizer, and the code that turns rows into tokens.
    """
    cfg = plan.cfg
    found: Inputs = {"version": DATA_VERSION, "code": _own_code(), "seed": cfg[RunControl].seed}
    found.update({key: value for key, value in cfg[Data].model_dump(mode="json").items() if key not in _ELSEWHERE})
    found.update({key: getattr(cfg[Batch], key) for key in ("sequence_len", "eval_sequence_len")})
    found.update({key: cfg.value(key) for key in _OF_USE})
    found.update(_with_content(cfg[Template].model_dump(mode="json")))
    found["row tokenizer"] = plan.tokenize.by
    found["keep order"] = plan.keep_order
    for key, entries, formats, sources in (
        ("datasets", cfg[Data].datasets, plan.formats, train),
        ("test_datasets", cfg[Data].test_datasets, plan.eval_formats, test),
    ):
        for number, (entry, fmt, source) in enumerate(zip(entries or (), formats, sources, strict=True)):
            found.update({f"{key}.{number}.{name}": value for name, value in _of_entry(entry, fmt, source).items()})
            if fmt.modules():  # their code may read any key
                found["all keys"] = {key: value for key, value in redacted(cfg.to_dict()).items() if key not in _PLACES}
    found.update({f"tokenizer.{name}": value for name, value in _of_tokenizer(tokenizer).items()})
    return found


def _of_entry(entry: Dataset, fmt: Format, source: Source) -> Inputs:
    settings = _with_content(entry.model_dump(mode="json", exclude=_SECRET))
    settings["path"] = shown(entry.path)
    return {**settings, "content": source.fingerprint, "format": type(fmt).__qualname__, "format code": _code_of(fmt)}


def _with_content(settings: Mapping[str, Any]) -> Inputs:
    """Settings, with the content of a template file instead of its name."""
    text = settings.get("chat_template_jinja")
    is_file = isinstance(text, str) and "\n" not in text and "{" not in text and Path(text).is_file()
    return {**settings, "chat_template_jinja": sha256_file(Path(text)) if text and is_file else text}


def _of_tokenizer(tokenizer: Any) -> Inputs:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    for changed_by_use in ("truncation", "padding"):
        content.pop(changed_by_use, None)
    return {
        "class": type(tokenizer).__name__,
        "content": _sha256(json.dumps(content, sort_keys=True)),
        "special tokens": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "chat template": _sha256(json.dumps(getattr(tokenizer, "chat_template", None))),
    }


def _code_of(fmt: Format) -> str:
    """Hash over the source of a format and of the classes that it is made from."""
    modules = {cls.__module__ for cls in type(fmt).__mro__ if cls not in (object, Format)} | set(fmt.modules())
    files = sorted({str(getattr(sys.modules[name], "__file__", "")) for name in modules})
    return _sha256("".join(sha256_file(Path(name)) for name in files if Path(name).is_file()))


def _own_code() -> str:
    folder = Path(__file__).parent
    # rows.py fills the prompts of formats, so it decides about the text as this room does.
    files = sorted([folder.parent / "rows.py", *folder.glob("*.py"), *folder.rglob("*.jinja")])
    return _sha256("".join(sha256_file(path) for path in files))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(found: Inputs) -> str:
    """Cache key: 32 hexadecimal digits."""
    return _sha256(json.dumps(found, sort_keys=True))[:32]


# --------------------------------------------------------------------------- folders


def root(plan: DataPlan) -> Path:
    """The folder that holds all prepared data."""
    return Path(plan.cfg[Data].dataset_prepared_path or DEFAULT_FOLDER).expanduser()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let only one process at a time prepare or open a folder.

    The lock belongs to the process and ends with it, however it ends. It is not inherited by the tokenizing processes.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            note(f"Waiting for process {file.read() or '?'}, which prepares the same data.")
            fcntl.lockf(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_usable(folder: Path) -> bool:
    """Whether a folder holds prepared data that are whole; damage is told."""
    if not folder.is_dir():
        return False
    damage = verify_manifest(folder)
    if damage:
        warn(f"the prepared data in {folder} are damaged ({damage[0]}): they are made again.")
    return not damage


def is_newer(folder: Path, moment: float) -> bool:
    """Whether a folder was finished after a moment (seconds since the epoch)."""
    try:
        return (folder / INPUTS).stat().st_mtime >= moment
    except FileNotFoundError:
        return False


def write_inputs(folder: Path, found: Inputs) -> None:
    """Store what the data were made from, for ``explain``."""
    write_atomically(folder / INPUTS, json.dumps(found, indent=1, sort_keys=True))


# --------------------------------------------------------------------------- why


def explain(place: Path, found: Inputs, *, reused: bool, say: Callable[[str], None]) -> None:
    """Say whether the data were found prepared, and if not, which inputs differ from the nearest that were.

    Args:
        place: folder of all prepared data.
        found: inputs of this run.
        reused: whether they were found and may be used.
        say: takes one line.
    """
    folder = place / fingerprint(found)
    if reused:
        say(f"cache hit: {folder}")
        return
    others = {path.parent: _read(path) for path in sorted(place.glob(f"*/{INPUTS}"))}
    if folder in others:
        say(f"cache not used: {folder} exists, but is damaged or not to be used (dataset_prepared_path is not set)")
        return
    if not others:
        say(f"cache miss: there is no prepared data in {place} yet")
        return
    nearest = min(others, key=lambda path: len(_differences(others[path], found)))
    say(f"cache miss: the nearest prepared data are in {nearest}, and these inputs differ:")
    for key in _differences(others[nearest], found):
        say(f"  {key}: {_short(others[nearest].get(key))} -> {_short(found.get(key))}")


def _read(path: Path) -> Inputs:
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _differences(old: Inputs, new: Inputs) -> list[str]:
    new = json.loads(json.dumps(new))
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
