"""Claims: what is written is understood, and called held only where the runs bear it out."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference
from statsmodels.stats.multitest import multipletests

from results.studies import study_of
from tlx.results.claims import Claim, ClaimError, judge, parse

ARMS = (
    "full",
    "lp_ft",
    "lp_ft, lr=0.1",
    "freeze_strategy=full, dataset.labels_per_class=10",
    "a > b",
    "by",
    "full on test/accuracy",
    "0.5",
)


@pytest.mark.parametrize(
    ("text", "first", "sign", "second", "margin", "metric"),
    [
        ("lp_ft > full", "lp_ft", ">", "full", 0, "test/loss"),
        ("  lp_ft<full ", "lp_ft", "<", "full", 0, "test/loss"),
        ("lp_ft > full by 0.02", "lp_ft", ">", "full", 0.02, "test/loss"),
        ("lp_ft > full on ood/macro_f1", "lp_ft", ">", "full", 0, "ood/macro_f1"),
        ("lp_ft > full by 2e-2 on ood/f1", "lp_ft", ">", "full", 0.02, "ood/f1"),
        ("lp_ft > full by -0.01", "lp_ft", ">", "full", -0.01, "test/loss"),
        ("full > 0.9", "full", ">", 0.9, 0, "test/loss"),
        ("full > -1 by 1 on a/b", "full", ">", -1.0, 1, "a/b"),
        ("full < 90%"[:-1], "full", "<", 90.0, 0, "test/loss"),
        ("lp_ft, lr=0.1 > lp_ft", "lp_ft, lr=0.1", ">", "lp_ft", 0, "test/loss"),
        ("lp_ft > lp_ft, lr=0.1 by 1", "lp_ft", ">", "lp_ft, lr=0.1", 1, "test/loss"),
        (f"{ARMS[3]} > {ARMS[2]} on x/y", ARMS[3], ">", ARMS[2], 0, "x/y"),
        ("a > b > by by 1", "a > b", ">", "by", 1, "test/loss"),
        ("by < a > b by 1 on x/y", "by", "<", "a > b", 1, "x/y"),
        ("full > by", "full", ">", "by", 0, "test/loss"),
        ("by > full on test/accuracy", "by", ">", "full on test/accuracy", 0, "test/loss"),
        ("by > full by 0 on test/accuracy", "by", ">", "full", 0, "test/accuracy"),
        ("full > 0.5", "full", ">", "0.5", 0, "test/loss"),
        ("full > 0.50", "full", ">", 0.5, 0, "test/loss"),
    ],
)
def test_claims_are_understood(text, first, sign, second, margin, metric):
    found = parse(text, arms=ARMS, metric="test/loss")
    assert found == Claim(
        text=text, first=first, sign=sign, second=second, margin=margin, metric=metric
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lp_ft beats full", "neither '>' nor '<'; write A > B"),
        ("lp_ft >= full", "without '='"),
        ("lpft > full", "no arm 'lpft'; did you mean 'lp_ft'"),
        ("lp_ft > ful by 0.02", "'ful' is neither an arm nor a number; did you mean 'full'"),
        ("lp_ft > full by much", "margin 'much' is no number; write 'by 0.02'"),
        ("lp_ft > full by nan", "margin 'nan'"),
        ("lp_ft > full on accuracy", "metric 'accuracy' lacks its split; write 'on test/accuracy'"),
        ("lp_ft > full on accuracy/", "lacks its split"),
        ("lp_ft > inf", "'inf' is neither an arm nor a number"),
        ("full > full", "compares 'full' with itself"),
        ("full > ", "'' is neither an arm"),
        (" > full", "no arm ''"),
        ("", "neither '>'"),
        ("a > b > ful", "'ful' is neither an arm nor a number; did you mean 'full'"),
        ("zzz > full", "no arm 'zzz'; the arms are 'full', 'lp_ft'"),
    ],
)
def test_what_is_not_understood_is_told(text, message):
    with pytest.raises(ClaimError) as error:
        parse(text, arms=ARMS, metric="test/loss")
    assert message in str(error.value)
    assert repr(text) in str(error.value)


@settings(deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1).map(str.strip),
        min_size=2,
        max_size=2,
        unique=True,
    ).filter(all),
    st.sampled_from("<>"),
    st.floats(-5, 5),
)
def test_any_two_names_can_be_compared(arms, sign, margin):
    text = f"{arms[0]} {sign} {arms[1]} by {margin!r} on test/accuracy"
    try:
        found = parse(text, arms=arms, metric="x/y")
    except ClaimError:
        # such names can be read in another way: only then may it fail
        assert any(mark in name for name in arms for mark in "<>")
        return
    if not any(mark in name for name in arms for mark in "<>"):
        assert (found.first, found.sign, found.second) == (arms[0], sign, arms[1])
        assert (found.margin, found.metric) == (margin, "test/accuracy")


def test_parsing_needs_the_standard_library_only():
    code = (
        "import sys; from tlx.results.claims import judge, parse; "
        "parse('a > b', arms=['a', 'b'], metric='x/y'); "
        "print([m for m in ('numpy', 'scipy', 'pandas', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


RNG = np.random.default_rng(1)
BASE = RNG.normal(0.7, 0.01, 6).tolist()
BETTER = [value + 0.1 + step for value, step in zip(BASE, RNG.normal(0, 0.01, 6), strict=True)]
CLOSE = [value + 0.01 + step for value, step in zip(BASE, RNG.normal(0, 0.02, 6), strict=True)]
FIGURES = {"base": BASE, "better": BETTER, "close": CLOSE}


def verdicts(*claims, figures=FIGURES):
    manifest, records = study_of(figures, claims=claims)
    return judge(manifest, records)


@pytest.mark.parametrize(
    ("claim", "status"),
    [
        ("better > base", "held"),
        ("base < better", "held"),
        ("better < base", "not held"),
        ("better > base by 0.05", "held"),
        ("better > base by 0.3", "not held"),
        ("base < better by 0.3", "not held"),
        ("base < better by 0.05", "held"),
        ("base > better by -0.3", "held"),
        ("close > base", "undecided"),
        ("close < base", "undecided"),
        ("better > 0.75", "held"),
        ("better < 0.75", "not held"),
        ("base > 0.7", "undecided"),
    ],
)
def test_verdicts(claim, status):
    (found,) = verdicts(claim)
    assert found.status == status
    assert found.sentence.startswith(f"{status}: ")
    assert found.claim == claim
    assert (found.more_seeds is None) == (status != "undecided")
    assert (found.n, found.missing, found.test) == (6, 0, "paired t")


def test_a_verdict_s_numbers_equal_scipy_and_statsmodels():
    claims = ("better > base by 0.08", "close > base", "close < better", "base > 0.69")
    found = verdicts(*claims)
    gaps = [
        (np.subtract(BETTER, BASE), 0.08),
        (np.subtract(CLOSE, BASE), 0),
        (np.subtract(CLOSE, BETTER), 0),
        (np.array(BASE) - 0.69, 0),
    ]
    ps = []
    for verdict, (gap, against) in zip(found, gaps, strict=True):
        interval = reference.ttest_1samp(gap, 0).confidence_interval(verdict.level)
        assert (verdict.low, verdict.high) == pytest.approx((interval.low, interval.high))
        assert verdict.difference == pytest.approx(gap.mean())
        ps.append(reference.ttest_1samp(gap, against).pvalue)
        assert verdict.p == pytest.approx(ps[-1])
    expected = multipletests(ps, method="holm")[1]
    assert [verdict.p_holm for verdict in found] == pytest.approx(expected)


def test_more_claims_need_more_evidence():
    gap = np.subtract(BETTER, BASE)
    margin = gap.mean() - 3.5 * gap.std(ddof=1) / math.sqrt(6)  # so that t is 3.5
    claim = f"better > base by {margin}"
    (alone,) = verdicts(claim)
    assert alone.status == "held"
    assert alone.p == pytest.approx(2 * reference.t.sf(3.5, 5))
    crowd = [f"close > base by {margin / 1000}" for margin in range(20)]
    among = verdicts(claim, *crowd)[0]
    assert (among.status, among.p) == ("undecided", alone.p)
    assert among.p_holm == pytest.approx(21 * alone.p)


def test_more_claims_need_more_seeds_to_settle_them():
    (alone,) = verdicts("close > base")
    assert f"about {alone.more_seeds} seeds in all would settle it" in alone.sentence
    more = verdicts("close > base", "base < close")[0]
    assert more.more_seeds > alone.more_seeds  # Holm's correction is taken into account


def test_what_never_settles():
    gap = {"a": [0.1, 0.2, 0.3], "b": [0.2, 0.1, 0.3]}
    (found,) = verdicts("a > b", figures=gap)
    assert found.more_seeds == math.inf
    assert "more than 100 seeds" in found.sentence


def test_missing_seeds_are_left_out_and_told():
    figures = {"a": [*BETTER, math.inf, -math.inf, 0.9], "b": [*BASE, 0.7, 0.7, math.inf]}
    (found,) = verdicts("a > b", figures=figures)  # finished, but without a figure
    assert (found.n, found.missing, found.status) == (6, 3, "held")
    assert found.difference == pytest.approx(np.subtract(BETTER, BASE).mean())
    assert "n = 6 seeds (3 of 9 without a figure)" in found.sentence


def test_one_seed_decides_nothing():
    (found,) = verdicts("a > b", figures={"a": [0.9, None], "b": [0.1, 0.1]})
    assert (found.status, found.n, found.more_seeds) == ("undecided", 1, None)
    assert math.isnan(found.p)
    assert math.isnan(found.low)
    assert "at least 2 are needed" in found.sentence
    assert "nan" not in found.sentence


def test_no_seed_says_what_there_is():
    nothing, wrong = verdicts(
        "a > b", "a > b on ood/acuracy", figures={"a": [None, 0.5], "b": [0.1, None]}
    )
    assert (nothing.status, nothing.n) == ("undecided", 0)
    assert "no seed has the figures on test/accuracy yet, n = 0 seeds" in nothing.sentence
    assert "no finished run has 'ood/acuracy' (they have test/accuracy)" in wrong.sentence


def test_claims_without_runs_do_not_count_in_holm_s_correction():
    alone, _ = verdicts("better > base", "better > base on ood/accuracy")
    assert alone.p == alone.p_holm


@pytest.mark.parametrize(("n", "status"), [(2, "undecided"), (5, "undecided"), (6, "held")])
def test_equal_differences_are_not_believed_at_once(n, status):
    (found,) = verdicts("a > b", figures={"a": [1.0] * n, "b": [0.9] * n})
    assert (found.status, found.test) == (status, "sign")
    assert found.more_seeds == (None if status == "held" else 8)


def test_from_20_seeds_on_ranks_decide():
    rng = np.random.default_rng(0)
    figures = {"a": rng.normal(0.75, 0.05, 25).tolist(), "b": rng.normal(0.7, 0.05, 25).tolist()}
    (found,) = verdicts("a > b", figures=figures)
    assert found.test == "Wilcoxon"
    assert found.p == pytest.approx(reference.wilcoxon(figures["a"], figures["b"]).pvalue)
    assert found.status == "held"


def test_ranks_that_point_away_from_the_mean_decide_nothing():
    gaps = [-0.01 - place / 1e4 for place in range(24)] + [2.0]
    (found,) = verdicts("a > b", figures={"a": gaps, "b": [0.0] * 25})
    assert found.p_holm < 0.05
    assert found.difference > 0
    assert found.status == "undecided"


def test_true_nulls_are_rarely_called_held():
    """At most 0.025 of families with one or more wrong "held", here of three claims."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        a, b, c, d = rng.normal(0.8, 0.02, (4, 5)).tolist()
        found = verdicts("a > b", "c > d", "a > d", figures={"a": a, "b": b, "c": c, "d": d})
        wrong += any(verdict.status == "held" for verdict in found)
    assert wrong / 400 < 0.048  # 0.025 and three standard errors


