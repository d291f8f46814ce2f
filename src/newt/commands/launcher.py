"""``--launcher``: start a command in several processes, through torchrun or accelerate."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from newt.commands.options import PASSED, WORDS

LAUNCHERS = ("python", "torchrun", "accelerate")
_MODULES = {"torchrun": "torch.distributed.run", "accelerate": "accelerate.commands.launch"}
_LEGACY = {
    "torchrun": {"num_processes": "--nproc-per-node", "main_process_port": "--master-port"},
    "accelerate": {"num_processes": "--num_processes", "main_process_port": "--main_process_port"},
}

Wish = Mapping[str, Any]
"""``launcher``, ``num_processes``, ``main_process_port``, as the command line gave them."""

F = TypeVar("F", bound=Callable[..., Any])


def launcher_options(function: F) -> F:
    """The options ``--launcher``, ``--num-processes`` and ``--main-process-port``."""
    for option in (
        click.option("--main-process-port", type=int, help="Port of the first process; passed on to the launcher."),
        click.option("--num-processes", type=click.IntRange(1), help="Processes; passed on to the launcher."),
        click.option(
            "--launcher",
            type=click.Choice(LAUNCHERS),
            help="Start through this; what follows -- is for it.",
        ),
    ):
        function = option(function)
    return function


def split_wish(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What :func:`launcher_options` gave, and all other options."""
    names = ("launcher", "num_processes", "main_process_port")
    return {name: options[name] for name in names}, {k: v for k, v in options.items() if k not in names}


def choose(
    passed: Sequence[str],
    launcher: str | None = None,
    num_processes: int | None = None,
    main_process_port: int | None = None,
) -> tuple[str, list[str]]:
    """The launcher and its arguments; without a wish that needs one: python, in this process.

    Raises:
        click.UsageError: there are arguments for a launcher, and it is python.
    """
    legacy = {"num_processes": num_processes, "main_process_port": main_process_port}
    given = {name: value for name, value in legacy.items() if value is not None}
    chosen = launcher or ("accelerate" if passed or given else "python")
    if chosen == "python":
        if passed or given:
            what = passed[0] if passed else "--" + next(iter(given)).replace("_", "-")
            raise click.UsageError(f"{what} is for a launcher. Add --launcher torchrun or --launcher accelerate.")
        return "python", []
    moved = [word for name, value in given.items() for word in (_LEGACY[chosen][name], str(value))]
    return chosen, [*moved, *passed]


def compose(launcher: str, launcher_args: Sequence[str], command: str, arguments: Sequence[str]) -> list[str]:
    """The whole command line of a process that runs ``newt COMMAND ARGUMENTS``.

    ``torchrun`` and ``accelerate launch`` are called as modules of this interpreter, so that no other installation of
    them can be met.
    """
    tail = ["-m", "newt.cli", command, *arguments]
    if launcher == "python":
        return [sys.executable, *tail]
    passed = with_rendezvous(launcher_args) if launcher == "torchrun" else list(launcher_args)
    return [sys.executable, "-m", _MODULES[launcher], *passed, *tail]


def with_rendezvous(arguments: Sequence[str]) -> list[str]:
    """Complete ``--rdzv_endpoint``: all nodes must use one backend and one id, so the id is made from the endpoint."""
    given: dict[str, str] = {}
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        given[name.replace("-", "_")] = value if equals else following
    endpoint = given.get("__rdzv_endpoint")
    if not endpoint:
        return list(arguments)
    added = []
    if "__rdzv_backend" not in given:
        added += ["--rdzv_backend", "c10d"]
    if "__rdzv_id" not in given:
        added += ["--rdzv_id", hashlib.sha256(endpoint.encode()).hexdigest()[:8]]
    return [*arguments, *added]


def relaunch(command: str, config: str, overrides: Mapping[str, Any], wish: Wish, *, writes: bool = False) -> None:
    """Check the config, then let the launcher take the place of this process; returns if no launcher is wanted.

    Args:
        command: name of the command that is running.
        config: its CONFIG.
        overrides: its overrides.
        wish: the values of :func:`launcher_options`.
        writes: the command starts a new run.

    Raises:
        ConfigError: the config is wrong; it is said once, not by every process.
    """
    from newt.commands.shared import open_run
    from newt.config.remote import is_url
    from newt.support import env
    from newt.support.log import warn

    meta = click.get_current_context().meta
    launcher, passed = choose(meta.get(PASSED, ()), **wish)
    if env.launched():
        avoid_peer_to_peer()
    if launcher == "python" or env.launched():
        return
    if launcher == "accelerate" and (found := default_config()):
        warn(f"accelerate also reads its default config {found}; what it says is not in your config file.")
    run = open_run(config, overrides, writes=writes)
    words = without_launcher(meta.get(WORDS, ()))
    if is_url(config):
        words = [str(run.cfg.source) if word == config else word for word in words]
    replace_process(compose(launcher, passed, command, words))


def default_config() -> Path | None:
    """The config file that ``accelerate launch`` reads when none is named, if there is one."""
    from newt.support import env

    home = Path(env.read("HF_HOME") or Path(env.read("XDG_CACHE_HOME") or "~/.cache") / "huggingface").expanduser()
    files = (home / "accelerate" / f"default_config.{kind}" for kind in ("yaml", "yml", "json"))
    return next((path for path in files if path.is_file()), None)


def avoid_peer_to_peer() -> None:
    """Switch off what GPUs of this kind cannot do, unless the user decided: direct transfers between them."""
    from accelerate.utils import check_cuda_p2p_ib_support

    from newt.support import env
    from newt.support.log import warn

    if env.read("NCCL_P2P_DISABLE") or env.read("NCCL_IB_DISABLE") or check_cuda_p2p_ib_support():
        return
    for name in ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"):
        env.set_default(name, "1")
    warn("These GPUs cannot exchange data directly: NCCL_P2P_DISABLE and NCCL_IB_DISABLE are set to 1.")


def without_launcher(words: Sequence[str]) -> list[str]:
    """The words of a command without the options that only choose the launcher."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        if name not in ("--launcher", "--num-processes", "--main-process-port"):
            kept.append(word)
        elif not equals:
            next(rest, None)
    return kept


def replace_process(argv: Sequence[str]) -> NoReturn:
    """Let a program take the place of this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(argv[0], list(argv))
