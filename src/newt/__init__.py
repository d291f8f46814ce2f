"""Newt fine-tunes language models from one YAML file.

The functions below are those of ``newt.api``; they are loaded when first used, so importing newt is instant.
"""

from typing import TYPE_CHECKING, Any

from newt.support.version import __version__ as __version__

if TYPE_CHECKING:
    from newt.api import check, evaluate, generate, load_config, merge_lora, pack, tokenize, train
    from newt.support.errors import DataError, NewtError

__all__ = [
    "DataError",
    "NewtError",
    "check",
    "evaluate",
    "generate",
    "load_config",
    "merge_lora",
    "pack",
    "tokenize",
    "train",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("DataError", "NewtError"):
        return getattr(import_module("newt.support.errors"), name)
    if name in __all__:
        return getattr(import_module("newt.api"), name)
    raise AttributeError(f"module 'newt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
