"""How the results of `calibrate` and `geweke` are told: verdict, table and picture.

Both test many quantities and fail where a p-value, adjusted for their number, is at most the error
rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ranef.calibration.checkpoint import State, load_state, save_state
from ranef.calibration.exact_tests import band, holm, uniformity_p_value
from ranef.common.arguments import share
from ranef.common.stored_names import stored_name
from ranef.errors import CalibrationError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.figure import Figure

    from ranef.common.array_types import Array, IntArray

__all__ = ["Calibration", "JointTest"]

# Simulations below which a pass says little: the article's error needs 20 to 100.
_FEW = 100
_LEVELS = (50, 80, 95)
# Failing quantities that a verdict names.
_NAMED = 5
# Of arviz-plots' picture the curve and the axis alone: newer releases also mark points and write a
# p-value, by a test of their own.
_BARE = {
    "credible_interval": False,
    "suspicious_points": False,
    "p_value_text": False,
    "remove_axis": False,
}


class _QuantityTests:
    """A test of each quantity, judged together at one error rate.

    Classes that inherit have `names` of the quantities, `p_values`, an `error_rate` and a
    `verdict`.
    """

    # Attribute of the error that holds the result, and what a verdict judges.
    role: ClassVar[str]
    judged: ClassVar[str]
    names: tuple[str, ...]
    error_rate: float

    if TYPE_CHECKING:

        @property
        def p_values(self) -> Array:
            """P-value of each quantity, shape (Q,)."""
            ...

        @property
        def verdict(self) -> str:
            """The result in one sentence."""
            ...

    @cached_property
    def adjusted(self) -> Array:
        """The p-values adjusted for their number by Holm's method, shape (Q,)."""
        return holm(self.p_values)

    @property
    def passed(self) -> bool:
        """Whether no adjusted p-value is as small as the error rate."""
        return bool(self.adjusted.min() > self.error_rate)

    def raise_if_failed(self) -> None:
        """Raise where something is wrong, for use in tests.

        Raises
        ------
        CalibrationError
            With the verdict.
        """
        if not self.passed:
            raise CalibrationError(self.verdict, **{self.role: self})

    @property
    def _odds(self) -> str:
        """What the error rate means."""
        return f"correct {self.judged} fails with probability {self.error_rate:.3g} at most."

    def _failures(self, remarks: Sequence[str] | None = None) -> tuple[int, str]:
        """Count the quantities that fail and name the first, smallest p-value first."""
        failed = np.flatnonzero(self.adjusted <= self.error_rate)
        failed = failed[np.argsort(self.adjusted[failed], kind="stable")]
        shown = [
            f"{self.names[j]} (adjusted p {_number(self.adjusted[j])}"
            f"{f', {remarks[j]}' if remarks else ''})"
            for j in failed[:_NAMED]
        ]
        more = len(failed) - _NAMED
        return len(failed), "; ".join(shown + ([f"and {more} more"] if more > 0 else []))

    def _frame(self, columns: Mapping[str, Any]) -> pd.DataFrame:
        """Put columns into a table with a row for each quantity."""
        import pandas as pd

        return pd.DataFrame(columns, index=pd.Index(self.names, name="quantity"))


