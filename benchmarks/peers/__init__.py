"""Other libraries, measured against this one in one process."""
