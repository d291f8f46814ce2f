"""What an adapter costs: a LoRA step against our own full fine-tuning step, memory of loading, CPU time of a start.

    python benchmarks/adapters.py [step] [memory] [start] [--tokens 2048] [--steps 6] [--rounds 2] [--threads 1]

step    LoRA on all linear layers over full fine-tuning: the same random model (about 30 million parameters), rows and
        number format, through the whole training path. The two take turns; medians of the CPU time of single steps,
        which on one thread is the time of a step on an idle machine.
memory  Peak of the process while a model is loaded, less what it held before, over the model in its training dtype: its
        own memory and the weights that stay mapped (a checkpoint in the training dtype is not copied). For comparison:
        with all pages of the weight files, which the system takes back when it needs them.
start   User and system time of ``newt train`` (LoRA) on a tiny model, less its one step: with optional packages hidden
        that peft and accelerate import wherever they are installed (bitsandbytes, torchao, boto3), and with them. For
        comparison: an import of the libraries alone. Newt's modules are compiled first, as an installation does it.

Prints one JSON line for each number, with its target.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

KINDS = ("step", "memory", "start")
VOCABULARY = 16384
SMALL = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 8,
         "num_key_value_heads": 4, "tie_word_embeddings": True}  # fmt: skip
LARGE = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 6, "num_attention_heads": 16,
         "num_key_value_heads": 8, "tie_word_embeddings": False}  # fmt: skip
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "tie_word_embeddings": True}  # fmt: skip
LORA = {"adapter": "lora", "lora_r": 16, "lora_alpha": 32, "lora_target_linear": True}
HIDE = "import sys; sys.modules.update(dict.fromkeys(['bitsandbytes', 'torchao', 'boto3']));"
RUN = "import sys; from newt.cli import main; sys.exit(main(['train', 'run{}.yml']))"
LIBRARIES = "import torch, transformers, peft; from transformers import Trainer, LlamaForCausalLM"
PROBE = """
import json, sys, threading, time
from benchmarks.adapters import config_of, resident
import peft, torch, transformers
from newt.models.load import load_model
from newt.models.tokenizer import load_tokenizer
from newt.run import Run
from newt.extend import Facts
run = Run(config_of(sys.argv[1], **json.loads(sys.argv[2])), Facts())
tokenizer = load_tokenizer(run.cfg)
plan = run.load_plan()
plan.kwargs["dtype"] = sys.argv[3]
before, whole = resident("RssAnon"), resident("VmHWM")
seen, done = [before], threading.Event()
def watch():
    while not done.wait(0.002):
        seen.append(resident("RssAnon"))
thread = threading.Thread(target=watch)
thread.start()
model = load_model(plan, tokenizer).model
done.set()
thread.join()
held = sum(p.numel() * p.element_size() for p in model.parameters())
touched = [bool(p.data.view(-1)[::256].sum()) for p in model.parameters()]
mapped = held - min(held, resident("RssAnon") - before)
print(json.dumps([max(seen) - before + mapped, resident("VmHWM") - whole, held]))
"""


def resident(kind: str) -> int:
    """Resident memory of this process, bytes: ``RssAnon`` is its own, ``VmHWM`` the most so far with mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) * 1024


