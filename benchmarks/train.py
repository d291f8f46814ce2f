"""What training costs: our steps against a bare loop, and against transformers' Trainer with peft.

    python benchmarks/train.py [overhead] [peer] [agree] [--model DIR ...] [--tokens 512] [--steps 6] [--rounds 2]

overhead  Our loop over the same work in ten lines of torch, full and LoRA. ``fixed``: milliseconds that a step costs
          more on a model with the same layers and narrow matrices, where nothing hides them, as a share of the step of
          the real model. ``wait``: making the batches of a step in the main process, as a share of the step.
peer      Tokens per second of LoRA (all linear layers) over those of transformers' Trainer and peft, both in float32,
          and of ours in the format that ``bf16: auto`` chooses over theirs in float32. Both get the same batches: pages
          of the documentation, packed, half of each sample trained.
agree     The loss after --agree steps of the same three runs, and how far it is from the peer's.

A random model of 30 million parameters is always measured; --model adds others (default: quickstart/model, if it is
there). The sides take turns. Times are CPU times of the process, medians of single steps without the first two, which
pay for memory and optimizer state; on one thread that is the time of a step on an idle machine. Prints one JSON line
for each number, with its target.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_scheduler,
    set_seed,
)

from newt.config.load import load
from newt.losses.causal import causal_loss, trained_tokens
from newt.models.facts import gather
from newt.models.load import load_model
from newt.models.tokenizer import load_tokenizer
from newt.registry import sections
from newt.run import EntryType, Run
from newt.training.batches import TOKENS

KINDS = ("overhead", "peer", "agree")
PAGES = Path(__file__).resolve().parents[1] / "docs"
SMALL = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 8,
         "num_key_value_heads": 4, "vocab_size": 16384}  # fmt: skip
NARROW = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2,
          "head_dim": 16, "vocab_size": 16384}  # fmt: skip
LORA = {"adapter": "lora", "lora_r": 16, "lora_alpha": 32, "lora_target_linear": True}
PRIVATE = (TOKENS, "loss_positions")
WARM_UP = 2


@dataclass
class Work:
    """What both sides do.

    Attributes:
        model: folder of the model.
        rows: token rows.
        tokens: of a packed row.
        steps: measured steps.
        rate: learning rate.
        clock: gives the time of the end of a step.
    """

    model: Path
    rows: Any
    tokens: int
    steps: int
    rate: float = 1e-4
    clock: Callable[[], float] = time.process_time


@dataclass
class Measured:
    """One run: seconds of its steps, and its logged losses."""

    times: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


class Rows:
    """Pieces of a text, an eighth to a half of a packed row long, the second half of each trained."""

    def __init__(self, ids: np.ndarray, tokens: int, packed_rows: int) -> None:
        lengths = np.random.default_rng(0).integers(tokens // 8, tokens // 2, packed_rows * 4)
        self.lengths = lengths.astype(np.int32)
        self.ids = np.resize(ids, int(lengths.sum())).astype(np.int32)
        self.ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        ids = self.ids[self.ends[index] - self.lengths[index] : self.ends[index]]
        return {"input_ids": ids, "labels": np.where(np.arange(len(ids)) < len(ids) // 2, -100, ids).astype(np.int32)}


class Clock(TrainerCallback):  # type: ignore[misc]
    """The time at the end of each step."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now, self.times = now, [0.0]

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.times.append(self.now())

    def steps(self) -> list[float]:
        """Seconds of each step after the first ones."""
        return np.diff(self.times)[WARM_UP:].tolist()


# --------------------------------------------------------------------------- our side


def our_trainer(work: Work, output: str, clock: Clock | None = None, **keys: Any) -> Any:
    """The trainer of a config, through the whole path of ``newt train`` but for the preparation of rows."""
    values = {
        "base_model": str(work.model),
        "datasets": [{"path": "rows.jsonl", "type": "completion"}],
        "sample_packing": True,
        "sequence_len": work.tokens,
        "micro_batch_size": 1,
        "learning_rate": work.rate,
        "lr_scheduler": "constant",
        "optimizer": "adamw_torch_fused",
        "weight_decay": 0.0,
        "max_steps": work.steps + WARM_UP,
        "logging_steps": 10,
        "save_strategy": "no",
        "output_dir": output,
        **keys,
    }
    loaded = load(values, (), sections=sections(), entry_type=EntryType())
    if loaded.config is None or any(problem.kind == "error" for problem in loaded.problems):
        raise SystemExit("\n".join(str(problem) for problem in loaded.problems))
    cfg = loaded.config
    run = Run(cfg, gather(cfg))
    refused = [
        str(problem) for problem in run.problems() if problem.kind == "error" and "rows.jsonl" not in str(problem)
    ]
    if refused:
        raise SystemExit("\n".join(refused))
    plan = run.train_plan()
    if clock is not None:
        plan.callbacks.append(lambda: clock)
    model = load_model(run.load_plan(), load_tokenizer(cfg))
    return run.method.trainer(plan, run.data_plan(), model, SimpleNamespace(train=work.rows, eval=None))


