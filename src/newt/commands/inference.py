"""newt inference: ask the trained model something."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from newt.commands.launcher import launcher_options, relaunch, split_wish
from newt.commands.options import config_command

RULE = "=" * 80


@config_command("inference", launcher=True)
@click.option("--base-model", metavar="PATH", help="Another base model than the config's.")
@click.option("--lora-model-dir", metavar="DIR", help="The adapter to use. Default: output_dir.")
@click.option("--base", is_flag=True, help="Ask the base model, even if a trained one exists.")
@click.option("--raw", is_flag=True, help="Use the text as it is, without the chat template.")
@click.option("--max-new-tokens", default=1024, show_default=True, help="Longest answer in tokens.")
@click.option("--temperature", default=0.9, show_default=True, help="0: always the most likely token.")
@click.option("--top-p", default=0.95, show_default=True, help="Sample from the most likely tokens of this total.")
@click.option("--top-k", default=40, show_default=True, help="Sample from this many tokens.")
@click.option("--repetition-penalty", default=1.1, show_default=True, help="Above 1: repeat less.")
@click.option("--lines", is_flag=True, help="Each input line is one prompt.")
@launcher_options
def command(config: str, overrides: dict[str, Any], base: bool, raw: bool, lines: bool, **options: Any) -> None:
    """Read prompts from standard input and stream the answers."""
    from newt.commands.shared import open_run

    wish, sampling = split_wish(options)
    for key in ("base_model", "lora_model_dir"):
        if (value := sampling.pop(key)) is not None:
            overrides[key] = value
    relaunch("inference", config, overrides, wish)
    chat = Chat(open_run(config, overrides), base=base, raw=raw, sampling=sampling)
    for prompt in _prompts(lines):
        for piece in chat.answer(prompt):
            click.echo(piece, nl=False)
        click.echo(f"\n{RULE}")


class Chat:
    """A loaded model that answers prompts, each on its own.

    Args:
        run: a checked run.
        base: use the base model even if a trained one exists.
        raw: no chat template.
        sampling: max_new_tokens, temperature, top_p, top_k, repetition_penalty.
    """

    def __init__(self, run: Any, *, base: bool, raw: bool, sampling: dict[str, Any]) -> None:
        from newt.commands.steps import open_tokenizer, trained_in
        from newt.config.core import RunControl, Template
        from newt.models.generate import load_for_inference
        from newt.support.log import note

        self.tokenizer = open_tokenizer(run)
        folder = None if base else trained_in(run)
        note(f"Answering with {folder or 'the base model'}")
        self.model = load_for_inference(run.load_plan(), self.tokenizer, folder)
        self.raw = raw or self.tokenizer.chat_template is None
        self.template_kwargs = dict(run.cfg[Template].chat_template_kwargs or {})
        self.sampling = {**sampling, "seed": run.cfg[RunControl].seed}

    def answer(self, prompt: str) -> Iterator[str]:
        """Stream the answer to one prompt in pieces of text."""
        from newt.models.generate import stream

        return stream(self.model, self.tokenizer, self.prompt_ids(prompt), **self.sampling)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of the prompt as one user message, ready for an answer."""
        if self.raw:
            return list(self.tokenizer(prompt)["input_ids"])
        ids = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_dict=False,
            **self.template_kwargs,
        )
        return list(ids)


def _prompts(lines: bool) -> Iterator[str]:
    if lines:
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    while True:
        if sys.stdin.isatty():
            click.echo(f"Write a prompt and end it with Ctrl+D; an empty one ends the program.\n{RULE}", err=True)
        prompt = sys.stdin.read().strip()
        if not prompt:
            return
        yield prompt
        if not sys.stdin.isatty():
            return
