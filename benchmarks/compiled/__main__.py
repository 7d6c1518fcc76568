"""``python benchmarks/compiled``: `benchmarks.compiled.kernels`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from benchmarks.compiled.kernels import main

    main()
