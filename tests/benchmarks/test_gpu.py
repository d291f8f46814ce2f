"""The GPU benchmark runs everywhere with tiny shapes, and says so where it was not run."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


def one(side: str, speed: float, **more: object) -> dict[str, object]:
    shared = {"model": "1B", "kind": "lora", "tokens": 2048, "peak_gib": 10.0, "flop_share": 0.5}
    return {**shared, "side": side, "tokens_per_second": speed, **more}


def test_without_a_gpu_it_says_that_nothing_was_run(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    gpu.main()
    assert "nothing was run" in json.loads(capsys.readouterr().out)["skipped"]


def test_ours_is_compared_with_the_fastest_of_the_others(gpu):
    others = [one("sdpa", 50.0, peak_gib=20.0), one("flex_attention", 80.0, peak_gib=40.0)]
    elsewhere = [one("sdpa", 900.0, tokens=8192), {**one("flash_attention_2", 1.0), "failed": "no such package"}]
    (ratio,) = gpu.compare([one("newt", 120.0), *others, *elsewhere])
    assert (ratio["against"], ratio["speed"], ratio["memory"]) == ("flex_attention", 1.5, 0.25)


def test_operations_and_bytes_are_counted_by_hand(gpu, monkeypatch):
    # Attention 4 x 32 x 32, mlp 3 x 32 x 32 and two norms in each of two layers; a tied embedding; the last norm.
    weights = 2 * (7 * 32 * 32 + 2 * 32) + 256 * 32 + 32
    case = {"model": "tiny", "kind": "lora", "tokens": 10, "tflops": 1e-6, "bandwidth": 1e-6}
    found = gpu.numbers(case, 2.0, half=True)
    assert found["flop_share"] == pytest.approx(4 * weights * 10 / 2.0 / 1e6)
    assert found["bandwidth_share"] == pytest.approx(2 * weights * 2 / 2.0 / 1e6)
    assert gpu.numbers({**case, "kind": "full"}, 2.0, half=False)["flop_share"] == pytest.approx(30 * weights / 1e6)


@pytest.mark.slow
def test_every_path_runs_with_tiny_shapes(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--smoke", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    result = json.loads(out.read_text())
    assert result["smoke"] is True
    assert result["date"] and result["packages"]["torch"] == torch.__version__
    assert {(case["kind"], case["side"]) for case in result["cases"]} == {
        ("lora", "newt"), ("lora", "sdpa"), ("full", "newt"), ("full", "sdpa"),
    }  # fmt: skip
    assert all(case["tokens_per_second"] > 0 for case in result["cases"])
