"""newt train CONFIG --sweep SWEEP.yml: every combination of some values, each trained in its own process.

A sweep file maps keys to lists; the combinations are their cartesian product. The key ``_`` holds a list of
mappings whose keys change together. The members are numbered in the order of the file, and run in a shuffled order
that is always the same: a sweep that is stopped early has then seen something of everything.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from newt.config.section import ConfigError, Problem, Where
from newt.config.source import Source, join, read
from newt.support.errors import NewtError

PAIRED = "_"
SEED = 42
RECORD = "sweep.json"
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a member that was told to stop, and wrote a checkpoint."""

Choice = tuple[tuple[str, Any, str], ...]
"""(dotted key, value, dotted key in the sweep file) of what is set together."""


@dataclass
class Member:
    """One combination.

    Attributes:
        name: ``sweep0001`` ...
        settings: dotted keys with their values.
        places: dotted key -> where its value stands in the sweep file.
        output_dir: where it is trained.
        status: waiting, finished, failed or stopped.
        config_hash: of its whole config, so that a changed one is not taken for done.
        result: ``eval_loss``, ``train_loss`` and ``steps``, from its run.json.
    """

    name: str
    settings: dict[str, Any]
    places: dict[str, Where | None]
    output_dir: Path
    status: str = "waiting"
    config_hash: str = ""
    exit_code: int | None = None
    result: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        kept = ("name", "settings", "status", "exit_code", "config_hash", "result")
        return {**{key: getattr(self, key) for key in kept}, "output_dir": str(self.output_dir)}


def train_sweep(config: str, overrides: Mapping[str, Any], sweep: Path, wish: Mapping[str, Any]) -> int:
    """Check every member, then train them one after the other, then rank them.

    Args:
        config: the base config.
        overrides: of the command line; they hold for every member.
        sweep: the sweep file.
        wish: the launcher's options.

    Returns:
        Exit code: 0, 1 when a member failed, or that of the member that was stopped.

    Raises:
        ConfigError: with the problems of all members; nothing was started.
        NewtError: ``output_dir`` holds another sweep.
    """
    import click

    from newt.commands.launcher import choose
    from newt.commands.options import PASSED
    from newt.config.remote import is_url
    from newt.support.log import say

    launcher, passed = choose(click.get_current_context().meta.get(PASSED, ()), **wish)
    base = read(config)
    local = str(base.path) if is_url(config) else config
    root = _root(local, overrides)
    members = read_members(sweep, root, overrides)
    check_members(local, overrides, members)
    fresh = str(overrides.get("overwrite_output_dir", "")).lower() in ("true", "yes")
    if not fresh:
        _take_up(root, members)
    root.mkdir(parents=True, exist_ok=True)
    say(f"{len(members)} runs, each in its folder below {root}")
    code = 0
    for member in members:
        _write(root, config, sweep, members)
        if member.status == "finished":
            say(f"{member.name}: finished before")
            continue
        say(f"{member.name}: {describe(member)}")
        member.exit_code = _run(argv(member, local, overrides, launcher, passed))
        member.status = _status(member)
        if member.exit_code in STOPPED:
            code = abs(member.exit_code) if member.exit_code > 0 else 128 - member.exit_code
            break
        if member.status == "failed":
            say(f"{member.name}: failed with exit code {member.exit_code}; the sweep goes on")
    _write(root, config, sweep, members)
    _conclude(root, members)
    return code or int(any(member.status == "failed" for member in members))


# --------------------------------------------------------------------------- the members


