"""Formula text: what is read, and where each mistake is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranef.errors import FormulaError
from ranef.formula.parse import GroupTerm, canonical_label, parse_formula


def parts(text: str) -> tuple[str, str, list[str]]:
    """Response, fixed part and labels of the group terms."""
    made = parse_formula(text)
    return made.response, made.fixed, [g.label for g in made.groups]


@pytest.mark.parametrize(
    ("text", "response", "fixed", "labels"),
    [
        ("y ~ 1 + x + (1|g)", "y", "1 + x", ["1|g"]),
        ("y~x+(1|g)", "y", "x", ["1|g"]),
        ("  y ~ x + ( 1 | g )  ", "y", "x", ["1|g"]),
        ("y ~ (1|g) + x", "y", "x", ["1|g"]),
        ("y ~ a + (1|g) + b", "y", "a + b", ["1|g"]),
        ("y ~ +(1|g)", "y", "1", ["1|g"]),
        ("y ~ x", "y", "x", []),
        ("y ~ x + (1|g) + (1|h)", "y", "x", ["1|g", "1|h"]),
        ("log(y) ~ poly(x, 2) + (1|g)", "log(y)", "poly(x, 2)", ["1|g"]),
        ("np.log(y) ~ a*b + (1|g)", "np.log(y)", "a*b", ["1|g"]),
        ("y ~ (a + b):c + (1|g)", "y", "(a + b):c", ["1|g"]),
        ("y ~ I(x - 1) + I(x + 2) + (1|g)", "y", "I(x - 1) + I(x + 2)", ["1|g"]),
        ("I(y - x) ~ 1 + (1|g)", "I(y - x)", "1", ["1|g"]),
        ("log((y + 1) / 2) ~ 1 + (1|g)", "log((y + 1) / 2)", "1", ["1|g"]),
        ("größe ~ 1 + (1|straße)", "größe", "1", ["1|straße"]),
    ],
)
def test_formula_is_cut_into_response_fixed_part_and_group_terms(text, response, fixed, labels):
    assert parts(text) == (response, fixed, labels)


def test_formula_keeps_what_the_user_wrote_and_the_parts_of_a_group_term():
    made = parse_formula("  y ~ 1 + (1 | `subject no`) ")
    assert made.text == "y ~ 1 + (1 | `subject no`)"
    assert made.groups == (GroupTerm("1", ("subject no",)),)


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("y ~ (1|g)", "1"),
        ("y ~ 1 + (1|g)", "1"),
        ("y ~ 0 + (1|g)", "0"),
        ("y ~ 0 + x + (1|g)", "0 + x"),
        ("y ~ -1 + x + (1|g)", "- 1 + x"),
        ("y ~ x - 1 + (1|g)", "x - 1"),
        ("y ~ (1|g) - 1", "- 1"),
        ("y ~ x + (1|g) - 1", "x - 1"),
        ("y ~ (1|g) + 0", "0"),
    ],
)
def test_intercept_is_implied_and_left_out_on_request(text, fixed):
    assert parts(text)[1] == fixed


@pytest.mark.parametrize(
    ("text", "response", "fixed", "labels"),
    [
        (
            "`reaction time (ms)` ~ 1 + (1|`subject no`)",
            "`reaction time (ms)`",
            "1",
            ["1|subject no"],
        ),
        ("`a ~ b` ~ `c + d` + (1|`e | f`)", "`a ~ b`", "`c + d`", ["1|e | f"]),
        ("`a-b` ~ `{x}` + (1|`)(`)", "`a-b`", "`{x}`", ["1|)("]),
        ("y ~ `don't` + (1|`5%`)", "y", "`don't`", ["1|5%"]),
        ("y ~ C(f, contr.treatment('a+b|c')) + (1|g)", "y", "C(f, contr.treatment('a+b|c'))", None),
    ],
)
def test_backticks_and_quotes_hide_every_sign(text, response, fixed, labels):
    assert parts(text) == (response, fixed, labels or ["1|g"])


@given(
    st.text(
        st.characters(exclude_characters="`", exclude_categories=("Cs", "Cc")), min_size=1
    ).filter(lambda s: s == s.strip())
)
def test_any_name_in_backticks_is_a_column(name):
    made = parse_formula(f"`{name}` ~ 1 + `{name}` + (1|`{name}`)")
    assert made.response == f"`{name}`"
    assert made.fixed == f"1 + `{name}`"
    assert made.groups == (GroupTerm("1", (name,)),)


@pytest.mark.parametrize(
    ("text", "position", "phrase"),
    [
        ("y ~ {x} + (1|g)", 5, "'{' is not allowed, braces run code"),
        ("y ~ x} + (1|g)", 6, "'}' is not allowed, braces run code"),
        ("y ~ log({x}) + (1|g)", 9, "'{' is not allowed"),
        ("y ~ x + (1|g", 9, "this '(' is never closed"),
        ("y ~ log((x) + (1|g)", 8, "this '(' is never closed"),
        ("y ~ x) + (1|g)", 6, "this ')' closes nothing"),
        ("y ~ `x + (1|g)", 5, "this ` is never closed"),
        ("y ~ C(x, 'a) + (1|g)", 10, "this ' is never closed"),
        ('y ~ C(x, "a) + (1|g)', 10, 'this " is never closed'),
        ("y ~ x ~ z", 7, "a second '~'"),
        (" ~ x + (1|g)", 2, "nothing stands before '~'"),
        ("y ~  ", 3, "nothing stands after '~'"),
        ("y ~ x + + (1|g)", 7, "'+' is followed by no term"),
        ("y ~ x +", 7, "'+' is followed by no term"),
        ("y ~ x - + z", 7, "'-' is followed by no term"),
        ("y ~ x + 1|g", 7, "a group term stands in parentheses: '(1|g)'"),
        ("y ~ 2*(1|g)", 5, "a group term stands in parentheses"),
        ("y ~ x - (1|g)", 7, "a group term cannot be subtracted"),
        ("y ~ x + (1|)", 9, "a group term needs both sides of '|'"),
        ("y ~ x + (|g)", 9, "a group term needs both sides of '|'"),
        ("y ~ (1|g|h)", 9, "a second '|' in one group term"),
        ("y ~ (x | |g)", 10, "a second '|' in one group term"),
        ("y ~ (1|||g)", 8, "a second '|' in one group term"),
        ("y ~ (1||)", 5, "a group term needs both sides of '|'"),
        ("y ~ (||g)", 5, "a group term needs both sides of '|'"),
        ("y ~ (1|a b)", 8, "'a b' is not a column name"),
        ("y ~ (x||a b)", 9, "'a b' is not a column name"),
        ("y ~ (1|g/a b)", 8, "'a b' is not a column name"),
        ("y ~ (1|g/)", 8, "'' is not a column name"),
        ("y ~ (1|g:)", 8, "'' is not a column name"),
        ("y ~ (1|g*h)", 8, "'g*h' is not a column name"),
        ("y ~ (1|g + h)", 8, "'g + h' is not a column name"),
        ("y ~ x - offset(z)", 7, "an offset cannot be subtracted; write offset(-x)"),
        ("y - x ~ 1 + (1|g)", 3, "arithmetic with the response stands in I()"),
        ("(y - x) ~ 1 + (1|g)", 4, "arithmetic with the response stands in I()"),
        ("log(y)/2 ~ 1 + (1|g)", 7, "arithmetic with the response stands in I()"),
        ("y**2 ~ 1 + (1|g)", 2, "arithmetic with the response stands in I()"),
        ("y + x ~ 1 + (1|g)", 3, "arithmetic with the response stands in I()"),
    ],
)
def test_error_points_at_the_character(text, position, phrase):
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    message = str(caught.value)
    assert message.startswith(f"Formula {text!r}, character {position}: ")
    assert phrase in message
    assert (caught.value.position, caught.value.text) == (position, text)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_empty_formula_is_refused_with_an_example(text):
    with pytest.raises(FormulaError, match=re.escape("empty; expected for example 'y ~ 1 +")):
        parse_formula(text)


def test_formula_without_a_tilde_is_refused_with_an_example():
    with pytest.raises(FormulaError, match=r"'y x' has no '~'; expected 'response ~ terms'"):
        parse_formula("y x")


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("(x|g)", [GroupTerm("x", ("g",))]),
        ("(1 + x|g)", [GroupTerm("1 + x", ("g",))]),
        ("( 0 +  x | g )", [GroupTerm("0 + x", ("g",))]),
        ("(poly(x, 2)|g)", [GroupTerm("poly(x, 2)", ("g",))]),
        ("(C(f, contr.treatment('a|b'))|g)", [GroupTerm("C(f, contr.treatment('a|b'))", ("g",))]),
        ("(1||g)", [GroupTerm("1", ("g",), correlated=False)]),
        ("(x + z||g)", [GroupTerm("x + z", ("g",), correlated=False)]),
        ("(1|g:h)", [GroupTerm("1", ("g", "h"))]),
        ("(1|`g:h`)", [GroupTerm("1", ("g:h",))]),
        ("(1|`g/h`)", [GroupTerm("1", ("g/h",))]),
        ("(1|a:b:c)", [GroupTerm("1", ("a", "b", "c"))]),
        ("(1|g/h)", [GroupTerm("1", ("g",)), GroupTerm("1", ("g", "h"))]),
        ("(x||g / `h i`)", [GroupTerm("x", f, correlated=False) for f in (("g",), ("g", "h i"))]),
        ("(1|a/b/c)", [GroupTerm("1", tuple("abc"[: k + 1])) for k in range(3)]),
        ("(1|a:b/c)", [GroupTerm("1", ("a", "b")), GroupTerm("1", ("a", "b", "c"))]),
        ("(1|g) + (0 + x|g)", [GroupTerm("1", ("g",)), GroupTerm("0 + x", ("g",))]),
        ("(x|g) + (1|h)", [GroupTerm("x", ("g",)), GroupTerm("1", ("h",))]),
    ],
)
def test_group_terms_hold_expression_factors_and_whether_effects_are_correlated(term, expected):
    made = parse_formula(f"y ~ z + {term} + w")
    assert made.fixed == "z + w"
    assert made.groups == tuple(expected)


@pytest.mark.parametrize(
    ("text", "nested"),
    [
        ("y ~ (1|g) + (1|h)", ()),
        ("y ~ (1|g:h)", ()),
        ("y ~ (1|g/h)", (("g", "g:h"),)),
        ("y ~ (1|g/h) + (x|k) + (1|a/b/c)", (("g", "g:h"), ("a", "a:b", "a:b:c"))),
    ],
)
def test_factors_joined_by_a_slash_are_declared_nested(text, nested):
    assert parse_formula(text).nested == nested


@pytest.mark.parametrize(
    ("text", "fixed", "offsets"),
    [
        ("y ~ x + (1|g)", "x", ()),
        ("y ~ x + offset(z) + (1|g)", "x", ("z",)),
        ("y ~ offset(log(z + 1)) + (1|g)", "1", ("log(z + 1)",)),
        ("y ~ offset( -z ) + x + offset(`a (b)`) + (1|g)", "x", ("-z", "`a (b)`")),
        ("y ~ offsets + offset2(x) + (1|g)", "offsets + offset2(x)", ()),
    ],
)
def test_offsets_are_taken_out_of_the_fixed_part(text, fixed, offsets):
    made = parse_formula(text)
    assert (made.fixed, made.offsets) == (fixed, offsets)
    assert [g.label for g in made.groups] == ["1|g"]


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ("y ~ (1|g) + x + (1|g)", "(1|g)"),
        ("y ~ (x|g) + (1 + x|g)", "(1 + x|g)"),
        ("y ~ (1|a/b) + (1|b:a)", "(1|b:a)"),
        ("y ~ (1|a/b) + (1|a)", "(1|a)"),
    ],
)
def test_group_term_that_stands_twice_is_refused(text, twice):
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    assert str(caught.value) == f"Formula {text!r} has the group term {twice} twice."
    assert caught.value.text == text


@pytest.mark.filterwarnings("ignore::ranef.errors.FormulaWarning")
@given(st.text("yxg1 0+-~|()`'{}:*/,.\n", max_size=25))
def test_any_text_gives_a_formula_or_a_formula_error(text):
    made, phrase = None, ""
    try:
        made = parse_formula(text)
    except FormulaError as error:
        phrase = str(error)
    if made is None:
        assert repr(text) in phrase or not text.strip()
    else:
        assert made.response
        assert made.fixed
        for group in made.groups:
            assert group.expression
            assert group.factors
            assert all(group.factors)
            bar = "|" if group.correlated else "||"
            assert group.label == f"{group.expression}{bar}{':'.join(group.factors)}"
        labels = [canonical_label(g.label) for g in made.groups]
        assert len(set(labels)) == len(labels)
