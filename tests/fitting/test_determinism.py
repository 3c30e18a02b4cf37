"""A seed gives the same draws whatever else the machine does and however many threads it has."""

import os
import subprocess
import sys
import time

SCRIPT = """
import hashlib
import sys

import numpy as np

import ranef as rf

rng = np.random.default_rng(0)
g, h, x = rng.integers(12, size=300), rng.integers(6, size=300), rng.normal(size=300)
y = x + rng.normal(size=12)[g] + rng.normal(size=6)[h] + rng.normal(size=300)
data = {"y": y, "x": x, "g": g, "h": h}
for formula in ("y ~ x + (x|g) + (1|h)", "y ~ x + (x|g)", "y ~ x + (1|g)"):
    fit = rf.fit(formula, data, draws=1000, seed=int(sys.argv[1]))
    theta = fit.draws["unconstrained_posterior"]["theta"].to_numpy()
    print(hashlib.sha256(theta.tobytes()).hexdigest())
"""


def hashes(seed, threads):
    environment = os.environ | {
        name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(seed)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_draws_depend_on_the_seed_alone():
    alone = hashes(7, threads=1)
    assert len(set(alone)) == 3
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        time.sleep(0.2)
        assert hashes(7, threads=2) == alone
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert not set(hashes(8, threads=1)) & set(alone)
