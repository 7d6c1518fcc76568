"""The files of a run, but for its checkpoints."""