def test_the_sentence_reads_well():
    figures = {"lp_ft": [0.80, 0.83, 0.82, 0.85, 0.81], "full": [0.75, 0.80, 0.79, 0.80, 0.79]}
    held, below, number, open_ = verdicts(
        "lp_ft > full", "full < lp_ft by 0.01", "full > 0.5", "lp_ft > 0.82", figures=figures
    )
    assert held.sentence == (
        f"held: lp_ft is above full on test/accuracy by 0.036 [{held.low:.3f}, {held.high:.3f}], "
        f"n = 5 seeds, p = {held.p:.2g} (Holm {held.p_holm:.2g})"
    )
    assert below.sentence == (
        "held: full is below lp_ft on test/accuracy by 0.036 "
        f"[{-below.high:.3f}, {-below.low:.3f}], "
        f"n = 5 seeds, p = {below.p:.2g} (Holm {below.p_holm:.2g}) "
        "against the claimed margin of 0.01"
    )
    assert number.sentence.startswith("held: full is above 0.5 on test/accuracy by 0.286 [")
    assert "p < 0.001 (Holm < 0.001)" in number.sentence
    assert open_.sentence.startswith("undecided: lp_ft minus 0.82 on test/accuracy is 0.002 [")


def test_a_wrong_claim_ends_the_judging():
    with pytest.raises(ClaimError, match="no arm 'bes'"):
        verdicts("better > base", "bes > base")


def test_verdicts_are_plain_data():
    (found,) = verdicts("better > base")
    kinds = {type(value) for value in dataclasses.asdict(found).values()}
    assert kinds <= {str, int, float, bool, type(None)}
