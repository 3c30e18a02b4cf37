"""Gauge R&R: published ANOVA figures, a posterior by brute force, and what the study refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef as rf
from ranef.gauge.figure import range_moments

# AIAG, Measurement Systems Analysis, 4th ed., ANOVA table of the example: SS and mean squares.
AIAG_SS = {"operator": 3.1673, "part": 88.3619, "interaction": 0.3590, "equipment": 2.7589}
# Its estimates with the interaction pooled into the equipment, as SDs.
AIAG_SD = {"repeatability": 0.199933, "operator": 0.226838, "part": 1.042327, "gauge": 0.302373}


@pytest.fixture(scope="module")
def data():
    return rf.datasets.load("gauge_aiag")


@pytest.fixture(scope="module")
def study(data):
    return rf.gauge_rr(data, "measurement", "part", "operator", tolerance=8.0, seed=1)


def squares(data):
    """Sums of squares and their degrees of freedom in a balanced crossed study."""
    y = data.set_index(["part", "operator", "trial"])["measurement"].unstack([1, 2])
    y = y.to_numpy().reshape(10, 3, 3)
    grand, cell = y.mean(), y.mean(2)
    part, operator = y.mean((1, 2)), y.mean((0, 2))
    ss = {
        "operator": 30 * ((operator - grand) ** 2).sum(),
        "part": 9 * ((part - grand) ** 2).sum(),
        "interaction": 3 * ((cell - part[:, None] - operator + grand) ** 2).sum(),
        "equipment": ((y - cell[:, :, None]) ** 2).sum(),
    }
    return ss, {"operator": 2, "part": 9, "interaction": 18, "equipment": 60}


def test_the_data_are_those_of_the_manual(data):
    ss, df = squares(data)
    for name, published in AIAG_SS.items():
        assert ss[name] == pytest.approx(published, abs=1.5e-4)
    error = (ss["interaction"] + ss["equipment"]) / (df["interaction"] + df["equipment"])
    operator = (ss["operator"] / 2 - error) / 30
    part = (ss["part"] / 9 - error) / 9
    sds = np.sqrt([error, operator, part, error + operator])
    np.testing.assert_allclose(sds, list(AIAG_SD.values()), atol=2e-6)
    # Unpooled, the classical estimate of the interaction is a negative variance.
    assert (ss["interaction"] / 18 - ss["equipment"] / 60) / 3 < -0.008


def test_posterior_holds_the_manuals_figures(study):
    table = study.table()
    names = {"repeatability": "repeatability", "operator": "operator", "part": "part-to-part"}
    for key, component in {**names, "gauge": "gauge R&R"}.items():
        row = table.loc[("sd", component)]
        assert row["2.5%"] < AIAG_SD[key] < row["97.5%"]
        # Half the interval's quarter: within an SD of the middle, skewed as it is.
        assert abs(row["median"] - AIAG_SD[key]) < (row["97.5%"] - row["2.5%"]) / 4
    assert table.loc[("sd", "repeatability"), "median"] == pytest.approx(0.2, abs=0.01)
    assert (table.loc["variance"] > 0).all(axis=None)


def test_posterior_against_a_grid(data):
    """Integrate the likelihood of the four sums of squares: independent chi-squares, flat mean."""
    ss, df = squares(data)
    prior = {k: f"halfnorm(scale={s})" for k, s in _SCALES.items()}
    result = rf.gauge_rr(data, "measurement", "part", "operator", priors=prior, seed=2, draws=8000)
    grids = {
        "repeatability": np.linspace(0.13, 0.31, 41),
        "interaction": np.linspace(0.0005, 0.25, 60),
        "operator": np.geomspace(0.02, 1.4, 80),
        "part": np.geomspace(0.4, 3.0, 70),
    }
    e, i, o, p = np.meshgrid(*grids.values(), indexing="ij", sparse=True)
    expected = {
        "equipment": e**2,
        "interaction": e**2 + 3 * i**2,
        "operator": e**2 + 3 * i**2 + 30 * o**2,
        "part": e**2 + 3 * i**2 + 9 * p**2,
    }
    log_f = np.log(o) + np.log(p)  # the two grids that are even on the logarithm
    for name, m in expected.items():
        log_f = log_f - 0.5 * df[name] * np.log(m) - 0.5 * ss[name] / m
    for name, grid in zip(grids, (e, i, o, p), strict=True):
        log_f = log_f - 0.5 * (grid / _SCALES[name]) ** 2
    # The flat mean integrates out of N(mu, m / 90), m its expected square.
    weight = np.exp(log_f - log_f.max())
    weight /= weight.sum()
    gauge = np.sqrt(e**2 + i**2 + o**2)
    truth = {
        "repeatability": e,
        "interaction": i,
        "operator": o,
        "part-to-part": p,
        "gauge R&R": gauge,
    }
    draws = result.measures["sd"]
    ess = result.fit.summary()["ess"].min()

    def gap(name, values):
        mean = float((weight * truth[name]).sum())
        return abs(values.mean() - mean) / (values.std() / np.sqrt(ess))

    for name in truth:
        assert gap(name, draws[name]) < 4.5
    share = float((weight * (gauge / np.sqrt(gauge**2 + p**2) < 0.3)).sum())
    ours = result.probabilities()["%study variation < 30"]
    assert abs(ours - share) < 4.5 * np.sqrt(share * (1 - share) / ess)
    # Negative controls: repeatability left out of the gauge, interaction counted twice.
    assert gap("gauge R&R", draws["reproducibility"]) > 4.5
    twice = np.sqrt(draws["repeatability"] ** 2 + draws["interaction"] ** 2)
    assert gap("repeatability", twice) > 4.5


_SCALES = {"repeatability": 0.3, "interaction": 0.2, "operator": 0.4, "part": 1.0}


def test_the_measures_belong_together(study):
    measures = study.measures
    sd, share = measures["sd"], measures["%contribution"]
    np.testing.assert_allclose(share["gauge R&R"] + share["part-to-part"], 100)
    np.testing.assert_allclose(measures["%tolerance"]["gauge R&R"], 100 * 6 * sd["gauge R&R"] / 8)
    np.testing.assert_allclose(
        measures["%study variation"]["repeatability"], 10 * np.sqrt(share["repeatability"])
    )
    np.testing.assert_allclose(
        measures["ndc"]["gauge R&R"], 1.41 * sd["part-to-part"] / sd["gauge R&R"]
    )
    p = study.probabilities()
    assert list(p.index) == [
        "%study variation < 10",
        "%study variation < 30",
        "%tolerance < 10",
        "%tolerance < 30",
        "%contribution < 1",
        "%contribution < 9",
        "ndc >= 5",
    ]
    # The limits on SDs and on variances are the same limits.
    assert p["%study variation < 30"] == p["%contribution < 9"]
    assert "gauge R&R" in str(study)
    assert "Probability of passing" in str(study)


def test_one_measurement_of_each_leaves_the_interaction_out(data):
    result = rf.gauge_rr(data[data["trial"] == 1], "measurement", "part", "operator", seed=1)
    assert "interaction" not in result.components
    assert "%tolerance" not in result.measures
    assert "repeatability holds the interaction" in str(result)
    np.testing.assert_allclose(result.components["operator"], result.components["reproducibility"])
    assert len(result.plot().axes) == 6


def test_units_do_not_matter(data, study):
    thousand = data.assign(measurement=5e4 + 1000 * data["measurement"])
    result = rf.gauge_rr(thousand, "measurement", "part", "operator", tolerance=8000.0, seed=1)
    np.testing.assert_allclose(
        result.table().loc["%tolerance"], study.table().loc["%tolerance"], rtol=1e-4
    )


def test_odd_column_names_and_missing_cells(data):
    odd = data.rename(columns={"measurement": "y (mm)", "part": "value", "operator": "who/where"})
    odd = odd.drop(index=[3, 40, 70])
    result = rf.gauge_rr(odd, "y (mm)", "value", "who/where", seed=1)
    assert result.fit.source.model.design.N == 87
    assert "y (mm)" in str(result)
    assert len(result.plot().axes) == 6


def test_the_fit_has_the_users_names(data):
    named = data.rename(columns={"measurement": "bore / µm", "part": "part no.", "operator": "who"})
    fit = rf.gauge_rr(named, "bore / µm", "part no.", "who", seed=1, draws=1000).fit
    assert list(fit.summary().index) == [
        "Intercept",
        "1|part no._sigma",
        "1|who_sigma",
        "1|part no.:who_sigma",
        "sigma",
    ]
    assert fit.source.model.spec.formula.response_name == "bore / µm"


@pytest.fixture(scope="module")
def expected(data):
    return rf.gauge_rr(data, "measurement", "part", "operator", seed=1, draws=1000).table()


@pytest.mark.parametrize(
    "name", ["a`b", "sigma", "value", "a:b", "x/y", "1", "$x$", "a|b", "~", ""]
)
def test_any_column_names_go_through(name, data, expected):
    columns = ["measurement", "part", "operator"]
    for i, column in enumerate(columns):
        named = [*columns[:i], name, *columns[i + 1 :]]
        result = rf.gauge_rr(data.rename(columns={column: name}), *named, seed=1, draws=1000)
        pd.testing.assert_frame_equal(result.table(), expected)


def test_figure(study):
    axes = study.plot().axes
    assert [a.get_title() for a in axes] == [
        "Components of variation",
        "measurement by part",
        "R chart by operator",
        "measurement by operator",
        "X-bar chart by operator",
        "part by operator",
    ]
    # Limits of the manual's charts: R-bar 0.3417, times D4 2.574; grand mean 0.0014, -+ A2 R-bar.
    chart = axes[2]
    highest = max(line.get_ydata().max() for line in chart.get_lines()[-2:])
    assert highest == pytest.approx(2.574 * 0.3417, abs=2e-3)
    means = sorted(float(line.get_ydata()[0]) for line in axes[4].get_lines()[-3:])
    assert means == pytest.approx(
        [0.0014 - 1.023 * 0.3417, 0.0014, 0.0014 + 1.023 * 0.3417], abs=1e-3
    )


@pytest.mark.parametrize(
    ("n", "d2", "d3"), [(2, 1.128, 0.853), (3, 1.693, 0.888), (5, 2.326, 0.864), (10, 3.078, 0.797)]
)
def test_control_chart_constants(n, d2, d3):
    assert range_moments(n) == pytest.approx((d2, d3), abs=6e-4)


@pytest.mark.parametrize(
    ("change", "options", "error", "text"),
    [
        (None, {"tolerance": -1}, rf.DataError, "tolerance is -1"),
        (None, {"study": 0}, rf.DataError, "study is 0"),
        (None, {"value": "measurment"}, rf.DataError, "Did you mean 'measurement'"),
        (None, {"part": "operator"}, rf.DataError, "three different columns"),
        (None, {"value": "operator", "operator": "trial"}, rf.DataError, "must be numeric"),
        (None, {"priors": {"oprator": "half_t(1)"}}, rf.PriorError, "Did you mean 'operator'"),
        (None, {"priors": 3}, rf.PriorError, "priors is 3; a mapping is expected"),
        (lambda d: d[d["operator"] == "A"], {}, rf.IdentifiabilityError, "of reproducibility"),
        (lambda d: d[d["part"] == 3], {}, rf.IdentifiabilityError, "of part-to-part variation"),
        (
            lambda d: d.assign(part=d["part"].astype(str) + d["operator"]),
            {},
            rf.DataError,
            "a crossed study is expected",
        ),
        (lambda d: d.assign(measurement=1.0), {}, rf.DataError, "the same number"),
        (
            lambda d: d.assign(
                measurement=d.groupby(["part", "operator"])["measurement"].transform("first")
            ),
            {},
            rf.DataError,
            "below the gauge's resolution",
        ),
    ],
)
def test_bad_input_is_one_line(data, change, options, error, text):
    arguments = {"value": "measurement", "part": "part", "operator": "operator", **options}
    with pytest.raises(error, match=text) as caught:
        rf.gauge_rr(data if change is None else change(data), **arguments)
    assert "\n" not in str(caught.value)


def test_one_operator_goes_on_under_a_stated_prior(data):
    alone = data[data["operator"] == "A"]
    with pytest.warns(rf.IdentifiabilityWarning):
        result = rf.gauge_rr(
            alone,
            "measurement",
            "part",
            "operator",
            priors={"operator": "halfnorm(scale=0.2)"},
            seed=1,
        )
    assert result.table().loc[("sd", "operator"), "median"] == pytest.approx(0.2 * 0.6745, rel=0.1)


def test_missing_measurements_are_left_out_and_told(data):
    holed = data.assign(measurement=data["measurement"].where(data.index != 5))
    with pytest.warns(rf.MissingRowsWarning, match="1 of 90"):
        result = rf.gauge_rr(holed, "measurement", "part", "operator", seed=1)
    assert isinstance(result.probabilities(), pd.Series)
