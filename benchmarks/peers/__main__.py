"""Other libraries beside this one; each needs what its message says.

python benchmarks/peers updates --agent td3   # beside sbx-rl's
python benchmarks/peers host-loop             # with Gymnasium, beside sbx-rl's
python benchmarks/peers loop                  # whole loops, beside rejax's
python benchmarks/peers solve                 # seconds from the shell until pendulum is solved
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # here `import sbx` finds a file of ours

import click

from benchmarks.peers import compare, solve

COMMANDS = {
    "updates": compare.updates,
    "host-loop": compare.host_loop,
    "loop": compare.loop,
    "solve": solve.main,
}

if __name__ == "__main__":
    click.Group(commands=COMMANDS, help=__doc__.split("\n\n")[0] if __doc__ else None)()
