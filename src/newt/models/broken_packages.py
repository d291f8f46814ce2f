"""Packages with compiled kernels that are installed and cannot be imported: transformers passes by them in silence."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from newt.support.errors import NewtError
from newt.support.log import warn

CONV = "causal_conv1d"
IMPORT_ERRORS = (ImportError, OSError, RuntimeError, AttributeError)
_REMEDY = "It was built for another torch. Uninstall it: pip uninstall causal-conv1d"


def refuse_broken_conv(error: BaseException, key: str, source: str) -> None:
    """Say what to do if loading a model failed because causal_conv1d cannot be imported.

    Args:
        error: what loading raised.
        key: the config key that names the model.
        source: the model.

    Raises:
        NewtError: it failed because of that.
    """
    if isinstance(error, IMPORT_ERRORS) and CONV in str(error) and importlib.util.find_spec(CONV) is not None:
        raise NewtError(f"{key}: cannot load {source}: {_short(error)}. {_REMEDY}") from error


def warn_of_broken_conv(model: Any, _notes: list[str]) -> None:
    """Say that a model with such convolutions is slow because causal_conv1d cannot be imported."""
    code = sys.modules.get(type(model).__module__)
    if not hasattr(code, f"{CONV}_fn"):
        return
    try:
        importlib.import_module(CONV)
    except IMPORT_ERRORS as error:
        warn(f"causal_conv1d is installed, but cannot be imported, and is not used: {_short(error)}. {_REMEDY}")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
