"""What the terminal shows while the model trains: a bar, or plain lines where there is no terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """A bar with the last numbers on a terminal, one line for each log event elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        """Use a console; default: standard error."""
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the bar."""
        if not (state.is_world_process_zero and self.console.is_terminal):
            return
        columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self.console)
        self._task = self._bar.add_task("", total=state.max_steps, completed=state.global_step)
        self._bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the numbers."""
        text = describe(logs or {})
        if not (text and state.is_world_process_zero):
            return
        if self._bar is None:
            self._print(f"step {state.global_step}/{state.max_steps}  {text}")
        elif "loss" in (logs or {}):
            self._bar.update(self._task, description=text)
        else:
            self._bar.console.print(f"step {state.global_step}  {text}", highlight=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the bar."""
        self.stop()

    def stop(self) -> None:
        """Stop the bar; a run that ends with an error must give the terminal back too."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)


def describe(logs: dict[str, Any]) -> str:
    """A log event in words; empty for events that are not worth a line."""
    if "loss" in logs:
        formats = {
            "loss": "loss {:.4f}",
            "learning_rate": "lr {:.2e}",
            "grad_norm": "grad norm {:.3f}",
            "tokens_per_second": "{:,.0f} tokens/s",
            "epoch": "epoch {:.2f}",
        }
    else:
        formats = {
            "eval_loss": "eval loss {:.4f}",
            "eval_perplexity": "perplexity {:.2f}",
            "eval_sacrebleu": "BLEU {:.2f}",
            "eval_chrf": "chrF {:.2f}",
            "eval_ter": "TER {:.2f}",
            "eval_bench_average_accuracy": "right answers {:.1%}",
            "eval_tokens": "{:,} tokens",
            "eval_runtime": "{:.1f} s",
        }
    return "  ".join(text.format(logs[key]) for key, text in formats.items() if logs.get(key) is not None)
