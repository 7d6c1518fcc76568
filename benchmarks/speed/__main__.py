"""Speed of updates, agents, populations, whole loops and the lane; compilation is apart.

    python benchmarks/speed updates       # by batch and width, beside their matrix products alone
    python benchmarks/speed agents        # of every agent, and prioritised replay beside uniform
    python benchmarks/speed populations   # of 1 to 128 agents in one program
    python benchmarks/speed loop          # environments, updates, replay and the whole loop
    python benchmarks/speed lane          # of cars, by features and through cameras

All contestants of a measurement take turns in one process.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import click

from benchmarks.speed import agents, lane, loop, populations, updates

COMMANDS = {
    "updates": updates.main,
    "agents": agents.main,
    "populations": populations.main,
    "loop": loop.main,
    "lane": lane.main,
}

if __name__ == "__main__":
    click.Group(commands=COMMANDS, help=__doc__.split("\n\n")[0] if __doc__ else None)()
