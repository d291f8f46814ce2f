"""What every command does first: read the config, look at the machine, report what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from newt.commands.options import CONFIG
from newt.config.core import Data
from newt.config.load import load
from newt.config.overrides import infer, parse
from newt.config.section import Config, ConfigError, Problem
from newt.config.source import Source as ReadSource
from newt.config.source import read
from newt.extend import Facts, Feature
from newt.registry import sections
from newt.run import EntryType, Run
from newt.support import env
from newt.support.log import warn

Source = str | Path | Mapping[str, Any] | ReadSource
Overrides = Mapping[str, Any] | Sequence[str]


def find_problems(
    source: Source,
    overrides: Overrides = (),
    *,
    facts: bool = True,
    writes: bool | None = False,
    assume: Mapping[str, Any] | None = None,
    data: bool = True,
) -> tuple[Run | None, list[Problem]]:
    """Read a config and collect everything that is wrong with it, sorted by line. Torch-free.

    Args:
        source: a YAML file, a folder with one, a web address, or a mapping.
        overrides: dotted keys that replace those of the file.
        facts: also look at this machine, the files and the model's config.
        writes: the command starts a new run, so ``output_dir`` must not hold another one; False: it would be said as a
            warning; None: the command needs the run that is there.
        assume: facts of another machine, which replace those of this one (see ``commands.assume``).
        data: the command reads the datasets, so they must be there.
    """
    found = read(source)
    parts, problems = plugin_parts(found, overrides)
    loaded = load(found, overrides, sections=sections(parts), entry_type=EntryType())
    problems += loaded.problems
    if loaded.config is None:
        return None, problems
    cfg = loaded.config
    run = Run(cfg, look(cfg, assume, data=data) if facts else Facts(), parts)
    known = {key for problem in problems for key in problem.keys}
    later = [*run.problems(), *(outside(cfg, writes, data=data) if facts else ())]
    problems += [problem for problem in later if not known & set(_with_parents(problem.keys))]
    return run, sorted(dict.fromkeys(problems), key=_by_place)


def open_run(source: Source, overrides: Overrides = (), *, writes: bool = False, data: bool = True) -> Run:
    """Read a config that must be right; print its warnings.

    Args:
        source: a YAML file, a folder with one, a web address, or a mapping.
        overrides: dotted keys that replace those of the file.
        writes: the command starts a new run.
        data: the command reads the datasets.

    Raises:
        ConfigError: with all problems.
    """
    env.no_telemetry()
    run, problems = find_problems(source, overrides, writes=writes or None, data=data)
    wrong = [problem for problem in problems if problem.kind != "warning"]
    if wrong or run is None:
        raise ConfigError(wrong)
    for problem in problems:
        warn(str(problem))
    if (context := click.get_current_context(silent=True)) is not None:
        context.meta[CONFIG] = run.cfg
    return run


def plugin_parts(found: ReadSource, overrides: Overrides) -> tuple[tuple[type[Feature], ...], list[Problem]]:
    """The Parts that ``plugins`` names in a file that is read and its overrides, imported before the keys are read."""
    value = (found.values or {}).get("plugins")
    for override in parse(overrides):
        if override.parts == ("plugins",):
            value = infer(override.value) if isinstance(override.value, str) else override.value
    if not isinstance(value, list | tuple) or not any(isinstance(name, str) and "." in name for name in value):
        return (), []
    from newt.plugins import load_plugins
    from newt.registry import FEATURES, METHODS

    parts, problems = load_plugins(value, sections(), [part.name for part in (*METHODS, *FEATURES)])
    return parts, [replace(problem, where=found.where(problem.keys[0])) for problem in problems]


def look(cfg: Config, assume: Mapping[str, Any] | None = None, *, data: bool = True) -> Facts:
    """What is true of this machine (or of the one that is assumed), the base model and the datasets."""
    from newt.data.preflight import first_columns
    from newt.models.facts import gather

    columns = {}
    for key, entry in _entries(cfg) if data else ():
        found = first_columns(entry)
        if found is not None:
            columns[key] = tuple(found)
    return replace(gather(cfg), columns=columns, **(assume or {}))


def outside(cfg: Config, writes: bool | None, *, data: bool = True) -> Iterable[Problem]:
    """Problems of files and folders that the config names."""
    from newt.data.preflight import problems as data_problems
    from newt.models.facts import problems as model_problems
    from newt.training.outputs import problems as output_problems

    yield from model_problems(cfg)
    for key, entry in _entries(cfg) if data else ():
        yield from data_problems(entry, key, cfg)
    for problem in output_problems(cfg) if writes is not None else ():
        yield problem if writes else replace(problem, kind="warning")


def _entries(cfg: Config) -> Iterable[tuple[str, Any]]:
    texts = cfg.value("pretraining_dataset")
    lists = (
        ("datasets", cfg[Data].datasets),
        ("pretraining_dataset", texts),
        ("test_datasets", cfg[Data].test_datasets),
    )
    for key, entries in lists:
        for number, entry in enumerate(entries or ()):
            yield f"{key}.{number}", entry


def _with_parents(keys: Iterable[str]) -> Iterable[str]:
    """Dotted keys and all keys above them."""
    for key in keys:
        while key:
            yield key
            key = key.rpartition(".")[0]


def _by_place(problem: Problem) -> tuple[str, int]:
    return (problem.where.file, problem.where.line) if problem.where else ("", 0)
