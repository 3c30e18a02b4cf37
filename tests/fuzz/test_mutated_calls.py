"""No odd argument ends in another library's exception; `make fuzz` goes through more of them."""

from contextlib import nullcontext

import pytest

import ranef as rf
from fuzz.mutated_calls import CALLS, Mutated, failures


def test_odd_arguments_get_an_answer_or_an_error_of_ranefs_own():
    found = [f"{seed}: {call}: {error!r}" for seed, call, error in failures(range(200))]
    assert not found


def test_a_raw_exception_is_reported(monkeypatch):
    def raw(**_):
        raise KeyError("x")

    monkeypatch.setattr("fuzz.mutated_calls.CALLS", {"raw": (raw, {"x": 1})})
    assert len(list(failures(range(3)))) == 3


@pytest.mark.parametrize("name", CALLS)
def test_the_calls_answer_as_they_are(name):
    argument, value = next(iter(CALLS[name][1].items()))
    few = name.startswith("fit") and name != "fitted"
    with pytest.warns(rf.ReliabilityWarning) if few else nullcontext():
        Mutated(name, argument, value).run()
