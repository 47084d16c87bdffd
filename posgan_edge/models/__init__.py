"""PyTorch generators and their checkpoints (needs the ``torch`` extra)."""
