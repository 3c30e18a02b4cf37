"""Random designs and a dense oracle: `python benchmarks/random_designs.py --number 1000 --seed 0`.

Each design has a seed of its own, which a failure prints; `--seed S --number 1` repeats it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fuzz.designs import draw_design, failures


def main() -> int:
    """Go through the designs; the exit status is 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=1000, help="how many designs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first; the next follow")
    asked = parser.parse_args()
    started, failed = time.perf_counter(), 0
    for seed in range(asked.seed, asked.seed + asked.number):
        design = draw_design(seed)
        found = failures(design)
        if found:
            failed += 1
            print(f"{design}\n  " + "\n  ".join(found), flush=True)
    seconds = time.perf_counter() - started
    print(f"{asked.number:,} designs, {failed:,} failed, {seconds:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
