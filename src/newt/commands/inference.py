"""newt inference: ask the trained model something."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from newt.commands.launcher import launcher_options, relaunch, split_wish
from newt.commands.options import config_command

RULE = "=" * 80
SAMPLING = ("max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty")


@config_command("inference", launcher=True)
@click.option("--base-model", metavar="PATH", help="Another base model than the config's.")
@click.option("--lora-model-dir", metavar="DIR", help="The adapter to use. Default: output_dir.")
@click.option("--base", is_flag=True, help="Ask the base model, even if a trained one exists.")
@click.option("--raw", is_flag=True, help="Use the text as it is, without the chat template.")
@click.option("--prompter", metavar="NAME", help="Write prompts as this dataset type does: alpaca ... None: as --raw.")
@click.option("--max-new-tokens", default=1024, show_default=True, help="Longest answer in tokens.")
@click.option("--temperature", default=0.9, show_default=True, help="0: always the most likely token.")
@click.option("--top-p", default=0.95, show_default=True, help="Sample from the most likely tokens of this total.")
@click.option("--top-k", default=40, show_default=True, help="Sample from this many tokens.")
@click.option("--repetition-penalty", default=1.1, show_default=True, help="Above 1: repeat less.")
@click.option("--lines", is_flag=True, help="Each input line is one prompt.")
@click.option("--chat", "mode", flag_value="chat", help="Hold a conversation; /help lists its commands.")
@click.option("--gradio", "mode", flag_value="gradio", help="Serve a web page on this machine (extra: gradio).")
@launcher_options
def command(config: str, overrides: dict[str, Any], mode: str | None, lines: bool, **options: Any) -> None:
    """Read prompts from standard input and stream the answers."""
    from newt.commands.shared import open_run

    _only_one_mode(lines)
    wish, rest = split_wish(options)
    for key in ("base_model", "lora_model_dir"):
        if (value := rest.pop(key)) is not None:
            overrides[key] = value
    relaunch("inference", config, overrides, wish)
    run = open_run(config, overrides, data=False)
    if mode == "gradio":
        from newt.commands.web import require_gradio, serve

        require_gradio()
        _take_settings_of_the_page(run, rest)
    chat = Chat(run, sampling={name: rest.pop(name) for name in SAMPLING}, **rest)
    if mode == "gradio":
        serve(chat, run)
    elif mode == "chat":
        from newt.commands.chat import hold

        hold(chat)
    else:
        _answer_input(chat, lines)


def _only_one_mode(lines: bool) -> None:
    """The last of two modes would win without a word."""
    from newt.commands.options import WORDS

    words = click.get_current_context().meta.get(WORDS, ())
    asked = [name for name in ("--chat", "--gradio") if name in words] + ["--lines"] * lines
    if len(asked) > 1:
        raise click.UsageError(f"{asked[0]} and {asked[1]} cannot be used together. Keep one.")


def _take_settings_of_the_page(run: Any, options: dict[str, Any]) -> None:
    """The page's own keys, where the command line does not say otherwise."""
    from newt.features.gradio import GradioSettings

    settings, context = run.cfg[GradioSettings], click.get_current_context()
    for name in ("max_new_tokens", "temperature"):
        value = getattr(settings, f"gradio_{name}")
        if value is not None and context.get_parameter_source(name) == ParameterSource.DEFAULT:
            options[name] = value


def _answer_input(chat: Chat, lines: bool) -> None:
    for prompt in _prompts(lines):
        for piece in chat.answer(prompt):
            click.echo(piece, nl=False)
        click.echo(f"\n{RULE}")


class Chat:
    """A loaded model that answers prompts and conversations.

    Args:
        run: a checked run.
        base: use the base model even if a trained one exists.
        raw: no chat template.
        sampling: max_new_tokens, temperature, top_p, top_k, repetition_penalty.
        prompter: dataset type whose prompt style is used instead of the chat template; ``None``: as ``raw``.
    """

    def __init__(
        self, run: Any, *, base: bool, raw: bool, sampling: Mapping[str, Any], prompter: str | None = None
    ) -> None:
        from newt.commands.prompts import is_raw, reads_conversations
        from newt.commands.prompts import prompter as find_prompter
        from newt.commands.steps import open_tokenizer, trained_in
        from newt.config.core import RunControl, Template
        from newt.models.generate import load_for_inference
        from newt.models.tokenizer import has_chat_format
        from newt.support.log import note

        styled = prompter is not None and not is_raw(prompter)
        self.write = find_prompter(run, str(prompter)) if styled else str
        self.tokenizer = open_tokenizer(run)
        self.raw = raw or prompter is not None or not has_chat_format(self.tokenizer)
        if not self.raw and not reads_conversations(run):
            self.raw = True
            note("Prompts are used as they are: the data holds no conversations. --prompter chooses a prompt style.")
        folder = None if base else trained_in(run)
        self.source = str(folder or "the base model")
        note(f"Answering with {self.source}")
        self.model = load_for_inference(run.load_plan(), self.tokenizer, folder)
        self.template_kwargs = dict(run.cfg[Template].chat_template_kwargs or {})
        self.sampling = {**sampling, "seed": run.cfg[RunControl].seed}

    def answer(self, prompt: str) -> Iterator[str]:
        """Stream the answer to one prompt in pieces of text."""
        return self.reply([{"role": "user", "content": prompt}])

    def reply(self, messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """Stream the next message of a conversation; without a chat template, only its last message is read."""
        from newt.models.generate import stream

        return stream(self.model, self.tokenizer, self.prompt_ids(messages), **self.sampling)

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of a conversation, ready for an answer."""
        if self.raw:
            return list(self.tokenizer(self.write(messages[-1]["content"]))["input_ids"])
        ids = self.tokenizer.apply_chat_template(
            list(messages),
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
