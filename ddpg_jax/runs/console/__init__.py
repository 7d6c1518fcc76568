"""The terminal: signals and output."""
