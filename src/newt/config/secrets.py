"""Which values are shown nowhere."""

from __future__ import annotations

from typing import Any

SECRET = ("_api_key", "_token", "_secret", "_webhook_url")
NOT_SECRET = frozenset(f"{name}_token" for name in ("bos", "eos", "pad", "unk", "cls", "sep", "mask", "image", "eot"))
OPTIONS = "storage_options"
"""Its values open the places of rows; which of them are secrets depends on the place."""
HIDDEN = "(hidden)"


def redacted(value: Any, key: str = "") -> Any:
    """A config without its secrets: values of keys that end as ``SECRET`` says, and of storage_options."""
    if key == OPTIONS:
        return dict.fromkeys(value, HIDDEN) if isinstance(value, dict) else value
    if isinstance(value, dict):
        return {name: redacted(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, key) for item in value]
    return HIDDEN if is_secret(key) and isinstance(value, str) and value else value


def is_secret(key: str) -> bool:
    """Whether the value of a key is shown nowhere."""
    return key == OPTIONS or (key.endswith(SECRET) and key not in NOT_SECRET)
