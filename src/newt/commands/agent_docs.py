"""newt agent-docs: short pages for coding agents, readable without a network."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = Path(__file__).parents[1] / "resources" / "agent_docs"
TOPICS = (
    "overview", "sft", "grpo", "preference_tuning", "reward_modelling", "pretraining", "model_architectures",
    "new_model_support",
)  # fmt: skip


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
    """The Markdown of a topic."""
    return (FOLDER / f"{topic}.md").read_text(encoding="utf-8")


def title(topic: str) -> str:
    """Its first heading."""
    return page(topic).partition("\n")[0].removeprefix("# ")
