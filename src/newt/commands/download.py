"""``newt preprocess --download``: fetch the base model while the data is prepared anyway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
OLDER_WEIGHTS = ["pytorch_model*.bin"]


def download_base_model(cfg: Any) -> None:
    """Bring a base model of the Hub into the local cache; a failure is a warning, for training will try again.

    Args:
        cfg: the config. A folder, or a model of random weights, needs no download.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from newt.config.core import Model
    from newt.support import env
    from newt.support.log import note, warn

    model = cfg[Model]
    offline = env.flag("HF_HUB_OFFLINE") or env.flag("TRANSFORMERS_OFFLINE")
    if Path(model.base_model).expanduser().is_dir() or model.reinit_weights or offline:
        return
    try:
        folder = Path(snapshot_download(model.base_model, revision=model.revision_of_model, allow_patterns=FILES))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(model.base_model, revision=model.revision_of_model, allow_patterns=OLDER_WEIGHTS)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warn(f"base_model: {model.base_model} was not downloaded now: {reason} Training will try again.")
    else:
        note(f"The weights of {model.base_model} are in {folder}")
