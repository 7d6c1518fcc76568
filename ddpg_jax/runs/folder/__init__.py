"""The files of a run except its checkpoints."""
