"""What is learnt, and how long it takes."""
