"""``newt inference --chat``: a conversation on the console."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

FILE = "chat.jsonl"
THINK, END_THINK = "<think>", "</think>"
LIMITS: dict[str, tuple[type, float]] = {
    "max_new_tokens": (int, 1),
    "temperature": (float, 0),
    "top_p": (float, 0),
    "top_k": (int, 0),
    "repetition_penalty": (float, 0),
    "seed": (int, 0),
}
"""Parameter of ``/set`` -> its type, and its least value."""


def hold(chat: Any, read: Callable[[str], str] = input) -> None:
    """Talk until the user leaves. Ctrl+C interrupts an answer; at the prompt, like Ctrl+D, it ends the program.

    Args:
        chat: the loaded model.
        read: reads a line of the user.
    """
    conversation = Conversation(chat)
    if chat.raw:
        click.echo("Without a chat template, every message is a prompt of its own.", err=True)
    click.echo("/help lists the commands; \\ at the end of a line goes on in the next.", err=True)
    while not conversation.over:
        try:
            line = _read_lines(read)
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        conversation.take(line)


def _read_lines(read: Callable[[str], str]) -> str:
    lines = [read("> ")]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(read("… "))
    return "\n".join(lines).strip()


class Conversation:
    """The messages so far, and the commands that change them.

    Attributes:
        messages: system, user and assistant messages.
        over: the user has left.
    """

    def __init__(self, chat: Any) -> None:
        self.chat = chat
        self.messages: list[dict[str, str]] = []
        self.collapse = False
        self.over = False

    def take(self, line: str) -> None:
        """Follow a command, or answer a message."""
        if line.startswith("/"):
            name, _, rest = line[1:].partition(" ")
            followed = COMMANDS.get(name.lower())
            if followed is None:
                click.echo(f"There is no command /{name}. /help lists them.")
            else:
                followed[0](self, rest.strip())
        elif line:
            self.messages.append({"role": "user", "content": line})
            self.answer()

    def answer(self) -> None:
        """Stream the answer; an interrupted one is kept as far as it came."""
        said: list[str] = []
        pieces = _noted(self.chat.reply(self.messages), said)
        try:
            for piece in collapsed(pieces) if self.collapse else pieces:
                click.echo(piece, nl=False)
        except KeyboardInterrupt:
            click.echo(" [interrupted]", nl=False)
        click.echo()
        self.messages.append({"role": "assistant", "content": "".join(said)})

    def help(self, _: str) -> None:
        """Show this list."""
        for name, (_act, usage, meaning) in COMMANDS.items():
            click.echo(f"  /{name} {usage}".ljust(30) + meaning)

    def system(self, text: str) -> None:
        """Show, set or clear the system message."""
        present = self._system()
        if not text:
            click.echo(present["content"] if present else "There is no system message.")
            return
        if present:
            self.messages.remove(present)
        if text != "clear":
            self.messages.insert(0, {"role": "system", "content": text})

    def set(self, text: str) -> None:
        """Change a setting of the generation."""
        name, _, value = text.partition(" ")
        name = name.replace("-", "_")
        if name not in LIMITS:
            click.echo(f"/set PARAMETER VALUE, with one of {', '.join(LIMITS)}.")
            return
        kind, least = LIMITS[name]
        try:
            number = kind(value)
        except ValueError:
            number = None
        if number is None or not least <= number < float("inf"):
            whole = "a whole number" if kind is int else "a number"
            click.echo(f"{name} must be {whole}, at least {least}, got {value!r}.")
            return
        self.chat.sampling[name] = number

    def status(self, _: str) -> None:
        """Show the model, the settings and the length of the conversation."""
        settings = ", ".join(f"{name} {value}" for name, value in self.chat.sampling.items())
        length = len(self.chat.prompt_ids(self.messages)) if self.messages else 0
        click.echo(f"model: {self.chat.source}\nsettings: {settings}")
        click.echo(f"messages: {len(self.messages)}, {length} tokens")

    def save(self, text: str) -> None:
        """Append the conversation to a file, as a row that can be trained on."""
        if not self.messages:
            click.echo("There is nothing to save.")
            return
        path = Path(text or FILE).expanduser()
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"messages": self.messages}, ensure_ascii=False) + "\n")
        except OSError as error:
            click.echo(f"{path} cannot be written: {str(error.strerror).lower()}.")
            return
        click.echo(f"The conversation is the last line of {path}.")

    def think(self, text: str) -> None:
        """Ask the chat template for reasoning, or for none."""
        if text == "default":
            self.chat.template_kwargs.pop("enable_thinking", None)
        elif text in ("on", "off"):
            self.chat.template_kwargs["enable_thinking"] = text == "on"
        else:
            click.echo("/think on, off or default.")

    def fold(self, text: str) -> None:
        """Hide the text between the thinking tags."""
        if text not in ("", "on", "off"):
            click.echo("/collapse on or off.")
            return
        self.collapse = text != "off"

    def reset(self, _: str) -> None:
        """Forget the conversation; the system message stays."""
        self.messages = [present] if (present := self._system()) else []

    def undo(self, _: str) -> None:
        """Take the last question and its answer back."""
        self._drop("assistant")
        self._drop("user")

    def retry(self, _: str) -> None:
        """Answer the last question again, by other random choices."""
        if not any(message["role"] == "user" for message in self.messages):
            click.echo("There is no question yet.")
            return
        self._drop("assistant")
        self.chat.sampling["seed"] += 1
        self.answer()

    def leave(self, _: str) -> None:
        """End the program."""
        self.over = True

    def _system(self) -> dict[str, str] | None:
        return next((message for message in self.messages if message["role"] == "system"), None)

    def _drop(self, role: str) -> None:
        if self.messages and self.messages[-1]["role"] == role:
            self.messages.pop()


COMMANDS: dict[str, tuple[Callable[[Conversation, str], None], str, str]] = {
    "help": (Conversation.help, "", "show this list"),
    "system": (Conversation.system, "[TEXT|clear]", "show, set or clear the system message"),
    "set": (Conversation.set, "PARAMETER VALUE", f"{', '.join(LIMITS)}"),
    "status": (Conversation.status, "", "show the model, the settings and the length"),
    "save": (Conversation.save, "[PATH]", f"append the conversation to a file ({FILE}), as a row of a dataset"),
    "think": (Conversation.think, "on|off|default", "ask the chat template for reasoning, or for none"),
    "collapse": (Conversation.fold, "[on|off]", "hide the reasoning"),
    "undo": (Conversation.undo, "", "take the last question back"),
    "retry": (Conversation.retry, "", "answer the last question again"),
    "reset": (Conversation.reset, "", "forget the conversation, keep the system message"),
    "exit": (Conversation.leave, "", "leave (also Ctrl+D)"),
    "quit": (Conversation.leave, "", "leave"),
}
"""Slash command -> what it does, its arguments, and its line in ``/help``."""


def _noted(pieces: Iterable[str], said: list[str]) -> Iterator[str]:
    for piece in pieces:
        said.append(piece)
        yield piece


def collapsed(pieces: Iterable[str]) -> Iterator[str]:
    """Pieces of an answer with ``[thinking]`` in the place of what stands between the thinking tags."""
    held, inside = "", False
    for piece in pieces:
        held += piece
        while True:
            tag = END_THINK if inside else THINK
            before, found, after = held.partition(tag)
            if not found:
                break
            if not inside:
                yield f"{before}[thinking]"
            held, inside = after, not inside
        keep = _begun(held, tag)
        if not inside and len(held) > keep:
            yield held[: len(held) - keep]
        held = held[len(held) - keep :]
    if held and not inside:
        yield held


def _begun(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of a tag."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0)
