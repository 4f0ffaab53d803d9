"""Looks: verdicts keep their promise however often, and on however many seeds, they are given."""

import json
import math
import multiprocessing
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as reference

from results.studies import made_record, study_of
from tlx.results import claims, looks, manifest, sequential
from tlx.results.claims import judge
from tlx.results.manifest import Look
from tlx.results.stats import compare

DOCS = Path(__file__).parents[2] / "docs" / "studies.md"
CLAIM = "a > b"


def gaps_of(p, n, *, sd=0.02):
    """Differences whose paired t test gives p."""
    shape = np.resize([-1.0, 1.0], n) if n % 2 == 0 else np.linspace(-1, 1, n)
    shape = shape / shape.std(ddof=1)
    return (shape + reference.t.isf(p / 2, n - 1) / math.sqrt(n)) * sd


def study(gaps, *, claims=(CLAIM,), looked=(), declared=None, **changes):
    """A study of one arm that is better by `gaps`; None stands for a missing run."""
    figures = {
        "a": [None if gap is None else 0.5 + float(gap) for gap in gaps],
        "b": [None if gap is None else 0.5 for gap in gaps],
    }
    spec, records = study_of(figures, claims=claims, **changes)
    node = {} if declared is None else {"max_seeds": declared, "first": 3}
    past = tuple(
        Look(seeds=tuple(range(n)), sequential=node) for n in looked
    )  # of the first n seeds
    return replace(spec, sequential=node, looks=past), records


def verdict(*args, **kwargs):
    (found,) = judge(*study(*args, **kwargs))
    return found


# -- one look at declared seeds -----------------------------------------------------------------


def test_the_same_set_twice_is_one_look():
    gaps = gaps_of(0.045, 5)
    for looked in ((), (5,)):
        found = verdict(gaps, looked=looked)
        assert (found.status, found.alpha, found.test) == ("held", 0.05, "paired t")
        assert found.p == pytest.approx(0.045)
        assert found.level == 0.95
        assert found.low > 0


@pytest.mark.parametrize("status", ["missing", "running", "interrupted", "failed"])
def test_while_declared_runs_are_missing_there_is_no_verdict(status):
    gaps = gaps_of(1e-6, 6)
    spec, records = study(gaps)
    if status == "missing":
        del records["a-s5"]
    else:
        records["a-s5"] = made_record("a-s5", seed=5, status=status)
    (found,) = judge(spec, records)
    assert (found.status, found.waiting, found.looked, found.n) == ("undecided", 1, 0, 5)
    assert found.failed == (status == "failed")
    assert math.isnan(found.p)
    assert 0 < found.low < found.difference < found.high  # the estimate is there
    assert found.sentence.startswith("undecided: waiting for 1 run")
    assert "settle" not in found.sentence


def test_runs_of_other_arms_and_of_candidates_that_lost_are_not_waited_for():
    spec, records = study(gaps_of(0.001, 5))
    more = [
        replace(run, run=f"worse-{run.run}", candidate="lr=9")
        for run in spec.runs
        if run.arm == "a"
    ]
    other = [replace(run, run=f"c-{run.seed}", arm="c") for run in spec.runs if run.arm == "a"]
    failed = {run.run: made_record(run.run, status="failed") for run in more}
    spec = replace(spec, arms=("a", "b", "c"), runs=(*spec.runs, *more, *other))
    (found,) = judge(spec, {**records, **failed})
    assert (found.status, found.waiting) == ("held", 0)
    (found,) = judge(spec, records)  # but the choice waits for candidates that may yet win
    assert (found.status, found.waiting) == ("undecided", 5)


def test_a_claim_that_waits_counts_in_holm_s_correction():
    spec, records = study(gaps_of(0.03, 5), claims=(CLAIM, "c > b"))
    runs = [replace(run, run=f"c-{run.seed}", arm="c") for run in spec.runs if run.arm == "a"]
    ready, waits = judge(replace(spec, arms=("a", "b", "c"), runs=(*spec.runs, *runs)), records)
    assert (ready.status, waits.waiting) == ("undecided", 5)
    assert ready.p_holm == pytest.approx(0.06)


