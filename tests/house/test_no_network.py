"""Nothing is asked of any server, and nothing is sent, unless the config or the user wants it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

WATCHED = """
import json, socket, sys

seen = []

def refuse(name):
    real = getattr(socket.socket, name)
    def call(self, address, *more):
        if self.family not in (socket.AF_INET, socket.AF_INET6) or address[1] == 0:
            return real(self, address, *more)  # port 0: a library looks whether there is IPv6
        seen.append([name, str(address)])
        raise OSError("there is no network")
    setattr(socket.socket, name, call)

for name in ("connect", "connect_ex", "bind"):
    refuse(name)

def resolve(host, *more, **options):
    seen.append(["getaddrinfo", str(host)])
    raise socket.gaierror("there is no network")

socket.getaddrinfo = resolve
"""

COMMANDS = """
from newt.cli import main

codes = []
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as end:
        codes.append(end.code)
counts = sys.modules.get("huggingface_hub.constants")
counted = counts is not None and not counts.HF_HUB_DISABLE_TELEMETRY
print("RESULT", json.dumps({"seen": seen, "codes": codes, "counted": counted}))
"""


def run(commands: list[list[str]], folder: Path) -> dict[str, Any]:
    """Runs commands in one new process without a network; nothing says that it is offline."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    kept = {name: value for name, value in kept.items() if name not in ("DO_NOT_TRACK", "CI")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED + COMMANDS, json.dumps(commands)],
        env={**kept, "HF_HOME": str(folder / "hub")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert results, done.stderr
    found: dict[str, Any] = json.loads(results[-1].removeprefix("RESULT"))
    return found


@pytest.mark.slow
def test_a_whole_day_of_work_opens_no_connection(model_dir: Path, chat_file: Path, tmp_path: Path) -> None:
    """Check, data, training, evaluation and merge, with the trackers that stay on this machine."""
    keys = {
        "base_model": str(model_dir),
        "datasets": [{"path": str(chat_file), "type": "chat_template"}],
        "val_set_size": 8,
        "sequence_len": 128,
        "adapter": "lora",
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_target_linear": True,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_steps": 2,
        "eval_steps": 1,
        "learning_rate": 0.01,
        "generate_samples": True,
        "generation_max_new_tokens": 2,
        "use_tensorboard": True,
        "dataset_num_proc": 1,
        "output_dir": "out",
    }
    config = tmp_path / "config.yml"
    config.write_text(yaml.safe_dump(keys))
    verbs = ("check", "preprocess", "inspect", "plot-schedule", "train", "evaluate", "merge-lora")
    commands = [[verb, str(config)] for verb in verbs] + [["config-schema"], ["families"]]
    found = run(commands, tmp_path)
    assert found == {"seen": [], "codes": [0] * len(commands), "counted": False}


def test_the_watch_sees_what_is_asked_for(tmp_path: Path) -> None:
    assert run([["check", "https://example.com/config.yml"]], tmp_path)["seen"]
