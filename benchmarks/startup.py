"""What the commands that should answer at once cost, against an empty Python process.

    python benchmarks/startup.py [--repeats 5]

The modules are compiled first, as an installation does it.

Prints one JSON line for each command: the least CPU time (user and system) of its process in seconds, its ratio to
``python -c pass``, the exit code, and which of the heavy libraries it imported.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import newt

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
HEAVY = ("torch", "transformers", "datasets", "pyarrow")
WRONG = "base_model: org/model\nlearning_rte: 1e-4\nmicro_batch_size: many\n"
NEWT = "import sys; from newt.cli import main; sys.exit(main(sys.argv[1:]))"


def cpu_seconds(command: list[str]) -> tuple[float, int]:
    """User and system time of one run of a command, and its exit code."""
    process = subprocess.Popen(command, cwd=EXAMPLES, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, process.returncode


def least(command: list[str], repeats: int) -> tuple[float, int]:
    """The cheapest of several runs: noise only adds."""
    return min(cpu_seconds(command) for _ in range(repeats))


def imported(command: list[str]) -> list[str]:
    """The heavy libraries that a run imports, from the interpreter's own import log."""
    timed = [command[0], "-X", "importtime", *command[1:]]
    log = subprocess.run(timed, cwd=EXAMPLES, capture_output=True, text=True, check=False).stderr
    names = {line.rpartition("|")[2].strip() for line in log.splitlines() if line.startswith("import time:")}
    return [name for name in HEAVY if name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    compileall.compile_dir(newt.__path__[0], quiet=1)
    program = [sys.executable, "-c", NEWT]
    bare, _ = least([sys.executable, "-c", "pass"], repeats)
    with tempfile.TemporaryDirectory() as folder:
        wrong = Path(folder) / "wrong.yml"
        wrong.write_text(WRONG, encoding="utf-8")
        for name, arguments in {
            "--help": ["--help"],
            "--version": ["--version"],
            "check, an invalid file": ["check", str(wrong)],
            "check --no-facts, a right file": ["check", "--no-facts", "quickstart/lora.yml"],
        }.items():
            seconds, code = least([*program, *arguments], repeats)
            row = {"command": name, "cpu_s": round(seconds, 3), "ratio": round(seconds / bare, 1), "exit": code}
            row |= {"bare_cpu_s": round(bare, 3), "heavy": imported([*program, *arguments])}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
