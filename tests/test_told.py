"""What a config does not tell is in the record's notes, or refused before anything is trained."""

import pytest

from tlx.building import plans
from tlx.building.budgets import check_warmup
from tlx.config.compose import compose
from tlx.config.run import typed
from tlx.methods import schedules
from tlx.methods.stages import Span, Stage, Until
from tlx.training.logs import tables

IMAGES = [
    *("dataset=digits", "dataset.labels_per_class=5", "backbone=timm", "backbone.init=none"),
    *("backbone.name=test_resnet", "backbone.image_size=32", "trainer=cpu"),
]


def planned(*overrides):
    return plans.plan(typed(compose([*IMAGES, *overrides])), init="none")


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
        check_warmup(schedule, spans(*ends))
        return
    with pytest.raises(ValueError, match=r"schedule\.warmup_\w+=.*never be reached"):
        check_warmup(schedule, spans(*ends))


def test_a_run_with_a_longer_warm_up_is_refused_by_its_epochs():
    with pytest.raises(ValueError, match="warmup_steps=1000 is a warm-up of 1000 steps, and the"):
        planned("trainer.epochs=2", "schedule.warmup_fraction=0", "schedule.warmup_steps=1000")


def test_the_batch_that_was_used_is_noted_and_said():
    plan = planned("trainer.batch_size=512")
    assert plan.pace.batch_size == 50
    assert plan.splits.notes["batch_size"] == {"asked": 512, "used": 50}
    said = tables.overview("run", plan.splits, plan.pace, plan.spans, noun="classes")
    assert "each batch holds all 50 training items: trainer.batch_size=512 is more" in said
    assert "batch_size" not in planned("trainer.batch_size=50").splits.notes


@pytest.mark.parametrize("count", [10, 3])
def test_there_may_be_a_weight_for_each_of_many_classes(count):
    weights = f"task.class_weights={[1.0] * count}"
    if count == 10:
        assert planned(weights).model.task.class_weights == (1.0,) * 10
        return
    with pytest.raises(ValueError, match="has 3 values; one for each of the 10 labels"):
        planned(weights)


def test_unknown_words_of_tfidf_are_those_that_are_no_term(tmp_path):
    texts = {"train": ["a a b b c", "a b d"], "val": ["a e", "b"], "test": ["a d e e", "c"]}
    for name, rows in texts.items():
        lines = [f'"{text}",{label}' for text, label in zip(rows, "xy", strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]))
    for features, unknown in ((2, (2, 1, 4)), (50, (0, 1, 2))):
        plan = plans.plan(
            typed(
                compose(
                    [
                        *(
                            "dataset=text_csv",
                            f"dataset.root={tmp_path}",
                            "task=text_classification",
                        ),
                        *(
                            "backbone=tfidf",
                            f"backbone.features={features}",
                            "backbone.bigrams=false",
                        ),
                        *("trainer=cpu", "freeze_strategy=linear_probe"),
                    ]
                )
            ),
            init="none",
        )
        tokens = plan.splits.notes["tokens"]
        assert tuple(tokens[name]["unknown"] for name in texts) == unknown
