"""Training on one bf16 GPU: tokens per second, peak memory and share of what the GPU can do, against Trainer and peft.

    python benchmarks/gpu.py [--models 0.5B 1B 8B] [--tokens 2048 8192] [--kinds lora full] [--out gpu.json]
    python benchmarks/gpu.py --smoke

Random models of the shapes of Qwen2.5-0.5B, Llama-3.2-1B and Llama-3.1-8B, on packed rows of random tokens, half of
each sample trained. Ours runs as ``newt train`` would; the other side is transformers' Trainer (with peft) on the same
batches, once for each attention of --peer-attention that the machine has. Full training keeps its weights in float32
(8B: in bfloat16, or nothing would fit), and gradient checkpointing is on where --checkpointing names the model.

Each case is a process of its own, so that one that runs out of memory is a line and not the end. The JSON has the date,
the hardware and the versions. ``flop_share`` is 6 (LoRA: 4) operations for each weight that multiplies and token, over
--tflops; ``bandwidth_share`` is the weights read twice and the trained ones' update, over --bandwidth.

--smoke runs every path with tiny shapes, also on a CPU; without it and without a GPU nothing is run, and it says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from train import LORA, NARROW, Work, batches_of, our_run, peer_run, with_lora
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

LLAMA = {"model_type": "llama", "vocab_size": 128256, "head_dim": 64, "num_key_value_heads": 8, "rms_norm_eps": 1e-5}
SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": {"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
             "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
             "tie_word_embeddings": True},
    "1B": {**LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "tie_word_embeddings": True},
    "8B": {**LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "head_dim": 128,
           "num_attention_heads": 32, "tie_word_embeddings": False},
    "tiny": {"model_type": "llama", **NARROW, "num_hidden_layers": 2, "vocab_size": 256, "tie_word_embeddings": True},
}  # fmt: skip
PACKAGES = ("torch", "transformers", "peft", "accelerate")


class Rows:
    """Random tokens, an eighth to a half of a packed row long, the second half of each trained."""

    def __init__(self, vocabulary: int, tokens: int, packed_rows: int) -> None:
        import numpy as np

        rng = np.random.default_rng(0)
        self.lengths = rng.integers(tokens // 8, tokens // 2, packed_rows * 4).astype(np.int32)
        self.ids = [rng.integers(3, vocabulary, length).astype(np.int32) for length in self.lengths]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        labels = self.ids[index].copy()
        labels[: len(labels) // 2] = -100
        return {"input_ids": self.ids[index], "labels": labels}


def on_gpu() -> bool:
    return torch.cuda.is_available()


def device() -> str:
    return "cuda" if on_gpu() else "cpu"


def now() -> float:
    """The time when the device has done what it was given."""
    if on_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


def write_folder(folder: Path, shape: dict[str, Any], tokens: int) -> None:
    """What a config names as its model: config.json and a tokenizer; the weights are drawn when it is loaded."""
    from tokenizers import Tokenizer, models

    values = dict(shape)
    ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 2, "max_position_embeddings": max(tokens, 2048)}
    config = AutoConfig.for_model(values.pop("model_type"), **values, **ids)
    config.architectures = [type(AutoModelForCausalLM.from_config(tiny(config))).__name__]
    config.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1, "<pad>": 2}, unk_token="<unk>"))
    names = {"unk_token": "<unk>", "eos_token": "<eos>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)


def tiny(config: Any) -> Any:
    """The same architecture, of no size."""
    small = {**config.to_dict(), **NARROW, "num_hidden_layers": 1, "vocab_size": 8, "layer_types": None}
    return type(config).from_dict(small)


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    """Measure one side of one case.

    Args:
        case: model, kind, tokens, steps, side (``newt`` or an attention implementation) and checkpointing.
    """
    tokens, kind, shape = case["tokens"], case["kind"], SHAPES[case["model"]]
    # Weights of 16 bits: frozen ones, and all of a model whose float32 optimizer would not fit.
    half = on_gpu() and (kind == "lora" or case["model"] == "8B")
    with tempfile.TemporaryDirectory() as name, torch.device(device()):
        folder = Path(name)
        write_folder(folder, shape, tokens)
        rows = Rows(shape["vocab_size"], tokens, 2 * (case["steps"] + 4))
        work = Work(folder, rows, tokens, case["steps"], 1e-5, clock=now)
        if case["side"] == "newt":
            measured = our_run(work, **our_keys(case, half))
        else:
            batches = batches_of(Work(small_folder(folder, shape, tokens), rows, tokens, case["steps"]), **RANDOM)
            measured = peer_run(work, batches, lambda: peer_model(folder, case, half), **peer_arguments(case, half))
    return {**case, **numbers(case, median(measured.times), half)}


RANDOM = {"reinit_weights": True}


def small_folder(folder: Path, shape: dict[str, Any], tokens: int) -> Path:
    """A tiny model of the same architecture: enough to make the batches."""
    small = folder / "small"
    narrow = {key: value for key, value in NARROW.items() if key != "vocab_size"}
    write_folder(small, {**shape, **narrow, "num_hidden_layers": 1}, tokens)
    return small


def our_keys(case: dict[str, Any], half: bool) -> dict[str, Any]:
    keys = {**RANDOM, "gradient_checkpointing": case["checkpointing"]}
    if case["kind"] == "lora":
        return keys | LORA | {"bf16": "auto"}
    return keys | ({"bfloat16": True} if half else {"bf16": "auto"})


def peer_model(folder: Path, case: dict[str, Any], half: bool) -> Any:
    config = AutoConfig.from_pretrained(folder)
    kind = torch.bfloat16 if half else torch.float32
    with torch.device(device()):
        model = AutoModelForCausalLM.from_config(config, dtype=kind, attn_implementation=case["side"])
        return with_lora(model) if case["kind"] == "lora" else model


def peer_arguments(case: dict[str, Any], half: bool) -> dict[str, Any]:
    pure = half and case["kind"] == "full"
    return {"bf16": on_gpu() and not pure, "gradient_checkpointing": case["checkpointing"]}


def numbers(case: dict[str, Any], seconds: float, half: bool) -> dict[str, Any]:
    """Rates, memory, and shares of the roof."""
    values = dict(SHAPES[case["model"]])
    with torch.device("meta"):
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        model = AutoModelForCausalLM.from_config(config)
    weights = sum(parameter.numel() for parameter in model.parameters())
    looked_up = 0 if config.tie_word_embeddings else model.get_input_embeddings().weight.numel()
    full = case["kind"] == "full"
    operations = (6 if full else 4) * (weights - looked_up) * case["tokens"]
    width = 2 if half else 4
    # Full training also reads and writes weights, gradients and both moments in the optimizer's step.
    moved = width * weights * (2 + (8 if full else 0))
    return {
        "seconds": seconds,
        "tokens_per_second": case["tokens"] / seconds,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu() else None,
        "flop_share": operations / seconds / (case["tflops"] * 1e12),
        "bandwidth_share": moved / seconds / (case["bandwidth"] * 1e12),
    }


def cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every side of every case."""
    shared = {"steps": options.steps, "tflops": options.tflops, "bandwidth": options.bandwidth}
    return [
        {"model": model, "kind": kind, "tokens": tokens, "side": side, **shared,
         "checkpointing": model in options.checkpointing}
        for model in options.models for kind in options.kinds for tokens in options.tokens
        for side in ("newt", *options.peer_attention)
    ]  # fmt: skip


