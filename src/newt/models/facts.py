"""What can be known of the machine and of the base model without loading either. Free of torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from newt.config.core import Model
from newt.config.section import Config, Problem
from newt.extend import Facts
from newt.models.weight_files import what_is_missing
from newt.support import env
from newt.support.errors import NewtError
from newt.support.files import nearest_name

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_SECONDS = 3
REFUSED = (401, 403, 404)
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
    "tekken.json", "sentencepiece.bpe.model",
)  # fmt: skip


def gather(cfg: Config) -> Facts:
    """Look at the GPUs, the processor, the installed packages and the base model's config.json."""
    capabilities = _capabilities()
    model = cfg[Model]
    return Facts(
        known=True,
        gpus=len(capabilities),
        capability=capabilities[0] if capabilities else None,
        cpu_bf16=_cpu_bf16(),
        packages=installed(),
        model=_config_json(model.base_model_config or model.base_model, model.revision_of_model),
    )


def problems(cfg: Config) -> Iterable[Problem]:
    """Model and tokenizer folders that are missing or incomplete."""
    model = cfg[Model]
    weights = not model.reinit_weights
    for key, source in (("base_model", model.base_model), ("base_model_config", model.base_model_config)):
        if source is not None:
            wrong = what_is_wrong(source, weights=weights and key == "base_model", revision=model.revision_of_model)
            if wrong:
                yield cfg.problem(key, *wrong)
    tokens = Path(tokenizer_source(model)).expanduser()
    key = "tokenizer_config" if model.tokenizer_config else "base_model"
    if tokens.is_dir() and not any((tokens / name).is_file() for name in TOKENIZER_FILES):
        yield cfg.problem(
            (key, "base_model"), f"{tokens} holds no tokenizer files.", "Set tokenizer_config to a folder that does."
        )
    elif model.tokenizer_config and not tokens.is_dir() and (wrong := _not_a_folder(str(tokens), None)):
        yield cfg.problem(key, *wrong)


def tokenizer_source(model: Model) -> str:
    """Where the tokenizer comes from: ``tokenizer_config``, else with the weights, else with the config."""
    folder = Path(model.base_model).expanduser()
    bare = folder.is_dir() and not any((folder / name).is_file() for name in TOKENIZER_FILES)
    return model.tokenizer_config or (model.base_model_config if bare else None) or model.base_model


def what_is_wrong(source: str, *, weights: bool = True, revision: str | None = None) -> tuple[str, str] | None:
    """Why a model cannot be loaded from here, and what to do, or None.

    Args:
        source: folder, or id on the Hub.
        weights: the weights are needed too, not only config.json.
        revision: branch, tag or commit on the Hub.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return _not_a_folder(source, revision)
    if not (folder / "config.json").is_file():
        return _no_config(folder)
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return f"{folder / 'config.json'} is not valid JSON.", "Copy the model again."
    return what_is_missing(folder) if weights else None


def _not_a_folder(source: str, revision: str | None) -> tuple[str, str] | None:
    path = Path(source).expanduser()
    if path.is_file():
        hint = "Make a folder of it with newt import-gguf." if path.suffix == ".gguf" else "Name its folder."
        return f"{source} is a file, not a model folder.", hint
    near = nearest_name(path)
    if HUB_ID.fullmatch(source):
        if _cached(source, "config.json", revision):
            return None
        if near and path.parent.is_dir():  # ``models/smol`` with a folder ``models``: a path that was misspelt
            return f"there is no folder {source}.", f"Did you mean {near}?"
        if _offline():
            return f"{source} is not in the local cache, and HF_HUB_OFFLINE is set.", "Name a folder, or go online."
        if _ask_hub(source, revision) in REFUSED:
            return f"the Hub has no model {source}, or not for you.", "Check the name, or log in with hf auth login."
        return None
    hint = f"Did you mean {near}?" if near else "Name a folder with config.json, or a Hub id such as org/name."
    return f"{source} is neither a folder nor a Hub id.", hint


def _no_config(folder: Path) -> tuple[str, str]:
    if (folder / "adapter_config.json").is_file():
        return f"{folder} holds an adapter, not a model.", "Name it as lora_model_dir, and its base as base_model."
    if any(folder.glob("*.gguf")):
        return f"{folder} holds a GGUF file and no config.json.", "Make a model folder of it with newt import-gguf."
    return f"{folder} has no config.json.", "Name the folder of a model."


def _config_json(source: str, revision: str | None) -> Mapping[str, Any] | None:
    folder = Path(source).expanduser()
    path = folder / "config.json" if folder.is_dir() else _cached(source, "config.json", revision)
    if path is None:
        answer = _ask_hub(source, revision) if HUB_ID.fullmatch(source) and not _offline() else None
        return answer if isinstance(answer, dict) else None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # ``problems`` says so
    return found if isinstance(found, dict) else None


def _cached(repo: str, name: str, revision: str | None) -> Path | None:
    """A file of the Hub's cache, looked up by hand: the library's own function takes a sixth of a second to import."""
    if not HUB_ID.fullmatch(repo):
        return None
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    try:
        commit = (folder / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
    except OSError:
        commit = revision or ""
    path = folder / "snapshots" / commit / name
    return path if commit and path.is_file() else None


@lru_cache
def _ask_hub(repo: str, revision: str | None) -> dict[str, Any] | int | None:
    """config.json of a Hub repository; the HTTP status of a refusal; None when the Hub cannot be reached.

    One short request, so that a check without a network stays quick: the library's own download tries for half a
    minute.
    """
    from huggingface_hub import constants

    url = f"{constants.ENDPOINT}/{repo}/resolve/{revision or 'main'}/config.json"
    token = _token(constants.HF_TOKEN_PATH)
    try:
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"} if token else {})
        with urllib.request.urlopen(request, timeout=HUB_SECONDS) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _token(path: str) -> str:
    try:
        return env.read("HF_TOKEN").strip() or Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _offline() -> bool:
    return env.flag("HF_HUB_OFFLINE") or env.flag("TRANSFORMERS_OFFLINE")


@lru_cache
def _capabilities() -> list[tuple[int, int]]:
    """Compute capability of each visible GPU, from nvidia-smi: asking torch takes seconds."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = [(int(a), int(b)) for a, b in re.findall(r"^(\d+)\.(\d+)\s*$", done.stdout, re.MULTILINE)]
    visible = env.read("CUDA_VISIBLE_DEVICES", "all")
    if visible == "all":
        return found
    names = [name.strip() for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if all(name.isdigit() for name in names):
        return [found[int(name)] for name in names if int(name) < len(found)]
    return found[: len(names)]


@lru_cache
def _cpu_bf16() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return bool(flags and {"avx512_bf16", "amx_bf16", "bf16"} & set(flags[1].split()))


@lru_cache
def installed() -> Mapping[str, str]:
    """Installed distributions, lower case with hyphens, and their versions: read from the names of their folders.

    Opening the metadata of each, as importlib does, takes longer than all the rest of a check.
    """
    found: dict[str, str] = {}
    for place in reversed(sys.path):
        for folder in Path(place or ".").glob("*.dist-info"):
            name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
            found[name.lower().replace("_", "-")] = version
    return found


def require_model(source: str, *, weights: bool = True, revision: str | None = None) -> None:
    """Stop when a model cannot be loaded from here.

    Raises:
        NewtError: says why and what to do.
    """
    if wrong := what_is_wrong(source, weights=weights, revision=revision):
        raise NewtError("base_model: " + " ".join(wrong))
