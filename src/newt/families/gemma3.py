"""Gemma 3 with its vision tower."""

from newt.extend import Family


class Gemma3(Family):
    """Trained on text it is told that no token belongs to an image: image tokens would see those after them."""

    name = "gemma 3"
    model_types = ("gemma3",)
    zeros = ("token_type_ids",)
