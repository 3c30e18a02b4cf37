"""Random designs: `python benchmarks/random_designs.py --number 1000 --seed 0`.

Likelihoods, effects and left-out rows against dense matrices; the same design in another order, in
other units and under other names; and, of a tenth as many, posteriors against grids. Each design
has a seed of its own, which a failure prints; `--seed S --number 1` repeats it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fuzz import designs, invariance, posteriors


def dense_matrices(seed: int) -> tuple[object, list[str]]:
    """Compare one design with the dense oracle."""
    design = designs.draw_design(seed)
    return design, designs.failures(design)


def main() -> int:
    """Go through the designs; the exit status is 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=1000, help="how many designs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first; the next follow")
    asked = parser.parse_args()
    failed, few = 0, max(1, asked.number // 10)
    scores: list[dict[str, dict[str, float]]] = []

    def grids(seed: int) -> tuple[object, list[str]]:
        design, errors = posteriors.scores(seed)
        scores.append(errors)
        return design, posteriors.too_large(errors)

    parts = [
        ("dense matrices", dense_matrices, asked.number),
        ("likelihoods written another way", invariance.likelihood_failures, asked.number),
        ("draws written another way", invariance.draws_failures, few),
        ("posteriors on grids", grids, few),
    ]
    for name, part, number in parts:
        started, wrong = time.perf_counter(), 0
        for seed in range(asked.seed, asked.seed + number):
            design, found = part(seed)
            if found:
                wrong += 1
                print(f"{design}\n  " + "\n  ".join(found), flush=True)
        failed += wrong
        seconds = time.perf_counter() - started
        print(f"{name}: {number:,} designs, {wrong:,} failed, {seconds:.0f} s", flush=True)
    spread, (low, high) = posteriors.root_mean_square(scores), posteriors.SPREAD
    print(f"scores on grids have the root mean square {spread:.3f}; it is 1 of exact draws")
    # Of fewer designs it may be anywhere near one.
    return int(failed > 0 or (few >= 100 and not low < spread < high))


if __name__ == "__main__":
    raise SystemExit(main())
