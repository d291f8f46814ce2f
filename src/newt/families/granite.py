"""Granite."""

from newt.extend import Family


class Granite(Family):
    """Embeddings, attention, residuals and logits are scaled by factors of the config.

    Granite 4 is a hybrid: models without Mamba layers are packed with an explicit mask, the others are not packed.
    """

    name = "granite"
    model_types = ("granite", "granitemoe", "granitemoeshared", "granitemoehybrid")
