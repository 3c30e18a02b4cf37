"""The command line: what it prints and writes, and one line with exit code 2 for bad input."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef as rf
from ranef.cli import commands as cli

GOOD = "y ~ 1 + x + (1|g)"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(8), 4)
    x = rng.normal(size=32)
    frame = pd.DataFrame({"y": 5 + x + rng.normal(size=8)[g] + rng.normal(size=32), "x": x, "g": g})
    path = tmp_path / "data.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ranef", *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as stop:
                cli.main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


def test_fit_prints_the_summary_and_writes_three_files(run, table, tmp_path):
    code, out, err = run("fit", table, GOOD, "--seed", 1, "--draws", 1000, "--out", "a/b")
    assert (code, err) == (0, "")
    assert "1|g_sigma" in out
    assert "Certificate  acceptance" in out
    folder = tmp_path / "a/b"
    assert sorted(p.name for p in folder.iterdir()) == ["draws.nc", "report.html", "summary.csv"]
    loaded = rf.load(folder / "draws.nc")
    written = pd.read_csv(folder / "summary.csv", index_col=0)
    pd.testing.assert_frame_equal(loaded.summary(), written)
    again = rf.fit(GOOD, table, seed=1, draws=1000)
    pd.testing.assert_frame_equal(again.summary(), written)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert page.count("<img") == 1
    assert "http" not in page.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")


def test_parquet_and_csv_give_the_same_fit(run, table, tmp_path):
    pd.read_csv(table).to_parquet(tmp_path / "data.parquet")
    tables = []
    for file in (table, tmp_path / "data.parquet"):
        assert run("fit", file, GOOD, "--seed", 2, "--out", "o")[0] == 0
        tables.append((tmp_path / "o/summary.csv").read_text())
    assert tables[0] == tables[1]


def test_priors_and_method_reach_the_fit(run, table):
    code, out, _ = run(
        "fit", table, GOOD, "--prior", "sigma=half_t(7)", "--prior", "x = norm(0, 2)",
        "--prior", "1|g=variance(invgamma(2, scale=3))", "--method", "gibbs", "--seed", 1,
    )  # fmt: skip
    assert code == 0
    assert (
        "Intercept ~ flat, x ~ norm(0, 2), 1|g ~ variance(invgamma(2, scale=3)), "
        "sigma ~ half_t(7, df=3)"
    ) in " ".join(out.split())
    assert "R̂" in out


# ruff: noqa: E501
BAD_TABLES = {
    "text": ("y,x,g\n1,1,a\nlots,2,a\n3,1,b\n4,2,b\n", GOOD, "Column 'y' must be numeric, but row 2 holds 'lots'"),
    "infinite": ("y,x,g\n1,1,a\ninf,2,a\n3,1,b\n4,2,b\n", GOOD, "Column 'y' holds an infinite value (row 2, 1 in all)"),
    "empty": ("", GOOD, "is empty; a header line and rows were expected"),
    "header only": ("y,x,g\n", GOOD, "has a header but no rows"),
    "unknown column": ("yy,x,g\n1,1,a\n2,3,b\n", GOOD, "'y' is neither a column nor a known function. Did you mean 'yy'?"),
    "constant": ("y,x,g\n5,1,a\n5,2,a\n5,1,b\n5,2,b\n", GOOD, "Response 'y' is constant (5 in all 4 rows)"),
    "no groups": ("y,x,g\n1,1,a\n2,2,a\n5,1,b\n6,2,b\n", "y ~ x", "has no group term"),
    "one group": ("y,x,g\n1,1,a\n2,2,a\n5,1,a\n6,2,a\n", GOOD, "'g' has a single level, so the data say nothing of 1|g_sigma"),
    "groups of one": ("y,x,g\n1,1,a\n2,2,b\n5,1,c\n6,2,d\n", GOOD, "only the sum sigma^2 + 1|g_sigma^2 is identified"),
    "all missing": ("y,x,g\n,1,a\n2,,a\n5,1,\n", GOOD, "No row has a value in all of"),
    "formula": ("y,x,g\n1,1,a\n2,2,b\n", "y ~ x + (1|g", "character 9: this '(' is never closed"),
    "aliased": ("y,x,z,g\n1,1,2,a\n2,2,4,a\n5,1,2,b\n6,4,8,b\n", "y ~ x + z + (1|g)", "Fixed-effect columns z are linear combinations"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_or_formula_is_one_line_with_exit_code_2(run, tmp_path, name):
    content, formula, message = BAD_TABLES[name]
    (tmp_path / "bad.csv").write_text(content)
    code, out, err = run("fit", "bad.csv", formula, "--out", "out")
    assert (code, out) == (2, "")
    assert message in err
    assert [line for line in err.splitlines() if "warning" not in line] == [err.splitlines()[-1]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.csv"]


BAD_PRIORS = {
    "sigma=half_t(-1)": "half_t: scale is -1; a positive number is expected",
    "sigma=halfnorm(scale=0)": "its scale or shape is not a positive number",
    "sigma=half_t(1": "character 7: '(' was never closed",
    "sigma=halft(1)": "no distribution is called 'halft'. Did you mean 'half_t'?",
    "sigma=half_t(x)": "character 8: a number is expected",
    "sigma": "NAME=DIST is expected",
    "sgima=half_t(1)": "which the model does not have. Did you mean 'sigma'?",
    "sigma=norm(0, 1)": "has support (-inf, inf)",
    "x=half_t(1)": "only norm(mean, sd) and flat integrate out exactly",
    "1|g=jeffreys": "The posterior is improper",
    "1|g=variance(jeffreys)": "The posterior is improper",
}


@pytest.mark.parametrize("prior", BAD_PRIORS)
def test_a_bad_prior_is_one_line_with_exit_code_2(run, table, tmp_path, prior):
    code, out, err = run("fit", table, GOOD, "--prior", prior)
    assert (code, out) == (2, "")
    assert BAD_PRIORS[prior] in err
    assert len(err.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "nowhere.csv", GOOD), "File 'nowhere.csv' does not exist"),
        (("fit", "dat.csv", GOOD), "Did you mean 'data.csv'?"),
        (("fit",), "Missing argument 'FILE'"),
        (("fit", "data.csv", GOOD, "--draws", "many"), "'many' is not a valid integer"),
        (("fit", "data.csv", GOOD, "--method", "vb"), "'vb' is not one of"),
        (("fit", "data.csv", GOOD, "--out", "data.csv"), "is a file"),
        (("article", "--scenario", 9), "9 is not in the range 1<=x<=8"),
        (("simulate", "--sigma2-e", -1), "Option --sigma2-e is -1.0; a number from 0 is expected."),
        (("frobnicate",), "No such command 'frobnicate'"),
    ],
)
@pytest.mark.usefixtures("table")
def test_bad_arguments_are_one_line_with_exit_code_2(run, tmp_path, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.csv"]


def test_missing_rows_are_dropped_and_told(run, table, tmp_path):
    lines = table.read_text().splitlines()
    lines[3] = "NA," + lines[3].split(",", 1)[1]
    (tmp_path / "gap.csv").write_text("\n".join(lines))
    code, out, err = run("fit", "gap.csv", GOOD, "--seed", 1)
    assert code == 0
    assert err.strip() == "ranef: warning: 1 of 32 rows have missing values and are left out."
    assert "31 rows (1 with missing values left out)" in out


def test_a_failed_report_leaves_the_earlier_results_untouched(run, table, tmp_path, monkeypatch):
    assert run("fit", table, GOOD, "--seed", 1, "--out", "o")[0] == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()}

    def fail(*_: object, **__: object) -> str:
        raise rf.DataError("no picture")

    monkeypatch.setattr("ranef.report.fit_page", fail)
    code, _, err = run("fit", table, GOOD, "--seed", 2, "--out", "o")
    assert (code, err.strip()) == (2, "ranef: no picture")
    assert {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()} == before
    assert not list(tmp_path.glob(".ranef-*"))


def test_article_prints_the_study_and_writes_its_page(run, tmp_path):
    code, out, err = run("article", "--scenario", 1, "--draws", 2000, "--out", "page")
    assert (code, err) == (0, "")
    rows = [line for line in out.splitlines() if "σx²" in line and "│ 1 │" in line]
    assert len(rows) == 1
    printed, corrected = rows[0].split("│")[4:6]
    assert "✗" in printed
    assert "✗" not in corrected
    page = (tmp_path / "page/report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == page.count("<img") == 1


@pytest.mark.parametrize("scenario", [1, 8])
def test_article_check_finds_the_wrong_term(run, scenario):
    code, out, err = run("article", "--check", "--scenario", scenario)
    assert (code, err) == (0, "")
    printed, corrected = out.split("The sampler, corrected")
    assert (
        "update 'X' uses precision 2/sigma2_x + 1/sigma2_e; log_joint implies "
        "1/sigma2_x + 2/sigma2_e"
    ) in printed
    assert "Gibbs check passed" in corrected


def test_the_study_page_shows_a_fit_of_real_data_too():
    from ranef.report import study_page

    fit = rf.fit("Yield ~ 1 + (1|Batch)", rf.datasets.load("Dyestuff"), seed=1)
    page = study_page(rf.article.study([1], draws=300, seed=1), fit, "An answer.", progress=False)
    assert "An answer." in page
    assert "1|Batch_sigma" in page


def test_simulate_writes_the_articles_numbers(run, tmp_path):
    code, out, _ = run("simulate", "--n", 100)
    assert code == 0
    (tmp_path / "sim.csv").write_text(out)
    frame = pd.read_csv(tmp_path / "sim.csv")
    W = rf.article.simulate(100)
    np.testing.assert_array_equal(frame["W"].to_numpy().reshape(100, 2), W)
    assert run("simulate", "--n", 100, "--out", "again.csv")[0] == 0
    assert (tmp_path / "again.csv").read_text() == out


def test_import_and_help_are_light():
    heavy = "import sys, ranef, ranef.cli.commands; print(sorted({'numpy', 'scipy', 'pandas', 'rich'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import ranef"], check=True)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.4


def test_predict_writes_what_the_fit_predicts(run, table, tmp_path):
    run("fit", table, GOOD, "--seed", 1, "--draws", 1000, "--out", "a")
    new = pd.DataFrame({"x": [0.0, 1.0, 2.0], "g": [1, 3, 77], "other": ["a", "b", "c"]})
    new.to_csv("new.csv", index=False)
    options = ("--kind", "response", "--groups", "new", "--interval", 0.8)
    code, out, err = run("predict", "a/draws.nc", "new.csv", *options, "--out", "b/p.csv")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["Written: b/p.csv"]
    written = pd.read_csv(tmp_path / "b/p.csv")
    prediction = rf.load("a/draws.nc").predict(new, "response", "new", 0.8)
    pd.testing.assert_frame_equal(written, prediction.full_table())
    code, out, err = run("predict", "a/draws.nc", "new.csv", *options)
    assert (code, err) == (0, "")
    assert out == (tmp_path / "b/p.csv").read_text()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"g": 77}, (), "holds '77'"),
        ({"x": None}, (), "has no value in row 1"),
        ({}, ("--interval", 95), "--interval"),
        ({}, ("--groups", "all"), "--groups"),
    ],
)
def test_predict_tells_errors_in_one_line(run, table, change, options, message):
    run("fit", table, GOOD, "--seed", 1, "--draws", 1000, "--out", "a")
    pd.DataFrame({"x": [0.0], "g": [1]}).assign(**change).to_csv("new.csv", index=False)
    code, out, err = run("predict", "a/draws.nc", "new.csv", *options)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
    code, out, err = run("predict", "nothing.nc", "new.csv")
    assert (code, len(err.splitlines())) == (2, 1)


def test_gauge_prints_the_study_and_writes_table_and_picture(run, tmp_path):
    rf.datasets.load("gauge_aiag").to_csv(tmp_path / "gauge.csv", index=False)
    columns = ("measurement", "part", "operator")
    arguments = ("gauge", "gauge.csv", *columns, "--tolerance", 8, "--seed", 1)
    code, out, err = run(*arguments, "--prior", "operator=half_t(0.2)", "--out", "o")
    assert (code, err) == (0, "")
    assert "Number of distinct categories" in out
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["gauge.csv", "gauge.png"]
    written = pd.read_csv(tmp_path / "o" / "gauge.csv", index_col=[0, 1])
    assert written.loc[("%tolerance", "gauge R&R"), "median"] > 15
    code, _, err = run(*arguments, "--study", -1)
    assert (code, err) == (2, "ranef: Option --study is -1.0; a positive number is expected.\n")


def test_plan_prints_a_recommendation_and_says_by_its_code_whether_there_is_one(run, tmp_path):
    arguments = ("--group-sd", "lognorm(0.2, scale=1)", "--groups", "5,30", "--replicates", 4)
    options = (*arguments, "--simulations", 20, "--seed", 1)
    code, out, err = run("plan", "icc width < 0.5", *options, "--out", "o")
    assert (code, err) == (0, "")
    assert "30 groups with 4 measurements each" in out
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["plan.csv", "plan.png"]
    assert run("plan", "icc width < 0.05", *options)[0] == 1
    code, _, err = run("plan", "icc width < 0.5", "--groups", "5;30")
    assert code == 2
    assert err.count("\n") == 1
    assert "whole numbers with commas" in err
    assert "Known goals" in run("plan", "win")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "data.csv", GOOD, "--se", "xx"), "Option --se is 'xx', which is no column"),
        (("fit", "data.csv", GOOD, "--se", "x", "--prior", "sigma=flat"), "but --se x makes"),
        (("fit", "data.csv", "y ~ x + I(2*x) + (1|g)"), "or let --aliased drop leave them out."),
        (("gauge", "data.csv", "z", "g", "x"), "Argument VALUE is 'z', which is no column"),
        (("gauge", "data.csv", "y", "g", "x", "--tolerance", 0), "Option --tolerance is 0.0; a"),
        (("plan", "icc width < 1"), "a number between 0 and 1 is expected"),
        (("plan", "icc width < 0.3", "--assurance", 2), "Option --assurance is 2.0; a number"),
        (("plan", "icc width < 0.3", "--group-sd", "x"), "Option --group-sd: Prior 'x', character"),
        (("plan", "icc width < 0.3", "--groups", "5,1"), "Option --groups is 1; a whole number"),
        (("plan", "slope width < 3"), "is about a slope; give --slope, its plausible size"),
        (("plan", "slope sd within 9%", "--slope", 1), "needs --slope-sd, a plausible value."),
        (
            ("calibrate", "data.csv", GOOD, "--start", "truth"),
            "--start truth came with --method exact, whose draws are independent and start "
            "nowhere; leave --start out, or choose --method gibbs",
        ),
        (
            ("calibrate", "data.csv", GOOD, "--prior", "1|g=flat"),
            "state a proper one, e.g. --prior '1|g=half_t(10)'.",
        ),
    ],
)
@pytest.mark.usefixtures("table")
def test_errors_name_options_as_they_are_typed(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_warnings_name_options_as_they_are_typed(run, table):
    code, _, err = run("fit", table, GOOD, "--method", "gibbs", "--draws", 64, "--seed", 1)
    assert code == 0
    assert "Take more draws or sweeps (--draws, warmup=)." in err
