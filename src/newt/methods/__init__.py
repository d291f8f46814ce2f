"""What is optimised: one method per file."""
