"""Which values are shown nowhere."""

from __future__ import annotations

from typing import Any

SECRET = ("_api_key", "_token", "_secret")
NOT_SECRET = frozenset(f"{name}_token" for name in ("bos", "eos", "pad", "unk", "cls", "sep", "mask", "image", "eot"))
HIDDEN = "(hidden)"


def redacted(value: Any, key: str = "") -> Any:
    """A config without its secrets: values of keys that end in _api_key, _token or _secret."""
    if isinstance(value, dict):
        return {name: redacted(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, key) for item in value]
    secret = key.endswith(SECRET) and key not in NOT_SECRET
    return HIDDEN if secret and isinstance(value, str) and value else value