@dataclass(frozen=True)
class Calibration(_QuantityTests):
    """The result of `ranef.calibrate`.

    Attributes
    ----------
    names
        The test quantities.
    ranks
        Rank of the truth among L draws in each simulation, 0..L, shape (simulations, quantities).
        For `(exact)` rows the bin of L + 1 that holds the PIT.
    pit
        (rank + uniform) / (L + 1), or the exact PIT; uniform on (0, 1) if the sampler is right.
    settings
        What was simulated and fitted, draws and seed.
    error_rate
        Chance that a correct sampler fails.
    """

    role: ClassVar[str] = "calibration"
    judged: ClassVar[str] = "sampler"

    names: tuple[str, ...]
    ranks: IntArray
    pit: Array
    settings: dict[str, Any]
    error_rate: float

    @property
    def simulations(self) -> int:
        """Number of data sets."""
        return len(self.ranks)

    @cached_property
    def p_values(self) -> Array:
        """Exact p-value of uniform ranks for each quantity, shape (Q,)."""
        top = int(self.settings["draws"])
        return np.array([uniformity_p_value(r, top) for r in self.ranks.T])

    @property
    def verdict(self) -> str:
        """One sentence: calibrated or not, and where it shows."""
        n, q = self.simulations, len(self.names)
        counted = f"{n:,} simulation{'' if n == 1 else 's'}, {q} quantit{'y' if q == 1 else 'ies'}"
        if self.passed and n < _FEW:
            return f"Nothing found in {counted}; that is too few to tell, take {_FEW} or more."
        if self.passed:
            worst = int(self.p_values.argmin())
            return (
                f"Calibrated: {counted}, smallest p-value {_number(self.p_values[worst])} "
                f"({self.names[worst]}), {_number(self.adjusted[worst])} adjusted for their "
                f"number; a {self._odds}"
            )
        count, failures = self._failures([pattern(u) for u in self.pit.T])
        return (
            f"NOT calibrated: {counted}, {count} with ranks that are not uniform: {failures}. "
            f"A {self._odds}"
        )

    def table(self) -> pd.DataFrame:
        """P-value and coverage of each quantity.

        Returns
        -------
        pandas.DataFrame
            Index: quantity. `p_value` (exact test of uniform ranks), `adjusted` (Holm),
            `coverage_50`, `coverage_80`, `coverage_95`: share of simulations whose central
            interval holds the truth; `se_50`, ...: its binomial standard error if the sampler is
            right; `pattern`: what the ranks say of the draws, for quantities that fail.
        """
        columns: dict[str, Any] = {"p_value": self.p_values, "adjusted": self.adjusted}
        for level in _LEVELS:
            share = level / 100
            columns[f"coverage_{level}"] = (np.abs(self.pit - 0.5) < share / 2).mean(axis=0)
            columns[f"se_{level}"] = np.sqrt(share * (1 - share) / self.simulations)
        columns["pattern"] = [
            pattern(u) if p <= self.error_rate else ""
            for u, p in zip(self.pit.T, self.adjusted, strict=True)
        ]
        return self._frame(columns)

    def plot(self) -> Figure:
        """Difference between the PIT's distribution function and the uniform one, with bands.

        Returns
        -------
        matplotlib.figure.Figure
            One panel for each quantity (arviz-plots' `plot_ecdf_pit`). A correct sampler keeps
            all curves of all panels in the grey bands with probability 1 - error rate. The
            calibration fails where, and only where, one leaves its band at a multiple of
            1 / (L + 1), between which it may cross the edge by a hair; such a curve is red.
        """
        import arviz_plots
        from arviz_base import from_dict

        from ranef.answers.plots import figure_of
        from ranef.common.figures import shade_key, with_legend

        top, q = int(self.settings["draws"]), len(self.names)
        # DataTree reads a slash in a name as a path.
        stored = {stored_name(n): self.pit[None, :, j] for j, n in enumerate(self.names)}
        grid = arviz_plots.plot_ecdf_pit(
            from_dict({"prior_sbc": stored}),
            # Its bands are simulated; the exact ones are drawn below instead.
            visuals=_BARE,
            stats={"ecdf_pit": {"n_simulations": 1}},
            backend="matplotlib",
            col_wrap=4,
            figure_kwargs={"figsize": (10.0, 2.4 * -(-q // 4)), "figsize_units": "inches"},
        )
        at = np.arange(1, top + 1) / (top + 1)
        low, high = band(self.simulations, top, self.error_rate / q)
        curve = "share of PIT values up to x, less x"
        keys: dict[str, Any] = {}
        for name, adjusted in zip(stored, self.adjusted, strict=True):
            axis = grid.viz["plot"][name].item()
            axis.fill_between(at, low - at, high - at, color="0.5", alpha=0.2, linewidth=0)
            axis.axhline(0, color="0.6", linewidth=0.6, zorder=0)
            axis.tick_params(labelbottom=True, labelleft=True)
            line = grid.viz["ecdf_lines"][name].item()
            failed = adjusted <= self.error_rate
            line.set_color("tab:red" if failed else "C0")
            keys[f"{curve}: not calibrated" if failed else curve] = line
        inside = (
            f"where all curves of a right sampler stay with probability {1 - self.error_rate:g}"
        )
        return with_legend(figure_of(grid), keys | {inside: shade_key("0.5", 0.2)})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ranks to one file, whole or not at all.

        Parameters
        ----------
        path
            The file; `Calibration.load` reads it back, and `calibrate(file=path)` goes on from it.
        """
        done = np.ones(self.simulations, dtype=bool)
        save_state(State(self.settings, self.names, done, self.ranks, self.pit), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], error_rate: float = 0.01) -> Calibration:
        """Read a calibration from a file; of an interrupted one, the simulations that are done.

        Parameters
        ----------
        path
            What `save` or `calibrate(file=path)` wrote.
        error_rate
            As in `calibrate`.

        Raises
        ------
        DataError
            If the file holds no calibration.
        """
        error_rate = share("error_rate", error_rate, 0.01)
        state = load_state(path)
        done = state.done
        return cls(state.names, state.ranks[done], state.pit[done], state.settings, error_rate)

    def __str__(self) -> str:
        """The settings, the table and the verdict."""
        settings = self.settings
        lines = [f"{k}: {_text(v)}" for k, v in settings.items() if v not in ([], None)]
        table = self.table()
        cells = {
            "p-value": table["p_value"].map(_number),
            "adjusted": table["adjusted"].map(_number),
        }
        for level in _LEVELS:
            error = f"{100 * table[f'se_{level}'].iloc[0]:.1f}"
            cells[f"in {level}% (±{error})"] = table[f"coverage_{level}"].map("{:.1%}".format)
        cells[""] = table["pattern"]
        text = self._frame(cells).rename_axis(None).to_string()
        body = "\n".join(line.rstrip() for line in text.splitlines())
        return "\n".join([*lines, "", body, "", self.verdict])

    __repr__ = __str__


@dataclass(frozen=True)
class JointTest(_QuantityTests):
    """The result of `ranef.geweke`.

    Attributes
    ----------
    names
        The test quantities.
    fresh
        Their values at exact joint draws, shape (chains, Q).
    swept
        Their values at the ends of chains, shape (chains, Q); independent of `fresh`.
    p_values
        Exact two-sample p-values, shape (Q,).
    sweeps
        Sweeps of each chain.
    error_rate
        Chance that a correct update fails.
    """

    role: ClassVar[str] = "test"
    judged: ClassVar[str] = "update"

    names: tuple[str, ...]
    fresh: Array
    swept: Array
    p_values: Array
    sweeps: int
    error_rate: float

    @property
    def verdict(self) -> str:
        """One sentence: whether the two simulators agree, and where they do not."""
        swept = f"{self.sweeps} sweep{'' if self.sweeps == 1 else 's'}"
        counted = f"{len(self.fresh):,} chains of {swept}"
        if self.passed:
            return (
                f"The update keeps the joint distribution: {counted}, {len(self.names)} "
                f"quantities, smallest adjusted p-value {self.adjusted.min():.3f}. A {self._odds}"
            )
        return (
            f"The update does NOT keep the joint distribution: {counted}, {self._failures()[1]}. "
            f"A {self._odds}"
        )

    def table(self) -> pd.DataFrame:
        """Means and SDs under both simulators.

        Returns
        -------
        pandas.DataFrame
            Index: quantity. `prior_mean`, `chain_mean` and their standard errors `prior_se`,
            `chain_se` (all values are independent), `prior_sd`, `chain_sd`, `p_value`, `adjusted`.
        """
        root = np.sqrt(len(self.fresh))
        columns: dict[str, Array] = {}
        for name, values in (("prior", self.fresh), ("chain", self.swept)):
            sd = values.std(axis=0, ddof=1)
            columns |= {
                f"{name}_mean": values.mean(axis=0), f"{name}_se": sd / root, f"{name}_sd": sd
            }  # fmt: skip
        columns |= {"p_value": self.p_values, "adjusted": self.adjusted}
        return self._frame(columns)

    def __str__(self) -> str:
        """The table and the verdict."""
        table = self.table().rename_axis(None).to_string(float_format="{:.4g}".format)
        return f"{table}\n\n{self.verdict}"

    __repr__ = __str__


def pattern(pit: Array) -> str:
    """Say what a PIT that is not uniform tells of the draws: their place or their spread.

    Parameters
    ----------
    pit
        Shape (S,).

    Returns
    -------
    str

    Examples
    --------
    >>> pattern(np.array([0.8, 0.9, 0.7, 0.95, 0.99, 0.85]))
    'draws too low'
    """
    S = len(pit)
    place = (pit.mean() - 0.5) * np.sqrt(12 * S)
    spread = (np.mean((pit - 0.5) ** 2) - 1 / 12) * np.sqrt(180 * S)
    if abs(place) >= abs(spread):
        return "draws too low" if place > 0 else "draws too high"
    return "draws too narrow" if spread > 0 else "draws too wide"


def _number(p: float) -> str:
    """Write a p-value."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _text(value: Any) -> str:
    """Write a setting."""
    if isinstance(value, dict):
        return ", ".join(f"{k} ~ {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
