"""Gemma 4 with its vision tower."""

from newt.extend import Family


class Gemma4(Family):
    """Trained on text it is told that no token belongs to an image: image tokens would see those after them.

    The loss is the usual one over the logits, divided by the trained tokens of the step; the model's own is a mean over
    a micro-batch.
    """

    name = "gemma 4"
    model_types = ("gemma4", "gemma4_unified")
    zeros = ("mm_token_type_ids",)
