"""Qwen 2 and 3, dense and mixture of experts."""

from newt.extend import Family


class Qwen(Family):
    """Packed samples stay apart through position_ids alone, with eager and sdpa attention."""

    name = "qwen"
    model_types = ("qwen2", "qwen3", "qwen3_moe")
    isolates_packed = True
