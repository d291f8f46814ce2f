"""Early stopping that goes on counting where a checkpoint's run had stopped."""

from __future__ import annotations

from typing import Any

from transformers import EarlyStoppingCallback

from newt.support.log import note
from newt.training.callbacks.base import stored_attributes

COUNT = "early_stopping_patience_counter"


class EarlyStopping(EarlyStoppingCallback):  # type: ignore[misc]
    """The library's; the patience is that of the config, the count that of the checkpoint."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take up the count; a run that had ended already does no step more."""
        super().on_train_begin(args, state, control, **kwargs)
        self.early_stopping_patience_counter = int(stored_attributes(state, self).get(COUNT, 0))
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
            note(
                f"Early stopping ended this run at step {state.global_step}: "
                f"{self.early_stopping_patience_counter} evaluations without a better one. "
                "Raise early_stopping_patience to go on."
            )
