"""Declarations of all options, with their checks."""
