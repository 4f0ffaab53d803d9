"""Schedules against torch's own, step by step."""

from pathlib import Path

import pytest
import torch
import yaml
from torch.optim import lr_scheduler

from tlx.methods import schedules

CONF = Path(__file__).parents[2] / "conf" / "schedule"
TOTAL = 57


def reference(make, total=TOTAL):
    """Factors that a torch scheduler gives on steps 0 ... total - 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def warmed(after, steps):
    """Torch's linear warm-up of so many steps, then another scheduler."""

    def make(optimizer):
        rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)
        return lr_scheduler.SequentialLR(optimizer, [rise, after(optimizer)], milestones=[steps])

    return make


def ours(schedule, total=TOTAL):
    return [schedule.factor(step, total) for step in range(total)]


REFERENCES = {
    "constant": (schedules.constant(), lambda o: lr_scheduler.LambdaLR(o, lambda _: 1.0)),
    "cosine": (schedules.cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL)),
    "cosine to a floor": (
        schedules.cosine(end_factor=0.1),
        lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.1),
    ),
    "cosine after a warm-up": (
        schedules.cosine(warmup_steps=7),
        warmed(lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL - 7), 7),
    ),
    "linear": (
        schedules.linear(),
        lambda o: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=TOTAL),
    ),
    "linear after a warm-up": (
        schedules.linear(warmup_fraction=7 / TOTAL),
        warmed(lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, TOTAL - 7), 7),
    ),
    "one_cycle": (
        schedules.one_cycle(),
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, TOTAL + 1, cycle_momentum=False),
    ),
    "one_cycle otherwise": (
        schedules.one_cycle(pct_start=0.5, div_factor=10.0, final_div_factor=100.0),
        lambda o: lr_scheduler.OneCycleLR(
            o, 1.0, TOTAL + 1, pct_start=0.5, div_factor=10, final_div_factor=100,
            cycle_momentum=False,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFERENCES)
def test_equals_torchs_scheduler(case):
    schedule, make = REFERENCES[case]
    total = TOTAL + 1 if "one_cycle" in case else TOTAL  # OneCycleLR ends on its last step
    found = ours(schedule, total)[:TOTAL]
    assert found == pytest.approx(reference(make), abs=1e-12)


def stlr(step, total, cut_frac=0.1, ratio=32):
    """Howard and Ruder 2018, equation 3, as printed."""
    cut = int(total * cut_frac)
    p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / cut_frac - 1))
    return (1 + p * (ratio - 1)) / ratio


@pytest.mark.parametrize("total", [10, 100, 1000])
def test_slanted_triangular_is_the_papers_where_the_cut_is_whole(total):
    found = ours(schedules.slanted_triangular(), total)
    assert found == pytest.approx([stlr(step, total) for step in range(total)])


def test_slanted_triangular_stays_positive_where_the_papers_does_not():
    assert min(stlr(step, 19) for step in range(19)) < 0
    assert min(ours(schedules.slanted_triangular(), 19)) >= 1 / 32


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("total", [1, 2, 3, 9, 100])
def test_every_option_gives_finite_positive_factors_that_reach_the_peak(path, total):
    node = yaml.safe_load(path.read_text())
    module, _, name = node.pop("_target_").rpartition(".")
    assert (module, name) == ("tlx.methods.schedules", path.stem)
    schedule = getattr(schedules, name)(**node)
    found = ours(schedule, total)
    assert all(0 < factor <= 1 for factor in found)
    assert total < 9 or max(found) > 0.9
    assert schedule.factor(total + 5, total) == found[-1]
    assert schedule.scope == "run"


def test_every_schedule_has_an_option():
    assert {path.stem for path in CONF.glob("*.yaml")} == {
        "constant", "cosine", "linear", "one_cycle", "slanted_triangular",
    }  # fmt: skip


def test_a_warm_up_longer_than_the_run_only_rises():
    found = ours(schedules.cosine(warmup_steps=10), 4)
    assert found == pytest.approx([1 / 11, 2 / 11, 3 / 11, 4 / 11])


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("cosine", {"scope": "stages"}, "scope='stages'"),
        ("cosine", {"warmup_steps": -1}, "warmup_steps=-1"),
        ("cosine", {"warmup_fraction": 1.0}, "warmup_fraction=1.0"),
        ("cosine", {"warmup_steps": 1, "warmup_fraction": 0.1}, "set one of them to 0"),
        ("linear", {"end_factor": 2.0}, "end_factor=2.0"),
        ("one_cycle", {"pct_start": 0.0}, "pct_start=0.0"),
        ("one_cycle", {"div_factor": 0.5}, "div_factor=0.5"),
        ("slanted_triangular", {"cut_frac": 1.0}, "cut_frac=1.0"),
        ("slanted_triangular", {"ratio": 0.0}, "ratio=0.0"),
    ],
)
def test_refused(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        getattr(schedules, name)(**keywords)
