"""Measurements: speed (`throughput`), the peers side by side (`peers`), learning (`studies`).

Each file is a command.
"""
