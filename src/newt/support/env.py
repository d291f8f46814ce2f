"""The only place that reads or writes environment variables."""

import os
from pathlib import Path

_TRUE = {"1", "true", "yes", "on"}


def read(name: str, default: str = "") -> str:
    """Value of a variable, or the default."""
    return os.environ.get(name, default)


def setting(name: str, default: str = "") -> str:
    """Value of ``NEWT_<name>``, else of ``AXOLOTL_<name>``, else the default."""
    return os.environ.get(f"NEWT_{name}", os.environ.get(f"AXOLOTL_{name}", default))


def flag(name: str) -> bool:
    """True when the variable holds 1, true, yes or on."""
    return read(name).strip().lower() in _TRUE


def set_default(name: str, value: str) -> None:
    """Set a variable for this process and its children unless the user did."""
    os.environ.setdefault(name, value)


def world_size() -> int:
    """Number of training processes, as the launcher set it."""
    return int(read("WORLD_SIZE", "1") or 1)


def rank() -> int:
    """Global rank of this process."""
    return int(read("RANK", "0") or 0)


def local_rank() -> int:
    """Rank of this process on its machine."""
    return int(read("LOCAL_RANK", "0") or 0)


def num_proc() -> int:
    """Processes for dataset work: DATASET_NUM_PROC, RUNPOD_CPU_COUNT, else the cores this process may use."""
    wanted = setting("DATASET_NUM_PROC") or setting("DATASET_PROCESSES") or read("RUNPOD_CPU_COUNT")
    return max(1, int(wanted)) if wanted.isdigit() else len(os.sched_getaffinity(0))


def load_file(path: Path) -> None:
    """Set the variables of a ``.env`` file (lines ``KEY=VALUE``) that are not set yet; a missing file is fine."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.strip().isidentifier():
            set_default(name.strip(), _unquoted(value.strip()))


def _unquoted(value: str) -> str:
    if value[:1] in ("'", '"') and value[0] in value[1:]:
        return value[1 : value.index(value[0], 1)]
    return value.partition(" #")[0].rstrip()
