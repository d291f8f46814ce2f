"""Mixtral."""

from newt.extend import Family


class Mixtral(Family):
    """A mixture of experts. The experts of a layer are one parameter of three dimensions.

    An adapter reaches them with ``lora_target_parameters``. Its router has a loss of its own, which is added
    where the model's config says ``output_router_logits: true``.
    """

    name = "mixtral"
    model_types = ("mixtral",)
