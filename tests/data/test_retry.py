"""What is tried again, and what is not."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import pytest

from newt.data.retry import may_pass, retried
from newt.support.errors import DataError


class ClientError(Exception):
    """As botocore raises it."""

    def __init__(self, status: int, code: str = "X") -> None:
        super().__init__(code)
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}


class ReadTimeoutError(Exception):
    """A name that many libraries use."""


class StatusError(Exception):
    """As HTTP libraries raise it."""

    def __init__(self, status: int) -> None:
        self.response = type("Response", (), {"status_code": status})()


def wrapped(cause: Exception) -> OSError:
    error = OSError("wrapped")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionResetError("x"), True),
        (TimeoutError("x"), True),
        (URLError(ConnectionRefusedError(111, "refused")), True),
        (wrapped(ReadTimeoutError()), True),
        (ReadTimeoutError(), True),
        (ClientError(503), True),
        (ClientError(429), True),
        (StatusError(500), True),
        (StatusError(404), False),
        (ClientError(403), False),
        (FileNotFoundError("x"), False),
        (PermissionError("x"), False),
        (ValueError("x"), False),
        (ConnectionError("OfflineModeIsEnabled"), False),
    ],
)
def test_what_may_pass(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes


def test_three_tries_with_longer_and_longer_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("newt.data.retry.time.sleep", waits.append)
    errors: list[Exception] = [TimeoutError("a"), TimeoutError("b")]

    def load() -> Any:
        if errors:
            raise errors.pop()
        return "rows"

    def fail(error: Exception) -> DataError:
        return DataError(f"failed: {error}")

    assert retried(load, (OSError,), fail) == "rows"
    assert waits == [5, 10]
    errors[:] = [FileNotFoundError("gone")]
    with pytest.raises(DataError, match="failed: gone"):
        retried(load, (OSError,), fail)
    errors[:] = [KeyError("a bug")]
    with pytest.raises(KeyError):
        retried(load, (OSError,), fail)
    assert waits == [5, 10]
