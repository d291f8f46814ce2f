"""Begins to round weights and activations when the model has settled."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from newt.models.fake_quant import switch
from newt.support.log import note


class FakeQuant(TrainerCallback):  # type: ignore[misc]
    """Lets the layers of ``models.fake_quant`` round once ``after`` steps are done, also in a resumed run."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.on = False

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Begin as the number of steps says."""
        self.on = state.global_step >= self.after
        switch(model, self.on)

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Switch it on when it is time."""
        if not self.on and state.global_step >= self.after:
            self.on = True
            note(f"qat: {switch(model, True)} layers are rounded from step {state.global_step + 1} on.")
