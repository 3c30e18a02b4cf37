"""Compare exact draws of hard posteriors with long runs of another kernel.

`python benchmarks/other_kernel.py reaction DATA` fits four models of reaction times (DATA a CSV
with the columns rt, x, SOA, Congruency, subj, Item and Accuracy) at ten seeds;
`python benchmarks/other_kernel.py random --number 200` random designs of 5 to 25 variance
parameters. The other kernel is Hamiltonian Monte Carlo, many chains in step, along the gradient of
the same density: it shares the likelihood, which the dense oracle tests, and nothing of how draws
are made. Each comparison is a difference in standard errors of both.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import pandas as pd
from arviz_stats.base import array_stats

import ranef as rf
from ranef.likelihood.gradient import log_density_gradient
from ranef.mixed_model.model import build_model
from ranef.samplers.sample import SamplerSettings
from ranef.samplers.search import GaussianLandscape, explore

if TYPE_CHECKING:
    from ranef.common.array_types import Array
    from ranef.mixed_model.parameters import ParameterVector

REACTION = {
    "maximal": "rt ~ x * SOA + (x * SOA|subj) + (1|Item)",
    "apart": "rt ~ x * SOA + (x * SOA||subj) + (x||Item)",
    "congruency": "rt ~ Congruency + (Congruency|subj) + (1|Item)",
    "two by two": "rt ~ A * B + (A * B|subj) + (A * B|Item)",
}


@dataclass(frozen=True)
class Hamiltonian:
    """How the other kernel runs.

    Attributes
    ----------
    chains, warmup, kept
        Chains in step, and trajectories of each to leave out and to keep.
    steps
        Leapfrog steps of a trajectory, at most; their number is drawn anew for each.
    """

    chains: int = 100
    warmup: int = 60
    kept: int = 150
    steps: int = 12


def run(landscape: GaussianLandscape, how: Hamiltonian, rng: np.random.Generator) -> Array:
    """Parameter vectors by Hamiltonian Monte Carlo, shape (chains, kept, d)."""
    tails, target = landscape.tails, landscape.target
    mode, cover = landscape.modes[0]
    root = np.linalg.cholesky(cover)
    d = len(mode)

    def both(u: Array) -> tuple[Array, Array]:
        y = mode + u @ root.T
        theta = tails.inside(y)
        value = target.log_density(theta)
        there = np.isfinite(value)
        slope = np.zeros_like(y)
        if there.any():
            slope[there] = log_density_gradient(target, theta[there])
        step = 1e-6
        chain = (tails.inside(y + step) - tails.inside(y - step)) / (2 * step)
        bend = np.column_stack(
            [
                (tails.log_jacobian(y + step * e) - tails.log_jacobian(y - step * e)) / (2 * step)
                for e in np.eye(d)
            ]
        )
        value = np.where(there, value + tails.log_jacobian(y), -np.inf)
        return value, (slope * chain + bend) @ root

    u = 0.5 * rng.standard_normal((how.chains, d))
    f, g = both(u)
    size = 0.5 / d**0.25
    out = np.empty((how.chains, how.kept, d))
    for i in range(-how.warmup, how.kept):
        p = rng.standard_normal(u.shape)
        v, q, slope, value = u, p, g, f
        each = size * np.exp(0.2 * rng.standard_normal((how.chains, 1)))
        for _ in range(int(rng.integers(1, how.steps + 1))):
            q = q + each / 2 * slope
            v = v + each * q
            value, slope = both(v)
            q = q + each / 2 * slope
        gain = value - f - 0.5 * ((q**2).sum(axis=1) - (p**2).sum(axis=1))
        chance = np.minimum(1.0, np.exp(np.where(np.isfinite(gain), gain, -np.inf)))
        taken = rng.random(how.chains) < chance
        u, g = np.where(taken[:, None], v, u), np.where(taken[:, None], slope, g)
        f = np.where(taken, value, f)
        if i < 0:
            size *= np.exp(0.3 * (chance.mean() - 0.8))
        else:
            out[:, i] = u
    return tails.inside(mode + out.reshape(-1, d) @ root.T).reshape(out.shape)


def quantities(parameters: ParameterVector, theta: Array) -> dict[str, Array]:
    """SDs, their logarithms, correlations and tail indicators of draws (chains, draws, d)."""
    out = dict(parameters.named(theta))
    for name, values in list(out.items()):
        if "corr" in name or "__" in name:
            out[f"P({name} < -.95)"] = (values < -0.95) * 1.0
    for j in range(theta.shape[-1]):
        out[f"theta {j}"] = theta[..., j]
    return out


def differences(parameters: ParameterVector, ours: Array, theirs: Array) -> dict[str, float]:
    """Differences of means, SDs and extreme quantiles in standard errors of both."""
    first, second = (quantities(parameters, a) for a in (ours, theirs))
    out = {}
    for name, x in first.items():
        y = second[name]
        parts = {"mean": (x, y), "square": tuple((a - y.mean()) ** 2 for a in (x, y))}
        if np.ptp(y) > 0 and not name.startswith("P("):
            for p in (0.01, 0.99):
                at = np.quantile(y, p)
                parts[f"q{p}"] = ((x < at) * 1.0, (y < at) * 1.0)
        for kind, (a, b) in parts.items():
            errors = [_error(v) for v in (a, b)]
            if min(errors) > 0:
                out[f"{name} {kind}"] = float((a.mean() - b.mean()) / np.hypot(*errors))
    return out


def _error(v: Array) -> float:
    if np.ptp(v) == 0:
        return 0.0
    return float(array_stats.mcse(v, chain_axis=0, draw_axis=1))


def random_design(seed: int) -> tuple[str, pd.DataFrame]:
    """A formula with 5 to 25 variance parameters, and data from some such model."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(150, 600))
    frame = pd.DataFrame({c: rng.standard_normal(n) for c in "xzu"})
    frame["x"] = rng.integers(0, 2, n) - 0.5
    levels = {"g": int(rng.integers(8, 40)), "h": int(rng.integers(5, 25))}
    for name, count in levels.items():
        frame[name] = rng.integers(0, count, n)
    columns = ["1", "x", "z", "u", "x:z"]
    terms, parameters = [], 1
    y = frame["x"] + rng.standard_normal(n) * rng.choice([0.3, 1.0, 3.0])
    while parameters < 5:
        terms, parameters = [], 1
        for name in ("g", "h")[: int(rng.integers(1, 3))]:
            q = int(rng.integers(1, 6 if name == "g" else 4))
            bar = "||" if rng.random() < 0.3 else "|"
            terms.append((name, q, bar))
            parameters += q + (q * (q - 1) // 2 if bar == "|" else 0)
    for name, q, _ in terms:
        sds = rng.choice([0.0, 0.3, 1.0], size=q)
        root = np.linalg.cholesky(0.4 * np.eye(q) + 0.6)
        b = (rng.standard_normal((levels[name], q)) @ root.T) * sds
        Z = np.column_stack([np.ones(n), frame.x, frame.z, frame.u, frame.x * frame.z])[:, :q]
        y = y + (Z * b[frame[name].to_numpy()]).sum(axis=1)
    frame["y"] = y
    groups = [f"({' + '.join(columns[:q])}{bar}{name})" for name, q, bar in terms]
    return "y ~ x + z + " + " + ".join(groups), frame


@click.group()
def main() -> None:
    """Compare with another kernel."""


@main.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--seeds", default=10)
@click.option("--which", default=",".join(REACTION))
def reaction(data: Path, seeds: int, which: str) -> None:
    """Models of reaction times at several seeds."""
    frame = pd.read_csv(data, dtype={"subj": str})
    frame = frame[frame.Accuracy == 1].dropna()
    frame["A"], frame["B"] = frame.x, np.where(frame.SOA.min() == frame.SOA, -0.5, 0.5)
    for name in which.split(","):
        model = build_model(REACTION[name], frame)[0]
        begin = time.process_time()
        landscape = explore(model, SamplerSettings(4000, 4, 0, (), False), interpolated=False)
        theirs = run(landscape, Hamiltonian(), np.random.default_rng(99))
        click.echo(f"{name}: other kernel {time.process_time() - begin:.0f} s")
        for seed in range(1, seeds + 1):
            begin = time.process_time()
            fit = rf.fit(REACTION[name], frame, seed=seed, progress=False)
            took = time.process_time() - begin
            ours = fit.draws["unconstrained_posterior"]["theta"].to_numpy()
            gaps = differences(model.parameters, ours, theirs)
            worst = max(gaps, key=lambda k: abs(gaps[k]))
            rms = np.sqrt(np.mean(np.square(list(gaps.values()))))
            c = fit.certificate
            click.echo(
                f"  seed {seed}: {took:.1f} s, ESS {c.ess:.0f} bulk {c.ess_tail:.0f} tail, "
                f"trusted {c.trusted}, rms z {rms:.2f} of {len(gaps)}, "
                f"worst {gaps[worst]:.1f} ({worst})"
            )


@main.command(name="random")
@click.option("--number", default=200)
@click.option("--seed", default=0)
def random_designs(number: int, seed: int) -> None:
    """Random designs with many variance parameters; a line for each, as it is done."""
    every, untrusted, refused = [], 0, 0
    for k in range(seed, seed + number):
        formula, frame = random_design(k)
        try:
            model = build_model(formula, frame)[0]
        except rf.IdentifiabilityError as error:  # nearly an effect for every row
            refused += 1
            click.echo(f"{k}: {formula}: refused, {error}")
            continue
        fit = rf.fit(formula, frame, seed=k, progress=False)
        if not fit.certificate.trusted:
            untrusted += 1
            click.echo(f"{k}: {formula}: {fit.certificate}")
            continue
        landscape = explore(model, SamplerSettings(4000, 4, 0, (), False), interpolated=False)
        how = Hamiltonian(chains=60, warmup=60, kept=80, steps=10)
        theirs = run(landscape, how, np.random.default_rng(k))
        ours = fit.draws["unconstrained_posterior"]["theta"].to_numpy()
        gaps = differences(model.parameters, ours, theirs)
        worst = max(gaps, key=lambda name: abs(gaps[name]))
        every += list(gaps.values())
        rms = np.sqrt(np.mean(np.square(list(gaps.values()))))
        click.echo(
            f"{k}: {formula}: {model.parameters.size} parameters, rms z {rms:.2f} of {len(gaps)}, "
            f"worst {gaps[worst]:.1f} ({worst}), ESS {fit.certificate.ess:.0f}"
        )
    rms = np.sqrt(np.mean(np.square(every)))
    click.echo(
        f"{number} designs, {refused} refused, {untrusted} not trusted; rms z {rms:.3f} of "
        f"{len(every)}"
    )


if __name__ == "__main__":
    main()
