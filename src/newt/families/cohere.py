"""Command R, R7B and A."""

from newt.extend import Family


class Cohere(Family):
    """Attention and MLP read the same input; embedding and output layer are one weight, and logits are scaled."""

    name = "cohere"
    model_types = ("cohere", "cohere2")
