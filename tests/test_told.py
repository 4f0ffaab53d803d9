"""What a config does not tell is in the record's notes, or refused before anything is trained."""

import pytest

from tlx import build
from tlx.config.compose import compose
from tlx.methods import schedules
from tlx.methods.stages import Span, Stage, Until

IMAGES = [
    *("dataset=digits", "dataset.labels_per_class=5", "backbone=timm", "backbone.init=none"),
    *("backbone.name=test_resnet", "backbone.image_size=32", "trainer=cpu"),
]


def planned(*overrides):
    return build.plan(compose([*IMAGES, *overrides]), init="none")


def spans(*ends):
    stage = Stage(name="s", trains={"w": 1.0}, until=Until())
    return [Span(stage, start, end) for start, end in zip((0, *ends), ends, strict=False)]


@pytest.mark.parametrize(
    ("schedule", "ends", "fits"),
    [
        (schedules.cosine(warmup_steps=9), [10], True),
        (schedules.cosine(warmup_steps=10), [10], False),
        (schedules.linear(warmup_fraction=0.99), [10], False),
        (schedules.constant(warmup_steps=9, scope="stage"), [10, 20], True),
        (schedules.constant(warmup_steps=9, scope="stage"), [10, 19], False),
        (schedules.constant(warmup_steps=15), [10, 19], True),
        (schedules.one_cycle(), [1], True),
    ],
)
def test_a_warm_up_must_end_before_what_it_warms_up(schedule, ends, fits):
    if fits:
        build.check_warmup(schedule, spans(*ends))
        return
    with pytest.raises(ValueError, match=r"schedule\.warmup_\w+=.*never be reached"):
        build.check_warmup(schedule, spans(*ends))


def test_a_run_with_a_longer_warm_up_is_refused_by_its_epochs():
    with pytest.raises(ValueError, match="warmup_steps=1000 is a warm-up of 1000 steps, and the"):
        planned("trainer.epochs=2", "schedule.warmup_fraction=0", "schedule.warmup_steps=1000")
