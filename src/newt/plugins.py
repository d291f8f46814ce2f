"""Parts that users write: ``plugins: [my_parts.Loudness]`` imports the class and lets it join the run.

Newt's own plugins are names of ``config.plugins``: their Parts are always registered, and no import happens.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path

from newt.config.load import owners
from newt.config.plugins import is_users_own
from newt.config.section import Problem, Section
from newt.extend import Feature
from newt.support.files import nearest_name

IMPORT_ERRORS = (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, LookupError, OSError)
"""What a module that is being written usually raises. Anything else is shown with its traceback."""


def load_plugins(
    names: Iterable[object], sections: Sequence[type[Section]], taken: Iterable[str] = ()
) -> tuple[tuple[type[Feature], ...], list[Problem]]:
    """Import the user's Parts; names of Newt's own plugins are left to ``config.plugins``.

    Args:
        names: the value of ``plugins``.
        sections: all sections without plugins, whose keys a Part may not claim.
        taken: names of the Parts that exist already.

    Returns:
        The Parts in the order of the list, and what is wrong (places are not filled in).
    """
    found: list[type[Feature]] = []
    problems: list[Problem] = []
    owned = {key: f"the section {section.__name__}" for key, section in owners(sections).items()}
    parts = set(taken)
    for number, name in enumerate(names):
        if not isinstance(name, str) or not is_users_own(name):
            continue
        part = _import(name.strip())
        wrong = part if isinstance(part, str) else _what_is_wrong(part, owned, parts)
        if wrong:
            problems.append(Problem((f"plugins.{number}",), f"{name}: {wrong}"))
        elif not isinstance(part, str) and part not in found:
            found.append(part)
            parts.add(part.name)
            owned |= {key: f"the plugin {name}" for section in part.Settings for key in section.model_fields}
    return tuple(found), problems


def _import(path: str) -> type[Feature] | str:
    """The class, or why there is none."""
    module_name, _, name = path.rpartition(".")
    here = str(Path.cwd())
    # A console script does not look into the current folder. The entry stays: worker processes must find it too.
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            near = nearest_name(Path(*module_name.split(".")).with_suffix(".py"))
            hint = f"Did you mean {near}?" if near else "Install it, or run newt where its file is."
            return f"there is no module {error.name}. {hint}"
        return f"its import failed: {error}."
    except IMPORT_ERRORS as error:
        return f"its import failed: {type(error).__name__}: {' '.join(str(error).split())}."
    found = getattr(module, name, None)
    if found is None:
        classes = [key for key, value in vars(module).items() if _is_part(value) and value is not Feature]
        return f"{module_name} has no {name}." + (f" It has: {', '.join(classes)}." if classes else "")
    if not _is_part(found):
        return f"{name} is not a subclass of newt.extend.Feature."
    part: type[Feature] = found
    return part


def _is_part(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Feature)


def _what_is_wrong(part: type[Feature], owned: dict[str, str], parts: set[str]) -> str:
    """Why a class cannot join, or ""."""
    if inspect.isabstract(part) or not isinstance(getattr(part, "name", None), str):
        return "it has no name. Set name: ClassVar[str]."
    if part.name in parts:
        return f"its name {part.name!r} is taken by another Part."
    active: Callable[..., bool] = part.active
    if active.__func__ is Feature.active.__func__:  # type: ignore[attr-defined]
        return "it does not say when it is active. Define the classmethod active(cls, cfg)."
    for section in part.Settings:
        for key in section.model_fields:
            if key in owned:
                return f"its key {key} belongs to {owned[key]}."
    return ""
