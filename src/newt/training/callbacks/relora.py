"""Restarts the adapter every so many steps, and leaves its base behind at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from newt.models import relora
from newt.support.files import atomic_dir
from newt.support.log import note


class Relora(TrainerCallback):  # type: ignore[misc]
    """Merges, begins anew and prunes the optimizer's state, all between two steps."""

    def __init__(self, steps: int, method: relora.Prune, ratio: float | None, on_cpu: bool) -> None:
        """Keep the settings.

        Args:
            steps: optimizer steps from one restart to the next.
            method: what of the optimizer's state is forgotten.
            ratio: how much of it.
            on_cpu: merge on the CPU.
        """
        self.steps, self.method, self.ratio, self.on_cpu = steps, method, ratio, on_cpu

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Refuse what cannot be restarted."""
        relora.check_restartable(model)

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Restart, before a checkpoint of this step is written. After the last step there is nothing to restart for."""
        if state.global_step % self.steps == 0 and state.global_step < state.max_steps:
            relora.restart(model, on_cpu=self.on_cpu)
            count = relora.prune(optimizer, model, self.method, self.ratio)
            note(f"ReLoRA: restart at step {state.global_step}; {count:,} values of the optimizer are forgotten")

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Write the base of the final adapter, which names it from now on."""
        if args.should_save:
            base = Path(args.output_dir) / relora.FOLDER
            with atomic_dir(base) as folder:
                relora.save_base(model, folder)
            for config in model.peft_config.values():
                config.base_model_name_or_path = str(base)
