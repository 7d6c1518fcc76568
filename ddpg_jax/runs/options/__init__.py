"""What a user may set, with its checks."""