def make_model(folder: Path, dtype: str, shards: str = "1GB", **sizes: Any) -> Path:
    """Write a random llama with a tokenizer of single words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = {"<unk>": 0, "<eos>": 1, "<pad>": 2} | {f"w{number}": number for number in range(3, VOCABULARY)}
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=4096, bos_token_id=1, eos_token_id=1,
                         pad_token_id=2, **sizes)  # fmt: skip
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shards)
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "<unk>", "eos_token": "<eos>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    return folder


def config_of(model: Path | str, **keys: Any) -> Any:
    """A checked config."""
    from newt.config.load import load
    from newt.registry import sections
    from newt.run import EntryType

    values = {
        "base_model": str(model),
        "datasets": [{"path": "rows.jsonl", "type": "completion"}],
        "learning_rate": 1e-4,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "save_strategy": "no",
        **keys,
    }
    loaded = load(values, (), sections=sections(), entry_type=EntryType())
    if loaded.config is None or loaded.problems:
        raise SystemExit("\n".join(str(problem) for problem in loaded.problems))
    return loaded.config


# --------------------------------------------------------------------------- a step


def step_times(folder: Path, options: argparse.Namespace, **keys: Any) -> list[float]:
    """Seconds of each step through the trainer, but the first two, which pay for memory and optimizer state."""
    import numpy as np
    from transformers import TrainerCallback

    from newt.models.facts import gather
    from newt.models.load import load_model
    from newt.models.tokenizer import load_tokenizer
    from newt.run import Run

    class Rows:
        """Random rows of full length, all of it trained."""

        def __init__(self) -> None:
            self.lengths = np.full(options.steps + 2, options.tokens, np.int32)

        def __len__(self) -> int:
            return len(self.lengths)

        def __getitem__(self, index: int) -> dict[str, Any]:
            ids = np.random.default_rng(index).integers(3, VOCABULARY, options.tokens).astype(np.int32)
            return {"input_ids": ids, "labels": np.where(np.arange(options.tokens) == 0, -100, ids).astype(np.int32)}

    class Clock(TrainerCallback):
        """CPU time of the process at the end of each step."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            """Note the time."""
            self.times.append(time.process_time())

    clock = Clock()
    with tempfile.TemporaryDirectory() as output:
        given = {"sequence_len": options.tokens, "max_steps": options.steps + 2, "output_dir": output}
        cfg = config_of(folder, **given, **keys)
        run = Run(cfg, gather(cfg))
        loaded = load_model(run.load_plan(), load_tokenizer(cfg))
        plan = run.train_plan()
        plan.callbacks.append(lambda: clock)
        data = type("Data", (), {"train": Rows(), "eval": None})
        trainer = run.method.trainer(plan, run.data_plan(), loaded, data)
        trainer.train()
    times = [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]
    return times[1:]


def measure_step(options: argparse.Namespace) -> dict[str, Any]:
    """LoRA step over full step."""
    import torch

    torch.set_num_threads(options.threads)
    full: list[float] = []
    lora: list[float] = []
    keys = {"float32": True} if options.float32 else {}
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), "bfloat16", **SMALL)
        for _ in range(options.rounds):
            full += step_times(Path(folder), options, **keys)
            lora += step_times(Path(folder), options, **LORA, **keys)
    return {"full_s": round(median(full), 3), "lora_s": round(median(lora), 3), "tokens": options.tokens,
            "ratio": round(median(lora) / median(full), 3), "target": "at most 0.8"}  # fmt: skip


# --------------------------------------------------------------------------- memory


def measure_memory(_: argparse.Namespace) -> dict[str, Any]:
    """Peak of loading over the loaded model, by number format on disk and in training."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for stored, trained, keys in (
            ("bfloat16", "bfloat16", LORA), ("float32", "bfloat16", LORA), ("bfloat16", "float32", {})
        ):  # fmt: skip
            model = Path(folder) / stored
            if not model.is_dir():
                make_model(model, stored, "200MB", **LARGE)
            command = [sys.executable, "-c", PROBE, str(model), json.dumps(keys), trained]
            root = str(Path(__file__).resolve().parents[1])
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
            used, pages, held = json.loads(done.stdout.splitlines()[-1])
            found[f"{stored} to {trained}"] = round(used / held, 3)
            found[f"{stored} to {trained}, with pages of the files"] = round(pages / held, 3)
    return {**found, "target": "at most 1.1"}


# --------------------------------------------------------------------------- start


def measure_start(options: argparse.Namespace) -> dict[str, Any]:
    """CPU time of a run on a tiny model: that of one step, less what a further step costs."""
    import newt

    compileall.compile_dir(newt.__path__[0], quiet=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model", "bfloat16", **TINY)
        rows = [{"text": " ".join(f"w{(row * 7 + word) % 999 + 3}" for word in range(64))} for row in range(40)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = [{"path": str(folder / "rows.jsonl"), "type": "completion"}]
        keys = {
            "base_model": str(folder / "model"), "datasets": data,
            "learning_rate": 1e-4, "micro_batch_size": 1, "gradient_accumulation_steps": 1, "report_samples": 0,
            "save_strategy": "no", "sequence_len": 128, **LORA,
        }  # fmt: skip
        for steps in (1, 9):
            keys |= {"max_steps": steps, "output_dir": str(folder / f"out{steps}"), "overwrite_output_dir": True}
            (folder / f"run{steps}.yml").write_text(json.dumps(keys))
        times: dict[Any, float] = {}
        for hidden in (HIDE, ""):
            for name, code in {1: RUN.format(1), 9: RUN.format(9), "libraries": LIBRARIES}.items():
                runs = [cpu_seconds(hidden + code, folder, options.threads) for _ in range(options.rounds)]
                times[hidden, name] = min(runs)
    found = {}
    for key, hidden in (("cpu_s", HIDE), ("cpu_s_with_optional", "")):
        step = (times[hidden, 9] - times[hidden, 1]) / 8
        found[key] = round(times[hidden, 1] - step, 2)
        found[key.replace("cpu_s", "libraries_s")] = round(times[hidden, "libraries"], 2)
    return {**found, "target": "cpu_s at most 4"}


def cpu_seconds(code: str, folder: Path, threads: int) -> float:
    """User and system time of Python code that must succeed."""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode:
            raise SystemExit(said.read().decode())
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=(*KINDS, "all"), default="all")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--float32", action="store_true", help="steps in float32 instead of bf16: auto")
    options = parser.parse_args()
    measures = {"step": measure_step, "memory": measure_memory, "start": measure_start}
    for kind in KINDS if "all" in options.kinds else options.kinds:
        print(json.dumps({"measure": kind, **measures[kind](options)}), flush=True)


if __name__ == "__main__":
    main()
