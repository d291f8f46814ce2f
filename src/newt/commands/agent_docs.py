"""newt agent-docs: short pages for coding agents, readable without a network.

What a page says about commands, families, dataset types and what works today comes from the code when it is printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click

FOLDER = Path(__file__).parents[1] / "resources" / "agent_docs"
TOPICS = (
    "overview", "sft", "grpo", "preference_tuning", "reward_modelling", "pretraining", "model_architectures",
    "new_model_support",
)  # fmt: skip

_BASE = {
    "base_model": "org/model",
    "learning_rate": 1e-5,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
}
_LORA = {"lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


def _with(kind: str, **keys: Any) -> dict[str, Any]:
    return {"datasets": [{"path": "data.jsonl", "type": kind}], **keys}


SAMPLES: Mapping[str, Mapping[str, Any]] = {
    "full": _with("chat_template"),
    "lora": _with("chat_template", adapter="lora", **_LORA),
    "qlora": _with("chat_template", adapter="qlora", load_in_4bit=True, **_LORA),
    "pretrain": {"pretraining_dataset": [{"path": "data.jsonl"}], "max_steps": 100},
    "dpo": _with("chatml.intel", rl="dpo"),
    "ipo": _with("chatml.intel", rl="ipo"),
    "kto": _with("chatml.ultra", rl="kto", remove_unused_columns=False),
    "orpo": _with("chat_template.argilla", rl="orpo", chat_template="chatml", remove_unused_columns=False),
    "simpo": _with("chatml.intel", rl="simpo"),
    "grpo": _with(
        "rewards.prompts", rl="grpo", micro_batch_size=2, trl={"num_generations": 2, "reward_funcs": ["rewards.length"]}
    ),
    "reward": _with("bradley_terry.chat_template", reward_model=True),
    "process_reward": _with("stepwise_supervised", process_reward_model=True),
    "images": _with("chat_template", processor_type="AutoProcessor"),
}
"""What a page speaks of -> a small config that asks for it; checking it answers whether it works."""


@click.command("agent-docs")
@click.argument("topic", required=False, shell_complete=lambda *_: list(TOPICS))
@click.option("--list", "listed", is_flag=True, help="List the topics with their titles.")
def command(topic: str | None, listed: bool) -> None:
    """Print the overview, or the page of a TOPIC."""
    if listed:
        width = max(map(len, TOPICS))
        click.echo("\n".join(f"{name.ljust(width)}  {title(name)}" for name in TOPICS))
        return
    name = (topic or TOPICS[0]).lower().replace("-", "_")
    if name not in TOPICS:
        raise click.UsageError(f"there is no topic {topic!r}. There are: {', '.join(TOPICS)}.")
    click.echo(page(name), nl=False)


def page(topic: str) -> str:
    """The Markdown of a topic, with what the code knows filled in."""
    from jinja2 import Environment, StrictUndefined

    # A page is Markdown for a terminal: there is no HTML to escape.
    made = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    known = {"commands": commands, "families": families, "types": types, "works": works, "today": today}
    return made.from_string(_text(topic)).render(known)


def title(topic: str) -> str:
    """Its first heading."""
    return _text(topic).partition("\n")[0].removeprefix("# ")


def _text(topic: str) -> str:
    return (FOLDER / f"{topic}.md").read_text(encoding="utf-8")


def commands() -> str:
    """Every command with its line of help."""
    from newt.commands.table import COMMANDS

    usage = {name: f"newt {name}{'' if entry.group == 'Tools' else ' config.yml'}" for name, entry in COMMANDS.items()}
    width = max(map(len, usage.values()))
    return "\n".join(f"{usage[name].ljust(width)}  {entry.help}" for name, entry in COMMANDS.items())


def families() -> str:
    """The architectures that are proved to keep packed samples apart."""
    from newt.models.isolation import proofs

    return ", ".join(kind for kind, proof in proofs().items() if proof.packing)


def types() -> str:
    """Values of ``type`` that supervised fine-tuning reads today."""
    from newt.layouts import FORMATS

    built = [fmt for fmt in FORMATS if fmt.rows == "supervised" and not fmt.Settings.is_coming("type")]
    return ", ".join(f"`{fmt.name}`" for fmt in dict.fromkeys(built))


@cache
def missing(name: str) -> tuple[str, ...]:
    """Keys of a sample that Newt does not support yet."""
    from newt.commands.shared import find_problems

    _, problems = find_problems({**_BASE, **SAMPLES[name]}, facts=False)
    return tuple(problem.keys[0] for problem in problems if problem.kind == "unsupported" and problem.keys)


def works(name: str) -> bool:
    """Whether a sample can be run today."""
    return not missing(name)


def today(name: str) -> str:
    """The same in words."""
    keys = ", ".join(f"`{key}`" for key in missing(name))
    return f"not supported yet ({keys})" if keys else "works"
