"""Plugins: names that switch on a group of keys."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

from newt.config.section import Config, Problem, Section

KNOWN = (
    "CutCrossEntropyPlugin", "LigerPlugin", "SpectrumPlugin", "GrokfastPlugin", "KDPlugin", "DenseMixerPlugin",
    "DiffusionPlugin", "LLMCompressorPlugin", "LMEvalPlugin", "KernelsPlugin", "ExpertParallelPlugin", "MoraPlugin",
    "SwanLabPlugin", "NemoGymPlugin", "HatcheryPlugin",
)  # fmt: skip
"""Plugins of the field: the last part of the dotted path that a config writes."""

FOREIGN = "axolotl."
"""Paths below this are the field's own names, never modules that could be imported here."""

BUILT: frozenset[str] = frozenset({"GrokfastPlugin", "SwanLabPlugin"})
"""Those whose Part is built."""


class Plugins(Section):
    """Which groups of further keys a config uses."""

    plugins: tuple[str, ...] | None = None
    """Names of plugins, such as ``LigerPlugin``. A dotted path that ends in the name means the same."""

    def check(self, cfg: Config) -> Iterable[Problem]:
        """Every plugin is one of Newt's own."""
        for path in self.plugins or ():
            name = _name(path)
            if name in BUILT or is_users_own(path):
                continue
            near = get_close_matches(name, KNOWN, 1, cutoff=0.8)
            if name not in KNOWN and near:
                yield cfg.problem("plugins", f"unknown plugin {path!r}.", f"Did you mean {near[0]}?")
            else:
                yield from _not_there(cfg, path, name)


class PluginSection(Section):
    """Keys that belong to a plugin.

    Class attributes:
        plugin: its name.
    """

    plugin: ClassVar[str]

    def check(self, cfg: Config) -> Iterable[Problem]:
        """Each key that asks for something needs the plugin."""
        if has_plugin(cfg, self.plugin):
            return
        for key in type(self).model_fields:
            if key in cfg.given and getattr(self, key) is not False:
                yield cfg.problem(key, f"needs {self.plugin}.", f"Add the line '- {self.plugin}' below plugins:.")

    def asked(self, cfg: Config) -> bool:
        """The plugin is listed, or one of its keys is set to something."""
        keys = type(self).model_fields
        return has_plugin(cfg, self.plugin) or any(key in cfg.given and getattr(self, key) for key in keys)


def has_plugin(cfg: Config, name: str) -> bool:
    """Whether the config lists a plugin."""
    return any(_name(path) == name for path in cfg[Plugins].plugins or ())


def is_users_own(path: str) -> bool:
    """Whether a path names a class of the user (``my_parts.MyPart``), which ``newt.plugins`` imports."""
    path = path.strip()
    return "." in path and _name(path) not in KNOWN and not path.startswith(FOREIGN)


def _not_there(cfg: Config, path: str, name: str) -> Iterable[Problem]:
    if name in KNOWN:
        yield cfg.problem("plugins", f"{name} is known, but Newt does not support it yet.", kind="unsupported")
    else:
        hint = "Name one of Newt's, or a class of yours as module.Class."
        yield cfg.problem("plugins", f"unknown plugin {path!r}.", hint)


def _name(path: str) -> str:
    return path.strip().rpartition(".")[2]
