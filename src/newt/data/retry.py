"""Trying again what may go better a little later."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of whichever HTTP library it uses

from newt.support.errors import NewtError

T = TypeVar("T")

WAITS = (5, 10)
"""Seconds before the second and the third try after a network error."""
_PASSING = re.compile(r"connect|timeout|timedout|serverdisconnected|incompleteread|serviceresponse")
_BUSY = frozenset({"slowdown", "throttling", "throttlingexception", "internalerror", "serviceunavailable"})


def retried(load: Callable[[], T], errors: tuple[type[Exception], ...], fail: Callable[[Exception], NewtError]) -> T:
    """Load, with two more tries after network errors.

    Args:
        load: what is tried.
        errors: what it may raise when something outside of Newt is wrong.
        fail: makes the error for the user from the last of these.
    """
    for wait in (*WAITS, None):
        try:
            return load()
        except errors as error:
            if wait is None or not may_pass(error):
                raise fail(error) from error
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def is_offline(error: Exception) -> bool:
    """Whether the Hub's library refused because it was told to be offline."""
    return "OfflineModeIsEnabled" in f"{type(error).__name__} {error}"


def may_pass(error: Exception) -> bool:
    """Whether a network error may be gone at the next try."""
    if is_offline(error):
        return False
    status = _status(error)
    if status is not None:
        return status >= 500 or status in (408, 429)
    name = type(error).__name__.lower()
    known = isinstance(error, (ConnectionError, TimeoutError, HTTPError))
    return known or _PASSING.search(name) is not None or _code(error) in _BUSY or _cause_may_pass(error)


def _status(error: Exception) -> int | None:
    """Status of an HTTP answer, however the library keeps it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None) or getattr(error, "status_code", None)
        status = status or getattr(error, "code", None)
    return status if isinstance(status, int) else None


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")).lower() if isinstance(response, dict) else ""


def _cause_may_pass(error: Exception) -> bool:
    """Libraries wrap the error that matters: a file system into OSError, urllib into URLError."""
    cause = getattr(error, "reason", None) or error.__cause__
    return isinstance(cause, Exception) and cause is not error and may_pass(cause)


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its name."""
    return (str(error).splitlines() or [""])[0].strip() or type(error).__name__
