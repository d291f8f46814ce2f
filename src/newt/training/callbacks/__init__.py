"""What happens beside the training step, one callback per file."""