def test_interval_and_verdict_are_corrected_alike():
    rng = np.random.default_rng(0)
    statuses = set()
    for _ in range(60):
        shifts = rng.normal(0, 0.03, 3)
        figures = {
            name: rng.normal(0.5 + s, 0.02, 6).tolist()
            for name, s in zip("abc", shifts, strict=True)
        }
        figures["d"] = rng.normal(0.5, 0.02, 6).tolist()
        spec, records = study_of(figures, claims=("a > d", "b > d", "c < d by 0.01"))
        for found in judge(spec, records):
            against = {"a > d": 0, "b > d": 0}.get(found.claim, -0.01)
            decided = not found.low <= against <= found.high
            assert decided == (found.status != "undecided")
            assert found.level >= 0.95
            statuses.add(found.status)
    assert statuses == {"held", "not held", "undecided"}


# -- seeds that were added without having been declared -------------------------------------------


def test_a_first_verdict_between_the_levels_is_withdrawn_with_the_reason():
    gaps = [*gaps_of(0.045, 5), -0.02, 0.02, -0.02, 0.02, 0.0]
    found = verdict(gaps, looked=(5,))
    assert (found.status, found.alpha, found.test) == ("undecided", 0.01, "e-value")
    assert "withdrawn: p = 0.045 at 5 seeds was called held, at 0.05" in found.note
    assert "leaves it 0.04" in found.sentence
    assert found.low < 0 < found.high


def test_a_first_verdict_below_the_level_stays_with_its_own_figures():
    gaps = [*gaps_of(0.03, 5), -0.02, 0.02, -0.02, 0.02, 0.0]
    found = verdict(gaps, looked=(5,))
    assert (found.status, found.alpha, found.n) == ("held", 0.04, 5)
    assert found.low > 0
    assert found.level == 0.96
    assert "decided by the declared look" in found.sentence


def test_arms_without_further_seeds_are_not_called_earlier_than_themselves():
    spec, records = study([*gaps_of(0.01, 5), 0.0, 0.0], declared=5, looked=(3, 4, 5))
    spec = replace(spec, runs=tuple(run for run in spec.runs if run.seed < 5))  # others went on
    (found,) = judge(spec, records)
    assert (found.status, found.alpha) == ("held", 0.04)
    assert "before there were" not in found.sentence


def test_p_of_later_looks_is_that_of_the_strongest_evidence():
    gaps = np.concatenate([gaps_of(0.2, 5), gaps_of(0.001, 5), [-0.05, -0.06, -0.04]])
    found = verdict(gaps, looked=(5, 10))
    assert found.test == "e-value"
    assert found.p == found.p_holm < 0.5


@pytest.mark.parametrize(("t", "status"), [(4.4, "undecided"), (4.7, "held")])
def test_seeds_added_later_decide_by_the_e_process_alone(t, status):
    rest = np.resize([1.0, -1.0], 11) * 0.3
    gaps = np.concatenate([[1.0, -1.0, 0.4, -0.4, 0.0], rest])[: 5 + 11]
    gaps = (gaps - gaps.mean()) / gaps.std(ddof=1) + t / math.sqrt(16)
    assert compare(gaps[:5], np.zeros(5)).p > 0.05
    found = verdict(gaps * 0.02, looked=(5,))
    # E >= 100 takes |t| >= 4.6 at 13 to 16 seeds; p itself is 0.0005 and 0.0003
    assert (found.status, found.n, found.test) == (status, 16, "e-value")
    assert found.p == pytest.approx(1 / float(sequential.e_value(t, 16)))
    assert (found.low > 0) == (status == "held")


def test_the_first_look_and_the_later_ones_that_contradict_decide_nothing():
    gaps = np.concatenate([gaps_of(0.01, 5), -gaps_of(1e-12, 30) - 0.05])
    found = verdict(gaps, looked=(5,))
    assert found.status == "undecided"
    assert "opposite" in found.sentence


def test_seeds_that_were_looked_at_cannot_be_left_out():
    found = verdict(gaps_of(1e-5, 5), looked=(5, 8))
    assert (found.status, found.looked) == ("undecided", 0)
    assert "seeds (5, 6, 7) that are left out" in found.sentence
    assert math.isfinite(found.low)


def test_what_would_settle_it_is_judged_as_added_seeds_are():
    found = verdict(gaps_of(0.2, 5))
    n, d = found.more_seeds, found.difference / np.std(gaps_of(0.2, 5), ddof=1)
    for seeds, decided in ((n - 1, False), (n, True)):
        assert (sequential.e_value(d * math.sqrt(seeds), seeds) >= 100) == decided
    assert "for seeds added now are judged at 0.01" in found.sentence


