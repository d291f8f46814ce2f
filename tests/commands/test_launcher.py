"""Command lines of launchers."""

from __future__ import annotations

import hashlib
import os
import sys

import click
import pytest

from newt.commands import launcher
from newt.commands.launcher import choose, compose, with_rendezvous, without_launcher

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
ID = hashlib.sha256(b"node1:29400").hexdigest()[:8]


@pytest.mark.parametrize(
    ("passed", "wish", "chosen"),
    [
        ((), {}, ("python", [])),
        ((), {"launcher": "torchrun"}, ("torchrun", [])),
        (("--nproc-per-node", "2"), {"launcher": "torchrun"}, ("torchrun", ["--nproc-per-node", "2"])),
        (("--multi_gpu",), {}, ("accelerate", ["--multi_gpu"])),
        ((), {"num_processes": 4}, ("accelerate", ["--num_processes", "4"])),
        (
            ("--x",),
            {"launcher": "torchrun", "num_processes": 4, "main_process_port": 29501},
            ("torchrun", ["--nproc-per-node", "4", "--master-port", "29501", "--x"]),
        ),
    ],
)
def test_choice(passed, wish, chosen):
    assert choose(passed, **wish) == chosen


def test_python_takes_no_launcher_arguments():
    with pytest.raises(click.UsageError, match="--nproc-per-node is for a launcher"):
        choose(("--nproc-per-node", "2"), launcher="python")
    with pytest.raises(click.UsageError, match="--num-processes is for a launcher"):
        choose((), launcher="python", num_processes=2)


def test_composed_command_lines():
    tail = ["-m", "newt.cli", "train", "c.yml", "--seed=1"]
    assert compose("python", (), "train", ["c.yml", "--seed=1"]) == [sys.executable, *tail]
    assert compose("torchrun", ["--nnodes=2"], "train", ["c.yml", "--seed=1"]) == [*TORCHRUN, "--nnodes=2", *tail]
    assert compose("accelerate", ["--cpu"], "train", ["c.yml", "--seed=1"]) == [*ACCELERATE, "--cpu", *tail]


@pytest.mark.parametrize(
    ("given", "added"),
    [
        (["--rdzv_endpoint=node1:29400"], ["--rdzv_backend", "c10d", "--rdzv_id", ID]),
        (["--rdzv-endpoint", "node1:29400", "--nnodes=2"], ["--rdzv_backend", "c10d", "--rdzv_id", ID]),
        (["--rdzv-endpoint=node1:29400", "--rdzv-id=7"], ["--rdzv_backend", "c10d"]),
        (["--rdzv_endpoint=node1:29400", "--rdzv_backend=etcd"], ["--rdzv_id", ID]),
        (["--nnodes=2"], []),
    ],
)
def test_the_rendezvous_is_the_same_on_every_node(given, added):
    assert with_rendezvous(given) == [*given, *added]


def test_words_without_the_launcher():
    words = [
        "c.yml",
        "--launcher",
        "torchrun",
        "--lora-r",
        "8",
        "--num-processes=2",
        "--debug",
        "--main-process-port",
        "1",
    ]
    assert without_launcher(words) == ["c.yml", "--lora-r", "8", "--debug"]


@pytest.fixture
def started(monkeypatch):
    seen = []

    def replace(argv):
        seen.append(list(argv))
        raise SystemExit(0)

    monkeypatch.setattr(launcher, "replace_process", replace)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return seen


@pytest.mark.parametrize("command", ["train", "evaluate", "inference"])
def test_commands_hand_over_to_the_launcher(newt, write_config, started, command):
    config = write_config()
    code, _, err = newt(command, config, "--launcher", "torchrun", "--lora-r", "8", "--", "--nproc-per-node", "2")
    assert code == 0, err
    tail = ["-m", "newt.cli", command, str(config), "--lora-r", "8"]
    assert started == [[*TORCHRUN, "--nproc-per-node", "2", *tail]]


def test_a_wrong_config_is_not_launched(newt, write_config, started):
    code, _, err = newt("train", write_config(lora_alhpa=8), "--launcher", "torchrun")
    assert code == 2
    assert "Did you mean lora_alpha?" in err
    assert started == []


def test_a_launched_process_does_not_launch_again(newt, write_config, started, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    code, _, _ = newt("train", write_config(lora_alhpa=8), "--launcher", "torchrun")
    assert (code, started) == (2, [])


def test_other_commands_know_no_launcher(newt, write_config):
    code, _, err = newt("check", write_config(), "--", "--nproc-per-node", "2")
    assert code == 2
    assert "nproc_per_node" in err or "nproc" in newt("check", write_config(), "--", "--nproc-per-node", "2")[1]


def test_a_default_config_of_accelerate_is_mentioned(newt, write_config, started, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    config = write_config()
    assert "default config" not in newt("train", config, "--launcher", "accelerate")[2]
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "default_config.yaml").touch()
    assert f"reads its default config {tmp_path / 'accelerate'}" in newt("train", config, "--launcher", "accelerate")[2]


def test_gpus_without_direct_transfers(monkeypatch, capsys):
    import accelerate.utils

    for name in ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(accelerate.utils, "check_cuda_p2p_ib_support", lambda: True)
    launcher.avoid_peer_to_peer()
    assert "NCCL_P2P_DISABLE" not in os.environ
    monkeypatch.setattr(accelerate.utils, "check_cuda_p2p_ib_support", lambda: False)
    monkeypatch.setenv("NCCL_P2P_DISABLE", "0")
    launcher.avoid_peer_to_peer()
    assert os.environ["NCCL_P2P_DISABLE"] == "0"
    monkeypatch.delenv("NCCL_P2P_DISABLE")
    launcher.avoid_peer_to_peer()
    assert (os.environ["NCCL_P2P_DISABLE"], os.environ["NCCL_IB_DISABLE"]) == ("1", "1")
    assert "cannot exchange data directly" in capsys.readouterr().err
