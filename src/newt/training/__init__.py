"""The only room that touches ``transformers.Trainer``: batches, loop, checkpoints, resume, evaluation, records."""
