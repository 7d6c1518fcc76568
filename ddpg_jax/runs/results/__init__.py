"""Results of a finished run: its policy, returns, plots and films."""
