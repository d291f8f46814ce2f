"""Checkpoint files to a model and back: load, tokenizer, adapters, merge, save, generate.

This room knows nothing of data or of the trainer. It executes a ``LoadPlan``.
"""