# -- a declared number of looks -------------------------------------------------------------------


def test_a_sequential_study_stops_at_its_bound_and_says_so():
    bound = sequential.limit(0.05, most=20)
    gaps = gaps_of(bound * 6 / 20 * 0.98, 6)
    shown = [judge(*study(gaps[:n], declared=20))[0] for n in range(3, 7)]
    assert [item.status for item in shown] == ["undecided"] * 3 + ["held"]
    assert [item.open for item in shown] == [True] * 3 + [False]
    assert shown[-1].p_holm == pytest.approx(0.05, rel=0.03)
    assert shown[-1].low == pytest.approx(0, abs=0.001)
    assert shown[-1].low > 0
    later = verdict([*gaps, -0.1, -0.1, -0.1], declared=20)  # what came after changes nothing
    assert (later.status, later.n, later.low) == ("held", 6, shown[-1].low)


def test_sequential_studies_use_student_s_test_at_every_n():
    found = verdict(np.random.default_rng(0).normal(0.015, 0.02, 25), declared=40)
    assert (found.status, found.test) == ("held", "paired t")


def test_a_hopeless_claim_is_given_up():
    gaps = np.resize([0.02, -0.02], 12)
    found = verdict(gaps[:8], declared=20)
    assert (found.status, found.open, found.n) == ("undecided", False, 8)
    assert "given up" in found.sentence
    assert verdict(gaps[:6], declared=20).open
    assert verdict(gaps, declared=20).n == 8


def test_only_whole_seeds_count_and_one_too_few_is_no_look():
    gaps = [*gaps_of(0.3, 4), None, 0.02]
    found = verdict(gaps, declared=20)
    assert (found.status, found.open, found.waiting, found.looked) == ("undecided", False, 2, 0)
    found = verdict([0.02, 0.021], declared=20)
    assert (found.open, found.looked) == (True, 0)


def test_more_seeds_than_declared_split_alpha():
    rng = np.random.default_rng(1)
    gaps = rng.normal(0.0, 0.02, 24)
    spec, records = study(gaps, declared=20, looked=(3, 20))
    for node in ({"max_seeds": 40, "first": 3}, {}):  # declared too late, or not at all
        (found,) = judge(replace(spec, sequential=node), records)
        assert (found.alpha, found.test, found.n) == (0.01, "e-value", 24)
    inside = replace(spec, sequential={})  # leaving the declaration out does not change it
    (found,) = judge(looks.of_seeds(inside, range(20)), records)
    assert (found.alpha, found.test) == (0.05, "paired t")


@pytest.mark.parametrize("most", [3, 5, 20, 60])
def test_bounds_cross_as_often_as_they_say(most):
    """Against simulation; the integration may err by one percent, to the safe side."""
    studies = 20_000
    tests = sequential.prefixes(np.random.default_rng(most).normal(size=(studies, most)))
    enough = tests.n >= 3
    for alpha in (0.05, 0.01):
        bound = sequential.limit(alpha, most=most) * tests.n / most
        crossed = float(((tests.p <= bound) & enough).any(axis=1).mean())
        noise = 3 * math.sqrt(alpha / studies)
        assert alpha * 0.96 - noise < crossed < alpha * 1.01 + noise
        assert sequential.level(sequential.limit(alpha, most=most), most=most) == pytest.approx(
            alpha
        )


def test_bounds_are_those_of_the_literature_s_shape():
    assert sequential.limit(0.05, most=20) == pytest.approx(0.0150, rel=0.02)
    assert sequential.limit(0.05, most=3) == pytest.approx(0.05, rel=0.02)


def test_e_values_are_the_bayes_factors_of_their_prior():
    """Against numerical integration of the noncentral t density over effects ~ N(0, 4)."""
    from scipy.integrate import quad

    for t, n in ((0.3, 4), (2.5, 6), (5.0, 10)):
        top = quad(
            lambda d, t=t, n=n: (
                reference.nct.pdf(t, n - 1, d * math.sqrt(n)) * reference.norm.pdf(d, scale=2)
            ),
            *(-12, 12),
        )[0]
        assert sequential.e_value(t, n) == pytest.approx(top / reference.t.pdf(t, n - 1), rel=1e-5)
        assert sequential.e_bound(float(sequential.e_value(t, n)), n) == pytest.approx(t)
    assert sequential.e_bound(100, 3) == math.inf
    assert sequential.e_value(math.inf, 8) == 128  # eight equal differences: signs


