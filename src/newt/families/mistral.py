"""Mistral and Ministral."""

from newt.extend import Family


class Mistral(Family):
    """Dense decoders, some with a sliding window, which restarts with each sample of a packed row.

    The chat templates are those of mistral-common; see ``tokenizer_use_mistral_common``.
    """

    name = "mistral"
    model_types = ("mistral", "ministral", "ministral3")