def in_process(case: dict[str, Any]) -> dict[str, Any]:
    """Run a case in a process of its own; what stopped it is its result."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return {**case, "failed": (said or ["it said nothing"])[-1][:300]}


def compare(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours against the fastest of the others, case by case."""
    rows = []
    for ours in (one for one in found if one["side"] == "newt" and "failed" not in one):
        same = [one for one in found if one["side"] != "newt" and "failed" not in one
                and all(one[key] == ours[key] for key in ("model", "kind", "tokens"))]  # fmt: skip
        if same:
            best = max(same, key=lambda one: one["tokens_per_second"])
            rows.append({key: ours[key] for key in ("model", "kind", "tokens")} | {
                "against": best["side"],
                "speed": ours["tokens_per_second"] / best["tokens_per_second"],
                "memory": ours["peak_gib"] / best["peak_gib"] if ours["peak_gib"] else None,
                "flop_share": ours["flop_share"]})  # fmt: skip
    return rows


def hardware() -> dict[str, Any]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    gpu = torch.cuda.get_device_name() if on_gpu() else None
    return {"gpu": gpu, "cuda": torch.version.cuda, "python": platform.python_version(), "packages": versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["0.5B", "1B", "8B"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[2048, 8192])
    parser.add_argument("--kinds", nargs="+", choices=("lora", "full"), default=["lora", "full"])
    parser.add_argument("--peer-attention", nargs="+", default=["sdpa", "flex_attention", "flash_attention_2"])
    parser.add_argument("--checkpointing", nargs="*", default=["8B"], help="models with gradient checkpointing")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--tflops", type=float, default=790, help="dense bf16 roof, 10^12 a second")
    parser.add_argument("--bandwidth", type=float, default=4.3, help="memory roof, 10^12 bytes a second")
    parser.add_argument("--out", type=Path, default=None, help="file of the results")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, also on a CPU")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case)))
        return
    if options.smoke:
        options.models, options.tokens, options.steps, options.peer_attention = ["tiny"], [64], 1, ["sdpa"]
        options.checkpointing = []
    elif not on_gpu():
        print(json.dumps({"skipped": "there is no GPU: nothing was run. --smoke tries the paths on a CPU."}))
        return
    found = []
    for case in cases(options):
        found.append(in_process(case))
        print(json.dumps(found[-1]), flush=True)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    result = {"date": date, "smoke": options.smoke, **hardware(), "ratios": compare(found), "cases": found}
    print(json.dumps({"ratios": result["ratios"]}))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.smoke and any("failed" in one for one in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
