"""The answer to a model that needs Python code which comes with it."""

from __future__ import annotations

from newt.support.errors import NewtError


def refuse_foreign_code(error: BaseException, key: str, source: str) -> None:
    """Say in one line what transformers says in many; nothing if the error is another.

    Raises:
        NewtError: the code is needed, and not allowed.
    """
    if "trust_remote_code" in str(error):
        raise NewtError(
            f"{key}: {source} needs Python code that comes with it. Read that code, and if you trust it, set "
            "trust_remote_code: true"
        ) from error