def read_members(sweep: Path, root: Path, overrides: Mapping[str, Any]) -> list[Member]:
    """The combinations of a sweep file, in the order in which they run.

    Raises:
        ConfigError: the file is not a sweep.
    """
    source = read(sweep)
    problems = list(source.problems)
    axes = list(_axes(source, problems))
    swept = [key for axis in axes for key in dict.fromkeys(key for choice in axis for key, *_ in choice)]
    given = {str(key).replace("-", "_").replace("__", ".") for key in overrides}
    for key in dict.fromkeys(swept):
        where = source.where(key)
        if swept.count(key) > 1:
            problems.append(Problem((key,), "is swept twice.", f"Keep it in {PAIRED} or outside.", where))
        if key in given:
            problems.append(Problem((key,), "is swept, and given on the command line.", "Remove one.", where))
        if key == "output_dir":
            problems.append(Problem((key,), "cannot be swept: every run gets its folder below it.", "", where))
    if not axes and not problems:
        problems.append(Problem((), "sweeps nothing.", "Map keys to lists of values.", Where(str(sweep))))
    if problems:
        raise ConfigError(problems)
    combinations = [tuple(one for choice in choices for one in choice) for choices in product(*axes)]
    members = [
        Member(
            name := f"sweep{number:04d}",
            {key: value for key, value, _ in combination},
            {key: source.where(place) for key, _, place in combination},
            root / name,
        )
        for number, combination in enumerate(combinations, 1)
    ]
    random.Random(SEED).shuffle(members)
    return members


def _axes(source: Source, problems: list[Problem]) -> Iterator[list[Choice]]:
    for key, values in (source.values or {}).items():
        where = source.where(str(key))
        if not isinstance(values, list) or not values:
            problems.append(Problem((str(key),), "must be a list of the values to try.", "", where))
        elif key == PAIRED:
            wrong = [n for n, value in enumerate(values) if not isinstance(value, dict) or not value]
            for number in wrong:
                place = source.where(join(key, number))
                problems.append(Problem((join(key, number),), "must be a mapping of keys to values.", "", place))
            if not wrong:
                yield [tuple(_flat(value, "", join(key, number))) for number, value in enumerate(values)]
        else:
            name = str(key).replace("-", "_").replace("__", ".")
            yield [tuple(_flat({name: value}, "", join(key, number))) for number, value in enumerate(values)]


def _flat(value: Any, key: str, place: str) -> Iterator[tuple[str, Any, str]]:
    """Dotted keys of a nested mapping, so that it is merged into the base, not put in its place."""
    if not isinstance(value, dict) or not value:
        yield key, value, place
        return
    for name, item in value.items():
        yield from _flat(item, join(key, name), place)


def _root(config: str, overrides: Mapping[str, Any]) -> Path:
    from newt.commands.shared import find_problems
    from newt.config.core import RunControl

    run, problems = find_problems(config, overrides, facts=False)
    if run is None:
        raise ConfigError(problems)
    return Path(run.cfg[RunControl].output_dir).expanduser()


def check_members(config: str, overrides: Mapping[str, Any], members: Sequence[Member]) -> None:
    """Check all members as ``newt check`` does; a problem of a swept value names its line in the sweep file.

    Raises:
        ConfigError: with all problems.
    """
    from newt.commands.shared import find_problems
    from newt.support.log import warn

    found: dict[Problem, None] = {}
    for member in members:
        run, problems = find_problems(config, {**overrides, **member.settings, "output_dir": str(member.output_dir)})
        flags = {"--" + key.replace("_", "-"): key for key in member.settings}
        for problem in problems:
            key = flags.get(problem.where.file) if problem.where and not problem.where.line else None
            if "output_dir" not in problem.keys:
                found[replace(problem, where=member.places[key]) if key else problem] = None
        if run is not None:
            member.config_hash = _hash(run.cfg.to_dict())
    wrong = [problem for problem in found if problem.kind != "warning"]
    if wrong:
        raise ConfigError(wrong)
    for problem in found:
        warn(str(problem))


