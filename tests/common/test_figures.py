"""Figures can be read: what is drawn is named, and names neither overlap nor leave the figure."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from matplotlib.text import Text

import ranef as rf
from frames import make_frame
from ranef.calibration.report import Calibration
from ranef.gibbs_check.report import BlockCheck, GibbsReport
from ranef.planning.result import Plan

DOSE, ARM, SITE = "Dose of the trial drug [mg/kg]", "Treatment arm", "Research station"
PRESSURE = "Systolic blood pressure / mmHg (morning, $sitting$)"
FORMULA = f"`{PRESSURE}` ~ `{DOSE}` + `{ARM}` + (`{DOSE}`|`{SITE}`)"
ARMS = ("placebo tablet, twice daily", "active substance 10 mg", "active substance 50 mg")


def trial() -> pd.DataFrame:
    """Make 60 groups under long names that are no Python names."""
    rng = np.random.default_rng(1)
    site, dose = np.repeat(np.arange(60), 4), np.tile(np.arange(4.0), 60)
    slope = 2 + 0.5 * rng.normal(size=60)
    y = 10 + slope[site] * dose + rng.normal(size=60)[site] + 0.8 * rng.normal(size=240)
    names = [f"Station number {i:02d} (northern district)" for i in site]
    return pd.DataFrame(
        {PRESSURE: y, DOSE: dose, ARM: np.array(ARMS)[rng.integers(3, size=240)], SITE: names}
    )


@pytest.fixture(scope="module")
def odd():
    return rf.fit(FORMULA, trial(), draws=1000, seed=1)


@pytest.fixture(scope="module")
def sleep():
    data = rf.datasets.load("sleepstudy")
    return rf.fit("Reaction ~ Days + (Days|Subject)", data, draws=1000, seed=1)


def gauge(operators: int = 5, **options):
    """Study of operators and parts with long names."""
    rng = np.random.default_rng(2)
    people = ["Maria Gonzalez Hernandez", "Bartholomew Featherstone", "Ingrid Johansson-Lindqvist"]
    people += [f"Operator of shift {i}" for i in range(3, operators)]
    rows = [
        {"Part No.": f"Housing lot {i:03d}", "Inspector (shift A)": p, "Bore / µm": i % 7 + e}
        for i in range(options.get("parts", 10))
        for p in people
        for e in 0.3 * rng.normal(size=options.get("trials", 2))
    ]
    return rf.gauge_rr(
        pd.DataFrame(rows), "Bore / µm", "Part No.", "Inspector (shift A)", seed=1, draws=1000
    )


def calibration(shift: float = 0.0) -> Calibration:
    """A calibration of long names; the last quantity's draws may be shifted."""
    rng = np.random.default_rng(3)
    names = (*(f"{DOSE}|{SITE}[Station number {i}]" for i in range(6)), f"{DOSE}|{SITE}_corr")
    ranks = rng.integers(100, size=(200, len(names)))
    ranks[:, -1] = np.clip(ranks[:, -1] + shift, 0, 99)
    pit = (ranks + rng.uniform(size=ranks.shape)) / 100
    return Calibration(names, ranks, pit, {"draws": 99}, 0.01)


def report() -> GibbsReport:
    """A check of updates with long names, one of them wrong."""
    rng = np.random.default_rng(4)
    q = 1e-3 * rng.normal(size=(3, 12))
    blocks = tuple(
        BlockCheck(
            f"variance of the {name} given all else", 0, right, log_q=a, log_p=a * (1 + right)
        )
        for name, right, a in zip(
            ("stations", "patients", "visits"), (True, False, True), q, strict=True
        )
    )
    return GibbsReport(blocks, (), 0.01)


def planned(groups=(10, 11, 12, 40, 41, 42)) -> Plan:
    rng = np.random.default_rng(5)
    measures = {(g, m): rng.uniform(size=50) for g in groups for m in (2, 3, 5, 10)}
    truth = {"sigma": 1.0, "group_sd": 1.0}
    return Plan(rf.goals.icc_width(0.5), measures, 0.4, (0.0, 1.0), truth)


def new_rows() -> pd.DataFrame:
    sites = [f"Station number {i:02d} (northern district)" for i in (0, 1, 2)]
    parts = [pd.DataFrame({DOSE: np.arange(4.0), ARM: ARMS[0], SITE: s}) for s in sites]
    return pd.concat(parts)


