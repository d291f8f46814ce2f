"""Packages that are installed only by those who use them."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from newt.support.errors import NewtError


def require(package: str, *, extra: str, used_by: str) -> ModuleType:
    """Import an optional package, or say in one line how to install it.

    Args:
        package: import name, such as ``gguf``.
        extra: the extra of ours that installs it.
        used_by: the key or command that needs it.

    Raises:
        NewtError: the package is not installed.
    """
    if find_spec(package) is None:
        raise NewtError(f"{used_by} needs the package {package!r}: pip install 'newt-tune[{extra}]'")
    return import_module(package)
