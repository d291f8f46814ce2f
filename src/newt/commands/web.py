"""``newt inference --gradio``: the model as a web page, for this machine alone unless the config says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

EXTRA = "gradio"


def require_gradio() -> Any:
    """The package, or one line that says how to install it.

    Raises:
        NewtError: it is not installed.
    """
    from newt.support import env
    from newt.support.optional import require

    env.set_default("GRADIO_ANALYTICS_ENABLED", "False")
    return require("gradio", extra=EXTRA, used_by="--gradio")


def serve(chat: Any, run: Any) -> None:
    """Show the page until the process is interrupted.

    Raises:
        NewtError: the page cannot be opened, as when the port is taken.
    """
    from newt.config.core import Model
    from newt.features.gradio import GradioSettings
    from newt.support.errors import NewtError
    from newt.support.log import say

    settings = run.cfg[GradioSettings]
    page = build(chat, settings.gradio_title or f"Newt: {PurePath(run.cfg[Model].base_model).name}")
    try:
        _, local, public = page.launch(
            share=settings.gradio_share,
            server_name=settings.gradio_server_name,
            server_port=settings.gradio_server_port,
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:
        hint = "Set gradio_server_port to a free port, or remove it."
        raise NewtError(f"The page cannot be opened: {str(error).partition('. ')[0].lower()}. {hint}") from error
    say(f"The page is at {local}" + (f" and, for everybody, at {public}" if public else "") + ". Ctrl+C ends it.")
    page.block_thread()


def build(chat: Any, title: str) -> Any:
    """A page on which one can talk to the model; answers appear as they are written."""
    gradio = require_gradio()
    return gradio.ChatInterface(
        responder(chat.reply),
        title=title,
        analytics_enabled=False,
        api_name="chat",
        flagging_mode="never",
        concurrency_limit=1,  # one model, one answer at a time
    )


def responder(reply: Callable[[Sequence[dict[str, str]]], Iterator[str]]) -> Callable[..., Iterator[str]]:
    """What the page calls: (message, history) -> the answer so far, again and again."""

    def respond(message: Any, history: Sequence[Any]) -> Iterator[str]:
        messages = [{"role": one["role"], "content": text_of(one["content"])} for one in history]
        shown = ""
        for piece in reply([*messages, {"role": "user", "content": text_of(message)}]):
            shown += piece
            yield shown

    return respond


def text_of(content: Any) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, str):
        return content
    parts = [content] if isinstance(content, dict) else list(content or ())
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in parts)