ODD = {
    "trace": lambda f: f.plot.trace(),
    "density": lambda f: f.plot.density(truth={DOSE: 2.0}),
    "effects": lambda f: f.plot.effects(),
    "shrinkage": lambda f: f.plot.shrinkage(),
    "shares": lambda f: f.variance_shares().plot(),
    "predict": lambda f: f.predict().plot(),
    "predict by arm": lambda f: f.predict().plot(ARM),
    "predict by group": lambda f: f.predict().plot(SITE),
    "predict lines": lambda f: f.predict(new_rows(), kind="response").plot(),
    "check": lambda f: f.check(seed=1, replications=100).plot(),
    "residuals": lambda f: f.residuals().plot(),
    "means": lambda f: f.marginal_means(ARM).plot(),
    "pairs": lambda f: f.marginal_means(ARM).pairs().plot(),
    "no effect": lambda f: f.no_group_effect().plot(),
    "sensitivity": lambda f: f.sensitivity(seed=1, draws=500).plot(),
}
OTHERS = {
    "gauge": lambda: gauge().plot(),
    "gauge, many": lambda: gauge(9, parts=40).plot(),
    "gauge, once": lambda: gauge(trials=1).plot(),
    "calibrate": lambda: calibration().plot(),
    "check_gibbs": lambda: report().plot(),
    "plan": lambda: planned().plot(),
}


def written(figure):
    """Each text that is seen and the box that it takes, in pixels."""
    figure.draw_without_rendering()
    out = []
    for axis in figure.axes:
        if not (axis.get_visible() and axis.axison):
            continue
        for which, ticks in (("x", axis.get_xticklabels()), ("y", axis.get_yticklabels())):
            low, high = sorted(axis.get_xlim() if which == "x" else axis.get_ylim())
            at = [t.get_position()[which == "y"] for t in ticks]
            shown = getattr(axis, f"{which}axis").get_visible()
            out += [t for t, a in zip(ticks, at, strict=True) if shown and low <= a <= high]
        out += [axis.title, axis._left_title, axis._right_title, axis.xaxis.label, *axis.texts]
        out += [axis.yaxis.label] if axis.yaxis.get_visible() else []
        out += axis.get_legend().get_texts() if axis.get_legend() else []
    for legend in figure.legends:
        out += [*legend.get_texts(), legend.get_title()]
    seen = [t for t in out if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent()) for t in seen]


