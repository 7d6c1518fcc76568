"""Sweeps: many members with different hyper-parameters, in as few runs as possible."""
