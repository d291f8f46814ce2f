"""Data: rows of files become token rows, token rows become batches."""