def assert_readable(figure):
    """No text lies on another or leaves the figure."""
    texts = written(figure)
    width, height = figure.canvas.get_width_height()
    for name, box in texts:
        assert box.x0 > -1, name
        assert box.y0 > -1, name
        assert box.x1 < width + 1, name
        assert box.y1 < height + 1, name
    for (one, a), (two, b) in combinations(texts, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        upright = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(across, upright) < 1.5, f"{one!r} lies on {two!r}"


@pytest.mark.parametrize("name", ODD)
def test_long_names_neither_overlap_nor_leave_a_figure(name, odd):
    figure = ODD[name](odd)
    assert_readable(figure)
    shown = "".join(text for text, _ in written(figure))
    assert "`" not in shown
    # Names are no formulas, whatever stands in them.
    assert not any(t.get_parse_math() for t in figure.findobj(Text) if "$" in t.get_text())


@pytest.mark.parametrize("name", OTHERS)
def test_neither_do_those_of_other_figures(name):
    assert_readable(OTHERS[name]())


def legend(figure):
    """Labels of the figure's legend, in one line each."""
    (legend_,) = figure.legends
    return [" ".join(t.get_text().split("\n")) for t in legend_.get_texts()]


def test_what_is_drawn_is_named(sleep, odd):
    assert legend(sleep.plot.trace()) == ["chain 0", "chain 1", "chain 2", "chain 3"]
    assert legend(sleep.plot.density()) == ["posterior density", "95% interval"]
    assert legend(sleep.plot.density(truth={"Days": 10.0}))[-1] == "true value"
    assert "one level of Subject" in legend(sleep.plot.shrinkage())
    observed = "observed", "predicted mean, a line for each Subject"
    assert legend(sleep.predict().plot()) == [*observed]
    few = pd.DataFrame({"Days": [0.0, 9.0, 0.0, 9.0], "Subject": ["308", "308", "309", "309"]})
    assert legend(sleep.predict(few, interval=0.8).plot()) == [
        "Subject = 308", "Subject = 309", "80% interval"
    ]  # fmt: skip
    line = pd.DataFrame({"Days": [0.0, 9.0]})
    labels = ["predicted mean", "95% interval"]
    assert legend(sleep.predict(line, groups="marginal").plot()) == labels
    assert legend(odd.predict().plot()) == ["observed", "predicted mean of a row, 95% interval"]
    check = sleep.check(["mean"], seed=1, replications=50).plot()
    assert legend(check) == ["data", "replicated data sets"]
    assert check.legends[0].get_title().get_text().startswith("p: share of replicated")
    assert "one row" in legend(sleep.residuals().plot())
    assert legend(sleep.sensitivity(quantities=["Days"], seed=1, draws=500).plot()) == [
        "interval as fitted", "median, 95% interval under each prior"
    ]  # fmt: skip
    assert "recommended" in legend(planned().plot())
    assert "wanted: 0.4" in legend(planned().plot())
    assert "control limits, 3 SD either side" in legend(gauge().plot())
    assert legend(report().plot())[0] == "where a right update puts all draws"


def test_a_calibration_names_its_band_and_marks_what_fails():
    curve, band = "share of PIT values up to x, less x", "where all curves of a right sampler"
    passed, failed = calibration().plot(), calibration(20).plot()
    assert legend(passed)[0] == curve
    assert legend(passed)[1].startswith(band)
    assert legend(failed)[1] == f"{curve}: not calibrated"
    red = to_rgba("tab:red")
    lines = [[to_rgba(line.get_color()) == red for line in a.lines] for a in failed.axes[:7]]
    assert [any(some) for some in lines] == [False] * 6 + [True]
    assert all(axis.yaxis.get_visible() for axis in passed.axes[:7])


def test_differences_are_told_from_means_and_marked_at_zero(odd):
    def zeros(figure):
        return [line for line in figure.axes[0].lines if set(line.get_xdata()) == {0}]

    means = odd.marginal_means(ARM)
    axis = means.plot().axes[0]
    assert axis.get_xlabel().startswith(PRESSURE)
    assert not zeros(means.plot())
    pairs = means.pairs().plot()
    assert pairs.axes[0].get_xlabel().startswith(f"difference in {PRESSURE[:10]}")
    assert zeros(pairs)
    contrast = odd.contrast({DOSE: 1}).plot()
    assert contrast.axes[0].get_xlabel().startswith("contrast in")
    assert zeros(contrast)


def test_a_trace_gives_each_level_its_row_unless_they_are_very_many(odd, monkeypatch):
    assert len(odd.plot.trace().axes) == 2 * len(odd.summary())
    monkeypatch.setattr("ranef.answers.plots._NAMED", 3)
    assert len(odd.plot.trace().axes) == 2 * (len(odd.summary()) - 1)


def test_a_share_of_zero_is_seen_whole():
    data = rf.datasets.load("Dyestuff")
    shares = rf.fit("Yield ~ 1 + (1|Batch)", data, draws=500, seed=1).variance_shares()
    low, high = shares.plot().axes[0].get_xlim()
    assert low < 0 < 1 < high


def test_panels_keep_their_height_beside_turned_names():
    figure = gauge(trials=1).plot()
    figure.draw_without_rendering()
    heights = [a.get_window_extent().height / figure.dpi for a in figure.axes]
    assert min(heights) > 1.8
    assert figure.axes[3].get_xticklabels()[0].get_rotation() == 90


def test_rows_that_share_a_value_stand_side_by_side(odd):
    axis = odd.predict().plot().axes[0]
    x = np.concatenate([np.asarray(line.get_xdata()) for line in axis.lines[:1]])
    assert len(np.unique(x)) == 240
    np.testing.assert_array_equal(np.round(np.sort(x)), np.repeat(np.arange(4.0), 60))


@given(st.text("ab |:_\n$", max_size=60), st.integers(1, 20))
def test_wrapped_text_says_the_same_in_lines_that_are_short(text, width):
    from ranef.common.figures import wrap

    lines = wrap(text, width).split("\n")
    assert all(len(line) <= width for line in lines)
    assert "".join(wrap(text, width).split()) == "".join(text.split())


def test_many_levels_are_counted_where_they_are_not_named():
    fit = rf.fit("y ~ 1 + (1|g)", make_frame(groups=70), draws=1000, seed=1)
    assert fit.plot.effects().axes[0].get_ylabel() == "g (70 levels)"
    assert fit.predict().plot("g").axes[0].get_xlabel() == "g (70 levels)"
