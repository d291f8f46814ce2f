"""Helpers of the model tests: load by config, make an adapter that does something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.helpers import make_run

from newt.extend import Facts
from newt.models.load import Loaded, load_model
from newt.models.tokenizer import load_tokenizer

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
IDS = torch.tensor([[5, 17, 300, 41, 9, 77, 123, 8]])


def load(folder: Path, **keys: Any) -> Loaded:
    """Load for training what a config names."""
    run = make_run(Facts(), base_model=str(folder), **keys)
    return load_model(run.load_plan(), load_tokenizer(run.cfg))


def stir(model: Any, seed: int = 1, size: float = 0.05) -> None:
    """Give every trainable parameter random values, as training would."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=random).to(parameter) * size)


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """Logits in evaluation mode."""
    training = model.training
    model.eval()
    with torch.no_grad():
        found = model(input_ids=ids, use_cache=False).logits.float()
    model.train(training)
    return found