def our_run(work: Work, **keys: Any) -> Measured:
    """Our training."""
    clock = Clock(work.clock)
    with tempfile.TemporaryDirectory() as output:
        trainer = our_trainer(work, output, clock, **keys)
        trainer.train()
    return Measured(clock.steps(), losses_of(trainer))


def batches_of(work: Work, **keys: Any) -> list[dict[str, Any]]:
    """The batches that our trainer gets, for the other side."""
    with tempfile.TemporaryDirectory() as output:
        loader = our_trainer(work, output, float32=True, **LORA, **keys).get_train_dataloader()
        batches = [batch for _, batch in zip(range(work.steps + WARM_UP), loader, strict=False)]
    return [{key: value for key, value in batch.items() if key not in PRIVATE} for batch in batches]


def losses_of(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# --------------------------------------------------------------------------- the other sides


class Given(Trainer):  # type: ignore[misc]
    """transformers' Trainer, with batches that are there already."""

    def get_train_dataloader(self) -> Any:
        """The batches, as they are."""
        return DataLoader(self.train_dataset, batch_size=None)


def peer_run(work: Work, batches: list[dict[str, Any]], make_model: Callable[[], Any], **arguments: Any) -> Measured:
    """transformers' Trainer on the same batches."""
    clock = Clock(work.clock)
    with tempfile.TemporaryDirectory() as output:
        given = TrainingArguments(
            output_dir=output,
            max_steps=work.steps + WARM_UP,
            learning_rate=work.rate,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            per_device_train_batch_size=1,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=not torch.cuda.is_available(),
            **arguments,
        )
        trainer = Given(model=make_model(), args=given, train_dataset=batches, callbacks=[clock])
        trainer.train()
    return Measured(clock.steps(), losses_of(trainer))


def with_lora(model: Any) -> Any:
    """peft's adapter, with the same settings as ours."""
    from peft import LoraConfig, get_peft_model

    set_seed(42)
    rank, alpha = LORA["lora_r"], LORA["lora_alpha"]
    return get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    )