# -- the promise ----------------------------------------------------------------------------------


def normal(rng, shape):
    return rng.normal(0, 0.02, shape)


def heavy(rng, shape):
    return rng.standard_t(3, shape) * 0.02


def coarse(rng, shape):
    return np.round(rng.normal(0, 0.02, shape), 2)


NULLS = (normal, heavy, coarse)


def decided(gaps_SN, *, looked=None, most=None):
    """Which studies without an effect end with a verdict: by the functions that `judge` uses.

    Args:
        gaps_SN: differences.
        looked: numbers of seeds of the looks, the first of them declared.
        most: or of a study with a declared most number.
    """
    tests = sequential.prefixes(np.round(gaps_SN / 0.5, 12), equal=2e-12)
    if most is not None:
        crossed = (tests.p <= sequential.limit(0.05, most=most) * tests.n / most) & (tests.n >= 3)
        given_up = np.cumsum(sequential.futile(tests.t, tests.n, most=most), axis=1) > 0
        return (crossed & ~np.roll(given_up, 1, axis=1) | crossed[:, :1]).any(axis=1)
    first, *later = looked
    hit = tests.p[:, first - 1] <= (0.04 if later else 0.05)
    if later:
        places = np.array(later) - 1
        hit |= (sequential.e_value(tests.t, tests.n)[:, places] >= 100).any(axis=1)
    return hit


ADVICE = {"one": (5,), "two": (5, 10), "three": (5, 10, 20), "every": tuple(range(3, 21))}


def rates(studies, *, seed):
    rng = np.random.default_rng(seed)
    for null in NULLS:
        gaps = null(rng, (studies, 20))
        for name, looked in ADVICE.items():
            yield f"{null.__name__}, {name}", float(decided(gaps, looked=looked).mean())
        yield f"{null.__name__}, sequential", float(decided(gaps, most=20).mean())


def test_no_number_of_looks_gives_more_false_verdicts_than_promised():
    found = dict(rates(8_000, seed=1))
    assert {name: rate for name, rate in found.items() if rate > 0.052 + 0.004} == {}
    assert found["normal, one"] > 0.044  # the simulation does find false verdicts


@pytest.mark.slow
def test_no_number_of_looks_gives_more_false_verdicts_than_promised_of_40_000():
    found = dict(rates(40_000, seed=7))
    assert {name: rate for name, rate in found.items() if rate > 0.052} == {}


def by_judge(gaps, *, looked=None, most=None):
    """The verdict of a study that was looked at so often, each look being noted before the next."""
    past = ()
    for n in looked or range(3, most + 1):
        spec, records = study(gaps[:n], declared=most)
        (found,) = judge(replace(spec, looks=past), records)
        past = (*past, Look(seeds=tuple(range(n)), sequential=spec.sequential))
    return found.status != "undecided"


@pytest.mark.parametrize("null", NULLS)
def test_the_judge_decides_as_the_simulation_does(null):
    """On studies near the bounds: effects of 1.2 deviations, of which some half are decided."""
    gaps = null(np.random.default_rng(5), (16, 20)) + 0.024
    for looked in ((5,), (5, 10, 20), (3, 4, 5, 9)):
        expected = decided(gaps[:, : looked[-1]], looked=looked)
        found = [by_judge(row, looked=looked) for row in gaps]
        assert found == expected.tolist()
    expected = decided(gaps[:8, :10], most=10)
    assert [by_judge(row, most=10) for row in gaps[:8, :10]] == expected.tolist()


# -- looks are kept -------------------------------------------------------------------------------


def test_looks_are_noted_once_and_outlive_another_launch(tmp_path):
    spec, records = study(gaps_of(0.045, 5))
    manifest.write(tmp_path, spec)
    for _ in range(2):
        noted = claims.take(tmp_path, manifest.read(tmp_path), records)
    assert [look.seeds for look in noted.looks] == [(0, 1, 2, 3, 4)]
    assert noted.looks[0].taken
    assert noted == manifest.read(tmp_path)
    assert len(json.loads((tmp_path / manifest.FILE).read_text())["looks"]) == 1

    fewer = looks.of_seeds(spec, range(3))
    manifest.write(tmp_path, fewer)  # as another launch does, which knows of no look
    again = claims.take(tmp_path, manifest.read(tmp_path), records)
    assert [look.seeds for look in again.looks] == [(0, 1, 2, 3, 4)]
    assert judge(again, records)[0].status == "undecided"


