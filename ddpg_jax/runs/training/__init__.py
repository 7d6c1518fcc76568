"""The run itself: start, loop and progress."""
