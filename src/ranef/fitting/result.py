"""Fit: a posterior with its labels, and every question that can be put to it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ranef.answers.contrasts import contrast, marginal_means
from ranef.answers.effects import Question, answer_effects
from ranef.answers.evidence.group_effect import no_group_effect
from ranef.answers.evidence.marginal_likelihood import log_marginal_likelihood
from ranef.answers.leave_one_out.loo import leave_one_out
from ranef.answers.plots import FitPlots
from ranef.answers.prediction.check import check_fit
from ranef.answers.prediction.predict import predict_rows
from ranef.answers.prediction.residuals import fit_residuals
from ranef.answers.probability import answer_probability
from ranef.answers.variance_shares import answer_shares
from ranef.common.arguments import generator
from ranef.posterior.certificate import Certificate, certify
from ranef.posterior.draws import posterior_draws
from ranef.posterior.source import GROUP, Source, read_source, rows_of
from ranef.posterior.summary import effects_table, format_table, summarise
from ranef.posterior.tree import load_tree, save_tree

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    import xarray as xr

    from ranef.answers.contrasts import Combinations
    from ranef.answers.evidence.group_effect import NoGroupEffect
    from ranef.answers.evidence.marginal_likelihood import LogMarginalLikelihood
    from ranef.answers.prediction.check import PredictiveCheck
    from ranef.answers.prediction.predict import Prediction
    from ranef.answers.prediction.residuals import ResidualKind, Residuals
    from ranef.answers.sensitivity.refits import Sensitivity
    from ranef.answers.statements import Probability
    from ranef.answers.variance_shares import VarianceShares
    from ranef.common.array_types import Array, Seed
    from ranef.formula.new_rows import Groups, Kind
    from ranef.posterior.draws import PosteriorDraws

__all__ = ["Fit", "load"]


class Fit:
    """A posterior with its labels.

    Parameters
    ----------
    draws
        A DataTree as `ranef.fit` makes it.
    source
        Model and rows, or the stored rows to build them from when they are asked for.
    theta
        Parameter vectors as the sampler gave them, shape (chains, draws, d); without them they are
        read off the labels.

    Attributes
    ----------
    draws
        `xarray.DataTree` in ArviZ's convention; every `arviz_stats` and `arviz_plots` function
        takes it.
    """

    def __init__(
        self,
        draws: xr.DataTree,
        source: Source | xr.Dataset | None = None,
        *,
        theta: Array | None = None,
    ) -> None:
        self.draws = draws
        self._source = source
        self._theta = theta

    @property
    def source(self) -> Source:
        """The model and its rows, as the engine holds them."""
        if not isinstance(self._source, Source):
            self._source = read_source(self.draws.attrs, self._source)
        return self._source

    @cached_property
    def posterior_draws(self) -> PosteriorDraws:
        """The draws as arrays, with the likelihood behind them, as the engine holds them."""
        return posterior_draws(self.draws, self.source.model, self._theta)

    @cached_property
    def certificate(self) -> Certificate:
        """How far the draws can be trusted: acceptance, Pareto k-hat, ESS."""
        return certify(self.draws)

    @property
    def plot(self) -> FitPlots:
        """Pictures: `.trace()`, `.density(truth=...)`, `.effects()`, `.shrinkage(name)`."""
        return FitPlots(self.draws, lambda: self.source)

    def summary(self, prob: float = 0.95) -> pd.DataFrame:
        """Mean, sd, median, interval and ESS of coefficients and standard deviations.

        Parameters
        ----------
        prob
            Probability of the equal-tailed interval.

        Returns
        -------
        pandas.DataFrame
            One row per parameter; `r_hat` too for Gibbs and NUTS draws.
        """
        return summarise(self.draws, prob)

    def effects(
        self,
        name: str | None = None,
        prob: float | None = 0.95,
        threshold: float | None = None,
        compare: tuple[str, str] | None = None,
        *,
        highest: bool = False,
        seed: Seed = 0,
    ) -> pd.DataFrame:
        """Posterior of the group effects: mean, sd, interval, and probabilities on request.

        Parameters
        ----------
        name
            One effect, such as `"Days|Subject"`; None for all.
        prob
            Probability of the equal-tailed interval; None for mean and sd alone, as the fit keeps
            them.
        threshold
            Adds `P(> threshold)`, the probability that a level's effect is above it.
        compare
            Two levels. The table is then of their difference, one row for each effect: mean, sd,
            interval, and the probability that it is above zero (or above threshold).
        highest
            Adds `P(highest)`, the probability that a level has the highest effect of all. It is
            counted over joint draws, so its Monte Carlo error is `sqrt(p (1 - p) / ESS)`.
        seed
            For `highest`, and for `compare` with several grouping factors, which need joint draws;
            fixed, so that the same question gets the same answer.

        Returns
        -------
        pandas.DataFrame
            One row per level, in units of the response (per unit of x for a slope).

        Raises
        ------
        DataError
            If there is no such effect or level, or prob is not between 0 and 1.

        Notes
        -----
        Given the variance parameters an effect is normal, coefficients integrated out, so its
        posterior is the average of one normal for each draw of the variance parameters. Interval
        and probability are those of that mixture, found without draws of effects; what Monte Carlo
        error remains is that of the few variance parameters. Large designs use every k-th draw.

        Examples
        --------
        >>> import ranef as rf
        >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
        >>> list(fit.effects(threshold=0).columns)
        ['mean', 'sd', '2.5%', '97.5%', 'P(> 0)']
        """
        if prob is None:
            return effects_table(self.draws, name)
        asked = Question(name, prob, threshold, compare, highest, generator(seed))
        return answer_effects(self.draws, self.posterior_draws, asked)

    def variance_shares(
        self,
        at: Mapping[str, Any] | None = None,
        k: int | list[int] = 1,
        prob: float = 0.95,
        *,
        seed: Seed = 0,
    ) -> VarianceShares:
        """Shares of variance: ICC, repeatability, reliability, R2, coefficient of variation.

        Parameters
        ----------
        at
            Values of columns that vary by group, `{"Days": 5}`: the shares among rows with these.
            By default variances are averaged over the rows of the data (Johnson 2014).
        k
            Number of rows, or several, that the mean of a level is of; beyond 1 it adds the
            reliability of such a mean.
        prob
            Probability of the equal-tailed intervals.
        seed
            For the effects behind the Bayesian R2; fixed, so that the same question gets the same
            answer.

        Returns
        -------
        ranef.answers.variance_shares.VarianceShares
            With `.draws`, `.table()` and `.plot()`.

        Raises
        ------
        DataError
            If at names a column with which no effect varies, k is no whole number from 1, or prob
            is not between 0 and 1.

        Notes
        -----
        With weights the residual variance is the mean of `sigma² / weight` over rows, with known
        standard errors the mean of their squares. R2 as in Nakagawa and Schielzeth (2013) and
        Johnson (2014), Methods in Ecology and Evolution 4 and 5; Bayesian R2 as in Gelman et al.
        (2019), The American Statistician 73. What offsets explain is not counted.

        Examples
        --------
        >>> import ranef as rf
        >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
        >>> bool(0.2 < fit.variance_shares().table().loc["ICC", "mean"] < 0.6)
        True
        """
        return answer_shares(self.posterior_draws, self.source, at, k, prob, seed)

    def probability(self, statement: str, *, seed: Seed = 0) -> Probability:
        """Probability that a statement about parameters is true.

        Parameters
        ----------
        statement
            A comparison of names as `summary` prints them: `"Days > 10"`,
            `"1|Subject_sigma > sigma"`, `"abs(Days) < 5"`, `"0 < f[b] - f[c] < 2"`; group effects
            by level, `"1|Subject[308] > 1|Subject[309]"`. The operators are ``+ - * / ** and or
            not``, the functions abs, sqrt, exp, log, min, max.
        seed
            For group effects that were not stored, which are drawn jointly with the stored draws;
            fixed, so that the same question gets the same answer.

        Returns
        -------
        ranef.answers.statements.Probability
            The share of draws in which it holds and its Monte Carlo error; `float()` of it is the
            share.

        Raises
        ------
        DataError
            If it names what the fit does not have, or is no comparison. Nothing in a statement is
            run as code.

        Examples
        --------
        >>> import ranef as rf
        >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
        >>> 0.2 < float(fit.probability("1|Batch_sigma > sigma")) < 0.5
        True
        """
        return answer_probability(self.draws, lambda: self.posterior_draws, statement, seed)

    def contrast(self, weights: Mapping[str, Any], prob: float = 0.95) -> Combinations:
        """Posterior of linear combinations of coefficients.

        Parameters
        ----------
        weights
            Weight by coefficient, `{"f[b]": 1, "f[c]": -1}`, or several such by a name of yours.
        prob
            Probability of the equal-tailed interval.

        Returns
        -------
        ranef.answers.contrasts.Combinations
            With `.table()`, `.plot()` and `.pairs()`.

        Raises
        ------
        DataError
            If a name is no coefficient, a weight no number, or prob not between 0 and 1.

        Notes
        -----
        Given the variance parameters coefficients are normal, so tables mix one normal for each
        draw of those; where that takes more than seconds, they come from the stored draws.
        """
        return contrast(self.posterior_draws, weights, prob)

    def marginal_means(
        self,
        names: str | Sequence[str],
        at: Mapping[str, Any] | None = None,
        prob: float = 0.95,
    ) -> Combinations:
        """Mean response by level of a factor, all else balanced (estimated marginal means).

        Parameters
        ----------
        names
            A factor among the fixed effects, or several for their combinations.
        at
            Values at which other columns are held, `{"age": 40, "sex": "f"}`. Otherwise covariates
            are at their mean over rows and other factors' levels weigh equally.
        prob
            Probability of the equal-tailed interval.

        Returns
        -------
        ranef.answers.contrasts.Combinations
            With `.table()`, `.plot()`, and `.pairs()` for the differences.

        Raises
        ------
        DataError
            If a name is no factor of the fixed part, a value does not fit its column, or prob is
            not between 0 and 1.

        Notes
        -----
        Searle, Speed and Milliken (1980), The American Statistician 34; as R's emmeans. Group
        effects are at their mean, zero; offsets at their mean over rows.
        """
        return marginal_means(self.posterior_draws, self.source, names, at, prob)

    def predict(
        self,
        new: Any = None,
        kind: Kind = "mean",
        groups: Groups = "conditional",
        interval: float = 0.95,
        *,
        seed: Seed = None,
        draws: bool = False,
    ) -> Prediction:
        """Predict rows, of the data or new ones, in the units of the formula's left side.

        A formula `log(y) ~ …` gives predictions of log(y).

        Parameters
        ----------
        new
            A table as in `fit`; None predicts the complete rows of the data. Transforms such as
            `scale(x)` and `poly(x, 2)` keep what they learnt from the data. A missing column or
            value, or a level of a fixed-effect factor that the data had not, is an error.
        kind
            `"mean"`: the expected value of a row, offset + X beta + Z b. `"response"`: a new
            observation there, with its residual. Where the fit has `weights` or `se`, new rows need
            that column for their residual SD.
        groups
            `"conditional"`: every group has its own effects; a group that the data had not is an
            error. `"new"`: such a group gets new effects from its term's covariance, the same for
            all its rows, and groups of the data keep theirs. `"marginal"`: the population;
            grouping columns are not read. Its mean is X beta, effects at zero; its response adds
            the variance of effects and residual, as of a row from a group never seen.
        interval
            Probability of the equal-tailed interval.
        seed
            For `draws=True`, and for models with several grouping factors, whose effects are drawn.
        draws
            Keep joint draws too, `Prediction.draws`, shape (draws, rows): rows of one group, known
            or new, move together; with `"marginal"` every row is a group of its own.

        Returns
        -------
        Prediction
            `.table()`, `.plot()`, `.draws`; printed, the first rows.

        Raises
        ------
        DataError
            If the rows cannot be read as the data were, or an argument is unknown.

        Notes
        -----
        Mean, SD and interval of a row are those of a mixture of normals over the draws of the
        variance parameters, coefficients and effects integrated out (Rao–Blackwell), so with one
        grouping factor the table involves no further random numbers. With several factors the
        effects of known groups, and coefficients, are drawn. Where that takes more than some 20
        seconds, or more than 1e8 numbers, every k-th draw is used, 400 at least.

        Examples
        --------
        >>> import ranef as rf
        >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
        >>> fit.predict({"Batch": ["G"]}, groups="new").table().columns.tolist()
        ['mean', 'sd', 'lower', 'upper']
        """
        return predict_rows(
            self.posterior_draws,
            self.source,
            new,
            kind=kind,
            groups=groups,
            interval=interval,
            seed=seed,
            draws=draws,
        )

    def fitted(self, interval: float = 0.95, *, seed: Seed = None) -> pd.DataFrame:
        """Fitted values: the mean of every row of the data, given its groups' effects.

        Parameters
        ----------
        interval
            Probability of the equal-tailed interval.
        seed
            As in `predict`.

        Returns
        -------
        pandas.DataFrame
            Columns mean, sd, lower, upper, one row for each complete row of the data, numbered from
            0: rows with missing values are left out, as in the fit.
        """
        return self.predict(interval=interval, seed=seed).table()

    def residuals(self, kind: ResidualKind = "response", *, seed: Seed = None) -> Residuals:
        """Residuals of the rows, given their groups' effects.

        Parameters
        ----------
        kind
            `"response"`: y less the fitted value. `"pearson"`: that in residual SDs of the row.
            `"pit"`: the probability of less than y in the prediction from all other rows
            (leave-one-out), uniform where the model is right; NaN for a row that no other row
            speaks of.
        seed
            For models with several grouping factors, whose effects are drawn.

        Returns
        -------
        Residuals
            `.values`, `.table()`, and `.plot()` with a quantile plot.

        Raises
        ------
        DataError
            If the kind is unknown.

        Examples
        --------
        >>> import ranef as rf
        >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
        >>> fit.residuals("pit").values.shape
        (30,)
        """
        return fit_residuals(self.posterior_draws, self.source, kind=kind, seed=seed)

    def check(
        self,
        statistics: Sequence[str] | Mapping[str, Callable[[Any], Any]] | None = None,
        *,
        groups: Literal["conditional", "new"] = "conditional",
        replications: int = 1000,
        interval: float = 0.95,
        seed: Seed = None,
    ) -> PredictiveCheck:
        """Posterior predictive check, whether the model would give data like these.

        Parameters
        ----------
        statistics
            Names out of `"mean"`, `"sd"`, `"min"`, `"max"`, `"between_sd"` (SD of the group means),
            `"within_sd"` (pooled), `"icc"` (intraclass correlation by analysis of variance; with
            several factors `"icc[g]"` and so on); or functions by name, each from the response,
            shape (N,), to a number. Default: all of the names.
        groups
            `"conditional"`: the same groups measured again. `"new"`: other groups, which also tests
            the distribution of the group effects.
        replications
            Number of replicated data sets, at most one for each draw.
        interval
            Probability of the table's intervals.
        seed
            For the same replicated data again.

        Returns
        -------
        PredictiveCheck
            `.table()` with p-values, `.plot()` with densities and statistics.

        Raises
        ------
        DataError
            If a statistic is unknown or gives no number.

        Notes
        -----
        These p-values are no tests at a level: data are used twice, so for statistics that the
        model fits, such as the mean, they crowd around a half.

        Examples
        --------
        >>> import ranef as rf
        >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
        >>> fit.check(["max", "icc"], seed=1).names
        ('max', 'icc')
        """
        return check_fit(
            self.posterior_draws,
            self.source,
            statistics,
            groups=groups,
            replications=replications,
            interval=interval,
            seed=seed,
        )

    def sensitivity(
        self,
        priors: Mapping[str, Mapping[str, Any]] | None = None,
        quantities: Sequence[str] | Mapping[str, Any] | None = None,
        *,
        prob: float = 0.95,
        draws: int = 4000,
        seed: Seed = None,
        progress: bool = True,
    ) -> Sensitivity:
        """Whether the answers are the data's or the prior's: refits under other priors.

        Parameters
        ----------
        priors
            Alternatives by name, each a mapping as `ranef.fit` takes it,
            `{"sceptical": {"1|g": "half_t(5)"}}`; what it leaves out stays as fitted. Default: the
            usual priors on all SDs, scaled to the data (half-t, half-Cauchy, exponential, uniform,
            inverse gamma, uniform variance shares; see
            `ranef.answers.sensitivity.refits.default_alternatives`).
        quantities
            Names of parameters as in `summary`, or functions of their draws by name,
            `{"ICC": lambda d: d["1|g_sigma"]**2 / (d["1|g_sigma"]**2 + d["sigma"]**2)}`.
            Default: all parameters.
        prob
            Probability of the equal-tailed intervals.
        draws
            Independent draws under each alternative.
        seed
            Integer or `numpy.random.Generator`.
        progress
            Show a bar if it takes more than a second.

        Returns
        -------
        Sensitivity
            `.table()`, `.plot()`, `.verdicts` (one sentence for each quantity), and
            `.power_scaling`, the sensitivity to powers of prior and likelihood (Kallioinen et al.
            2024) by arviz-stats.

        Raises
        ------
        PriorError, DataError, ImproperPosteriorError
            If an alternative or a quantity means nothing, or a stated alternative has no proper
            posterior; one of the default alternatives is then listed as left out.

        Examples
        --------
        >>> import ranef as rf
        >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
        >>> fit.sensitivity(seed=1).verdicts["sigma"].partition(":")[0]
        "the data's"
        """
        from ranef.answers.sensitivity.refits import prior_sensitivity

        return prior_sensitivity(
            self.posterior_draws,
            self.source,
            priors,
            quantities,
            prob=prob,
            draws=draws,
            seed=seed,
            progress=progress,
        )

    def loo(
        self,
        unit: str = "row",
        *,
        draws: int | None = None,
        refit: bool = True,
        seed: Seed = 0,
    ) -> Any:
        """Predict each row, or each group, from all others: leave-one-out cross-validation.

        Parameters
        ----------
        unit
            What is left out at a time: `"row"`, `"group"` (all rows of a level of the one grouping
            factor), or the name of a grouping factor where there are several.
        draws
            How many draws to use, evenly spaced; by default as many as a minute and 320 MB allow.
        refit
            Fit again without each case that moves the variance parameters too far for importance
            weights (Pareto k-hat above ArviZ's limit, 0.7 or less with few draws), so that draws
            with it and without it are at hand. Where that would take more than two minutes, or with
            False, the estimate stays and a warning names the cases.
        seed
            For those fits.

        Returns
        -------
        arviz_stats.ELPDData
            `elpd`, the sum of log predictive densities in nats, with `se`; `elpd_i` by case; `p`,
            the effective number of parameters; `pareto_k`, zero where the case was refitted.
            `ranef.compare` and every ArviZ function take it.

        Raises
        ------
        DataError
            If there is no such unit, or leaving it out would take too long or too much memory.
        ImproperPosteriorError
            If a flat coefficient is determined by what is left out alone.

        Warns
        -----
        ReliabilityWarning
            Where Pareto k-hat is too large and the case was not refitted.

        Notes
        -----
        Given the variance parameters the density of what is left out has a closed form, so only
        these few parameters need importance weights. For rows, `p` counts coefficients and effects
        too, as ArviZ counts them; for groups, what a further group with the same rows tells.

        Examples
        --------
        >>> import ranef as rf
        >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
        >>> len(fit.loo().elpd_i), len(fit.loo("group").elpd_i)
        (30, 6)
        """
        return leave_one_out(
            self.posterior_draws, self.source, unit, draws=draws, refit=refit, seed=seed
        )

    def log_marginal_likelihood(self) -> LogMarginalLikelihood:
        """Log density of the data with all parameters integrated over their priors.

        Returns
        -------
        LogMarginalLikelihood
            `float()` of it is the value in nats; `.error` its error: of the quadrature for one
            grouping factor with random intercepts, of importance sampling else. For draws by Gibbs
            or NUTS it is computed anew, as it does not come from their draws.

        Raises
        ------
        PriorError
            If a prior is improper, as the default flat ones on coefficients are.

        Examples
        --------
        >>> import ranef as rf
        >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1,
        ...              priors={"Intercept": "norm(1500, 100)"})
        >>> round(float(fit.log_marginal_likelihood()), 3)
        -168.558
        """
        return log_marginal_likelihood(self.draws, self.source.model)

    def no_group_effect(
        self, term: str | None = None, *, prior_probability: float = 0.5
    ) -> NoGroupEffect:
        """Probability that a group term is not there, and its Bayes factor.

        Parameters
        ----------
        term
            The term as in the formula, such as `"1|Batch"`; None where there is one.
        prior_probability
            Of no effect, before the data.

        Returns
        -------
        NoGroupEffect

        Raises
        ------
        DataError
            If there is no such term, or the prior probability is not between 0 and 1.
        PriorError
            If the prior on the term's own SD is improper, or on shares of a total variance. Flat
            priors on coefficients, or on the residual SD, stand in both models and cancel.

        Examples
        --------
        >>> import ranef as rf
        >>> fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
        >>> round(fit.no_group_effect("1|Batch").probability, 3)
        0.11
        """
        return no_group_effect(self.draws, self.source.model, term, prior_probability)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit to one NetCDF file, whole or not at all.

        Parameters
        ----------
        path
            The file, e.g. `"fit.nc"`; `ranef.load` reads it back. It holds the used columns of the
            data too.
        """
        import xarray as xr

        rows = rows_of(self.source.rows)
        save_tree(self.draws.assign({GROUP: xr.DataTree(rows)}), path)

    def __str__(self) -> str:
        """The table a statistician would paste."""
        return format_table(self.draws, self.certificate)

    __repr__ = __str__


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Parameters
    ----------
    path
        The NetCDF file.

    Returns
    -------
    Fit

    Raises
    ------
    DataError
        If the file is missing or holds no fit.
    """
    tree = load_tree(path)
    rows = tree[GROUP].to_dataset() if GROUP in tree.children else None
    return Fit(tree.filter(lambda node: node.name != GROUP), rows)