def test_an_estimate_is_no_look(tmp_path):
    spec, records = study([*gaps_of(0.01, 5), None])
    manifest.write(tmp_path, spec)
    assert claims.take(tmp_path, spec, records).looks == ()
    one = study([0.02])
    assert claims.take(tmp_path, *one).looks == ()


def test_a_manifest_without_looks_counts_its_page_as_one(tmp_path):
    spec, _ = study(gaps_of(0.045, 5))
    path = manifest.write(tmp_path, spec)
    old = json.loads(path.read_text())
    del old["looks"], old["sequential"]
    path.write_text(json.dumps(old))
    assert manifest.read(tmp_path).looks == ()
    (tmp_path / manifest.PAGE).write_text("")
    assert manifest.read(tmp_path).looks == (Look(seeds=(0, 1, 2, 3, 4)),)
    more, records = study([*gaps_of(0.045, 5), -0.02, 0.02, -0.02])
    manifest.write(tmp_path, more)
    assert judge(manifest.read(tmp_path), records)[0].note.startswith("withdrawn")


def note(folder, number, start):
    start.wait()
    for n in range(10):
        manifest.add_look(folder, [100 * number + n], sequential={})
        manifest.write(folder, study([0.1])[0])


def test_looks_of_several_processes_are_all_kept(tmp_path):
    manifest.write(tmp_path, study([0.1])[0])
    context = multiprocessing.get_context("fork")
    start = context.Event()
    workers = [context.Process(target=note, args=(tmp_path, k, start)) for k in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join()
    assert len(manifest.read(tmp_path).looks) == 40


# -- the table of power in the docs ---------------------------------------------------------------


def table_of_power():
    """Rows of the docs' table: label -> {effect: power}."""
    text = DOCS.read_text(encoding="utf-8").partition("### How many seeds")[2]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    effects = [float(cell) for cell in cells[0][1:]]
    return {row[0]: dict(zip(effects, row[1:], strict=True)) for row in cells[2:]}


def power(label, effect, *, studies, rng):
    """Power, and seeds used on average, of a row of the table."""
    numbers = [int(number) for number in re.findall(r"\d+", label)]
    most = numbers[-1]
    if label.startswith("fixed") and most < 20:
        edge, shift = reference.t.isf(0.025, most - 1), effect * math.sqrt(most)
        nct = reference.nct
        return float(nct.sf(edge, most - 1, shift) + nct.cdf(-edge, most - 1, shift)), float(most)
    gaps = rng.normal(effect, 1, (studies, most))
    if label.startswith("fixed"):
        return float((reference.wilcoxon(gaps, axis=1).pvalue <= 0.05).mean()), float(most)
    if label.startswith("added"):
        return float(decided(gaps, looked=numbers).mean()), math.nan
    tests = sequential.prefixes(gaps)
    crossed = (tests.p <= sequential.limit(0.05, most=most) * tests.n / most) & (tests.n >= 3)
    ended = crossed | sequential.futile(tests.t, tests.n, most=most)
    ended[:, -1] = True
    last = ended.argmax(axis=1)
    return float(crossed[np.arange(studies), last].mean()), float((last + 1).mean())


def agrees(*, studies, within):
    rng = np.random.default_rng(3)
    table = table_of_power()
    assert len(table) >= 8
    for label, row in table.items():
        for effect, cell in row.items():
            found, seeds = power(label, effect, studies=studies, rng=rng)
            told, *used = (float(text) for text in cell.replace(";", "").split())
            exact = label.startswith("fixed") and "20" not in label
            assert found == pytest.approx(told, abs=0.0051 if exact else within), (label, effect)
            if used:
                assert seeds == pytest.approx(used[0], abs=20 * within), (label, effect)


def test_the_docs_table_of_power_holds():
    agrees(studies=1_500, within=0.045)


@pytest.mark.slow
def test_the_docs_table_of_power_holds_of_40_000():
    agrees(studies=40_000, within=0.012)