def _hash(config: Mapping[str, Any]) -> str:
    where = ("output_dir", "resume_from_checkpoint", "auto_resume_from_checkpoints", "overwrite_output_dir", "debug")
    kept = {key: value for key, value in config.items() if key not in where}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _take_up(root: Path, members: Sequence[Member]) -> None:
    """Find the members that an earlier, interrupted call has finished."""
    try:
        earlier = json.loads((root / RECORD).read_text(encoding="utf-8"))["members"]
        hashes = [one["config_hash"] for one in earlier]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        raise NewtError(f"output_dir: {root / RECORD} is damaged. Choose another output_dir.") from None
    if hashes != [member.config_hash for member in members]:
        raise NewtError(
            f"output_dir: {root} holds another sweep: its runs had other settings. Choose another output_dir, or add "
            "--overwrite-output-dir"
        )
    for member in members:
        member.result = _result(member.output_dir)
        if member.result.pop("done", False):
            member.status, member.exit_code = "finished", 0


# --------------------------------------------------------------------------- running


def argv(member: Member, config: str, overrides: Mapping[str, Any], launcher: str, passed: Sequence[str]) -> list[str]:
    """The command line that trains one member."""
    from newt.commands.launcher import compose

    keys = {**overrides, **member.settings, "output_dir": str(member.output_dir)}
    if any(member.output_dir.glob("checkpoint-*")) and "overwrite_output_dir" not in keys:
        keys["auto_resume_from_checkpoints"] = True
    words = [config, *(f"--{key.replace('_', '-')}={as_text(value)}" for key, value in keys.items())]
    return compose(launcher, passed, "train", words)


def as_text(value: Any) -> str:
    """A value as the command line reads it back."""
    return value if isinstance(value, str) else json.dumps(value)


def _run(command: Sequence[str]) -> int:
    """Run a member to its end. Ctrl+C reaches it from the terminal; SIGTERM is handed on."""
    process = subprocess.Popen(command)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)


def _status(member: Member) -> str:
    member.result = _result(member.output_dir)
    done = member.result.pop("done", False)
    if member.exit_code in STOPPED:
        return "stopped"
    return "finished" if member.exit_code == 0 and done else "failed"


def _result(folder: Path) -> dict[str, Any]:
    """Losses and steps of a run that ended, and whether it was ``done``."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        result = record["result"]
        return {
            "eval_loss": (result.get("eval") or {}).get("eval_loss"),
            "train_loss": result.get("train_loss"),
            "steps": result.get("global_step"),
            "done": bool(record.get("ended")) and result.get("stopped_by") is None,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


# --------------------------------------------------------------------------- what came out


def ranked(members: Sequence[Member]) -> list[Member]:
    """The best first: by evaluation loss, then training loss; those without a result last."""

    def key(member: Member) -> tuple[bool, tuple[tuple[bool, float], ...], str]:
        losses = [member.result.get(name) for name in ("eval_loss", "train_loss")]
        return member.status != "finished", tuple((loss is None, loss or 0.0) for loss in losses), member.name

    return sorted(members, key=key)


def describe(member: Member) -> str:
    """Its settings in one line."""
    return ", ".join(f"{key} {as_text(value)}" for key, value in member.settings.items())


def _write(root: Path, config: str, sweep: Path, members: Sequence[Member]) -> None:
    from newt.support.files import write_atomically

    content = {"config": config, "sweep": str(sweep), "members": [member.to_dict() for member in members]}
    write_atomically(root / RECORD, json.dumps(content, indent=1, default=str) + "\n")


def _conclude(root: Path, members: Sequence[Member]) -> None:
    from rich.console import Console
    from rich.table import Table

    from newt.report import numbers
    from newt.report.sweep import write_sweep_report
    from newt.support.log import say

    table = Table("run", "eval loss", "train loss", "steps", "status", "settings", box=None, pad_edge=False)
    for member in ranked(members):
        losses = [numbers.short(member.result.get(name)) for name in ("eval_loss", "train_loss")]
        table.add_row(member.name, *losses, numbers.count(member.result.get("steps")), member.status, describe(member))
    Console(width=None if Console().is_terminal else 120).print(table)
    say(f"The report is {write_sweep_report(root, [member.to_dict() for member in ranked(members)])}")
