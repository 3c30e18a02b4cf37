"""Reused labels are asked about where the table shows that they start anew, and nowhere else."""

from __future__ import annotations

import re
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest

from ranef.errors import NestingWarning
from ranef.formula.parse import parse_formula
from ranef.formula.rows import evaluate


def messages(data, formula="y ~ 1 + (1|subject) + (1|item)"):
    """Texts of the nesting warnings of a table."""
    data = data.reset_index(drop=True).assign(y=lambda d: np.sin(np.arange(len(d))))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluate(parse_formula(formula), data)
    return [str(w.message) for w in caught if w.category is NestingWarning]


def crossing(subjects, items, repeats=2):
    """Each subject sees each item, some times."""
    rows = list(product(range(1, subjects + 1), range(1, items + 1), range(repeats)))
    return pd.DataFrame(rows, columns=["subject", "item", "k"])


SIZES = [(40, 24), (12, 3), (6, 6), (3, 20), (4, 4)]


@pytest.mark.parametrize("size", SIZES)
def test_complete_crossings_are_not_asked_about(size):
    assert messages(crossing(*size)) == []


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("size", SIZES)
def test_crossings_with_gaps_at_random_are_not_asked_about(size, seed):
    rng = np.random.default_rng(seed)
    full = crossing(*size)
    for share in (0.02, 0.1, 0.3):
        gone = rng.random(len(full) // 2) < share
        assert messages(full[~np.repeat(gone, 2)]) == []


def test_a_few_subjects_that_stopped_early_are_not_asked_about():
    full = crossing(40, 10)
    assert messages(full[~((full["subject"] > 35) & (full["item"] > 6))]) == []


def test_conditions_between_subjects_are_not_asked_about():
    data = crossing(30, 12).assign(condition=lambda d: d["subject"] % 3 + 1)
    assert messages(data, "y ~ 1 + (1|condition) + (1|item)") == []


@pytest.mark.parametrize("seed", range(5))
def test_labels_counted_anew_are_asked_about(seed):
    size = np.random.default_rng(seed).integers(3, 9, 15)
    rows = [(s, k) for s, n in enumerate(size) for k in range(1, n + 1) for _ in range(3)]
    (message,) = messages(pd.DataFrame(rows, columns=["subject", "item"]))
    assert "'item' (1, 2, 3, …) start anew in every level of 'subject'" in message


@pytest.mark.parametrize("names", [("subject", "item"), ("subject no", "item/1"), ("a.b", "5%")])
def test_advice_can_be_pasted(names):
    rows = [(s, k) for s in range(12) for k in range(2 + s % 4) for _ in range(2)]
    data = pd.DataFrame(rows, columns=list(names))
    (message,) = messages(data, "y ~ 1 + (1|`{}`) + (1|`{}`)".format(*names))
    nested, both = re.findall(r"\(1\|.*?[/:].*?\)(?= beside|\. )", message)
    for advice in (f"y ~ 1 + {nested}", f"y ~ 1 + (1|`{names[0]}`) + (1|`{names[1]}`) + {both}"):
        assert parse_formula(advice).groups[-1].factors == names
        assert messages(data, advice) == []
