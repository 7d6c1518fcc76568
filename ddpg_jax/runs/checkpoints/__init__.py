"""Checkpoints: how a training state is stored, checked, and restored on the devices of now."""
