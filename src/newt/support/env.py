"""The only place that reads or writes environment variables.

Newt's own variables begin with ``NEWT_``; the same names with ``AXOLOTL_`` are read too, after them.

=============================  =====================================================================================
Variable                       Meaning
=============================  =====================================================================================
NEWT_DATASET_NUM_PROC          Processes that tokenize, when ``dataset_num_proc`` is not set. Older name:
                               NEWT_DATASET_PROCESSES. Then RUNPOD_CPU_COUNT, then the cores of this process.
NEWT_LOG_LEVEL                 WARNING: no remarks. ERROR: no warnings either. Default: INFO.
LOG_LEVEL                      The same for transformers, datasets and the Hub's library; unset, they decide.
NEWT_NCCL_TIMEOUT              Seconds that a process waits for the others, when ``ddp_timeout`` is not set.
NEWT_IS_PREPROCESS             Set to 1 by ``newt preprocess``, for code of the user that wants to know.
NEWT_DO_NOT_TRACK              Accepted, and without effect: Newt sends nothing. The same holds for DO_NOT_TRACK.
NO_COLOR                       No colours.
HF_HUB_OFFLINE                 Nothing is asked of the Hub; also TRANSFORMERS_OFFLINE.
CUDA_VISIBLE_DEVICES           The GPUs that are counted.
WORLD_SIZE RANK LOCAL_RANK     Set by a launcher: number of processes, this one's number, its number on the machine.
PYTORCH_ALLOC_CONF             Set to expandable_segments:True unless it, or PYTORCH_CUDA_ALLOC_CONF, is set.
TOKENIZERS_PARALLELISM         Set to false where tokenizing runs in several processes.
HF_HUB_DISABLE_TELEMETRY       Set to 1: the Hub's library and TRL count nobody.
=============================  =====================================================================================

A file ``.env`` in the current folder sets variables that are not set yet.
"""

import os
from collections.abc import Mapping
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


def mark_preprocess() -> None:
    """Say to code of the user that data is prepared, not trained on."""
    os.environ["NEWT_IS_PREPROCESS"] = "1"


def launched() -> bool:
    """Whether a launcher started this process."""
    return "LOCAL_RANK" in os.environ


def set_default(name: str, value: str) -> None:
    """Set a variable for this process and its children unless the user did."""
    os.environ.setdefault(name, value)


def export(values: Mapping[str, str]) -> None:
    """Set variables for libraries, child processes and code of the user."""
    os.environ.update(values)


def no_telemetry() -> None:
    """Keep the Hub's library from counting its users, which TRL does through it. Before that library is loaded."""
    set_default("HF_HUB_DISABLE_TELEMETRY", "1")


def set_process_defaults() -> None:
    """What a process that computes should have, before torch is loaded. The user's own values stay."""
    no_telemetry()
    set_default("TOKENIZERS_PARALLELISM", "false")
    set_default("XFORMERS_IGNORE_FLASH_VERSION_CHECK", "1")
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        # Segments of the CUDA allocator that grow waste less memory.
        set_default("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    level = read("LOG_LEVEL").strip().lower()
    if level in ("debug", "info", "warning", "error", "critical"):
        for library in ("TRANSFORMERS", "DATASETS", "HF_HUB"):
            set_default(f"{library}_VERBOSITY", level)
    # Threads that spin while they wait take the cores from the work, as soon as anything else runs on the machine.
    set_default("OMP_WAIT_POLICY", "passive")


def nccl_timeout() -> int | None:
    """Seconds that NEWT_NCCL_TIMEOUT (AXOLOTL_NCCL_TIMEOUT) asks for, or None."""
    wanted = setting("NCCL_TIMEOUT").strip()
    return int(wanted) if wanted.isdigit() and int(wanted) else None


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