def peer_model(folder: Path) -> Any:
    return with_lora(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


def bare_run(work: Work, **keys: Any) -> Measured:
    """The model, batches and loss of our trainer in a bare loop."""
    with tempfile.TemporaryDirectory() as output:
        trainer = our_trainer(work, output, **keys)
    batches = iter(list(zip(range(work.steps + WARM_UP), trainer.get_train_dataloader(), strict=False)))
    model = trainer.model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], work.rate, fused=True)
    schedule = get_scheduler("constant", optimizer)
    times = []
    for _, batch in batches:
        begin = work.clock()
        inputs = {key: value for key, value in batch.items() if key != TOKENS}
        loss = causal_loss(model, inputs, trained_tokens(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        times.append(work.clock() - begin)
    return Measured(times[WARM_UP:])


# --------------------------------------------------------------------------- models and text


def write_model(folder: Path, base: Path | None = None, **sizes: Any) -> Path:
    """A random llama, or a random model like another one of other sizes; words of the documentation as tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    common = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 2, "tie_word_embeddings": True, **sizes}
    kind = json.loads((base / "config.json").read_text()) if base else {"model_type": "llama"}
    kind = {key: value for key, value in kind.items() if key not in common}
    config = AutoConfig.for_model(kind.pop("model_type"), **kind, **common)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    words = dict.fromkeys(re.findall(r"\w+|[^\w\s]+", text_of_pages()))
    ids = {word: number for number, word in enumerate(["<unk>", "<eos>", "<pad>", *words][: sizes["vocab_size"]])}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "<unk>", "eos_token": "<eos>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    return folder


def text_of_pages() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("*.md")))


def ids_of_pages(model: Path) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(model)
    return np.array(tokenizer(text_of_pages(), add_special_tokens=False)["input_ids"])


def work_of(model: Path, tokens: int, steps: int, rate: float = 1e-4) -> Work:
    return Work(model, Rows(ids_of_pages(model), tokens, 2 * (steps + WARM_UP)), tokens, steps, rate)


# --------------------------------------------------------------------------- what is measured


def turns(sides: dict[str, Callable[[], Measured]], rounds: int) -> dict[str, float]:
    """Median seconds of a step of each side, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name] += side().times
    return {name: median(found) for name, found in times.items()}


def loop_times(work: Work, keys: dict[str, Any], rounds: int) -> dict[str, float]:
    return turns({"bare": lambda: bare_run(work, **keys), "ours": lambda: our_run(work, **keys)}, rounds)


def measure_overhead(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Our loop against the bare one."""
    for kind, keys in (("full", {"float32": True}), ("lora", {"float32": True, **LORA})):
        work = work_of(folder, options.tokens, options.steps)
        found = loop_times(work, keys, options.rounds)
        with tempfile.TemporaryDirectory() as name:
            fixed = loop_times(work_of(write_model(Path(name), folder, **NARROW), 64, 30), keys, options.rounds)
            loader = our_trainer(work, name, **keys).get_train_dataloader()
        begin = time.process_time()
        count = sum(1 for _ in loader)
        wait = (time.process_time() - begin) / count
        more, step = fixed["ours"] - fixed["bare"], found["bare"]
        yield {"what": f"overhead {kind}", "step_s": step, "ratio": found["ours"] / step, "fixed_ms": 1e3 * more,
               "fixed_percent": 100 * more / step, "target": "at most 1 %"}  # fmt: skip
        yield {"what": f"wait {kind}", "wait_ms": 1e3 * wait, "wait_percent": 100 * wait / step,
               "target": "at most 0.5 %"}  # fmt: skip


def measure_peer(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """LoRA against transformers' Trainer and peft."""
    work = work_of(folder, options.tokens, options.steps)
    batches = batches_of(work)
    sides = {
        "peer": lambda: peer_run(work, batches, lambda: peer_model(folder), bf16=False),
        "float32": lambda: our_run(work, float32=True, **LORA),
        "auto": lambda: our_run(work, bf16="auto", **LORA),
    }
    found = turns(sides, options.rounds)
    for name, target in (("float32", 1.15), ("auto", 2.0)):
        yield {"what": f"lora {name} against Trainer and peft in float32", "tokens": work.tokens,
               "peer_s": found["peer"], "our_s": found[name], "ratio": found["peer"] / found[name],
               "target": f"at least {target}"}  # fmt: skip


def measure_agreement(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The loss of the last ten steps."""
    work = work_of(folder, min(options.tokens, 256), options.agree - WARM_UP, rate=1e-3)
    peer = peer_run(work, batches_of(work), lambda: peer_model(folder), bf16=False).losses
    for name, keys in (("float32", {"float32": True}), ("auto", {"bf16": "auto"})):
        ours = our_run(work, **keys, **LORA).losses
        yield {"what": f"loss of lora {name} after {options.agree} steps", "first": ours[0], "peer": peer[-1],
               "ours": ours[-1], "percent": 100 * abs(ours[-1] / peer[-1] - 1), "target": "at most 1 %"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--model", type=Path, action="append", help="folder of a further model")
    for name, value in (("tokens", 512), ("steps", 6), ("rounds", 2), ("threads", 1), ("agree", 50)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only-given", action="store_true", help="leave the random model out")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    torch.set_num_threads(options.threads)
    given = options.model or [path for path in [Path("quickstart/model")] if path.is_dir()]
    measures = {"overhead": measure_overhead, "peer": measure_peer, "agree": measure_agreement}
    with tempfile.TemporaryDirectory() as small:
        own = [] if options.only_given else [("random 30M", write_model(Path(small), **SMALL))]
        for name, folder in (*own, *((path.name, path) for path in given)):
            for kind in options.kinds or KINDS:
                for line in measures[kind](folder, options):
                    short = {key: float(f"{v:.4g}") if isinstance(v, float) else v for key, v in line.items()}
                    print(json.dumps({"model": name, **short}), flush=True)


if __name__ == "__main__":
    main()
