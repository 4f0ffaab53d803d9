"""What every task owes the rest of tlx, over every file of the room; then each task's own."""

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics as reference
from torch import nn

import tlx.tasks
from tlx.backbones.backbone import Backbone, Features
from tlx.base.cells import rows
from tlx.data.splits import Labels
from tlx.data.text.spec import TextSpec
from tlx.results.record import Record, from_json, to_json
from tlx.tasks.classification import classification
from tlx.tasks.multi_label import multi_label_classification
from tlx.tasks.regression import regression
from tlx.train.records import split_record

C = 7
NAMES = tuple(f"c{i}" for i in range(C))


def make(kind: str):
    if kind == "single":
        return classification(Labels("single", NAMES)), torch.randint(C, (50,))
    if kind == "multi":
        task = multi_label_classification(Labels("multi", NAMES))
        return task, torch.randint(2, (50, C)).float()
    return regression(Labels("real", NAMES)), torch.randn(50, C)


@pytest.fixture(params=["single", "multi", "real"])
def made(request):
    torch.manual_seed(0)
    task, target = make(request.param)
    return task, {"target": target, "index": torch.arange(50)}, torch.randn(50, C)


def backbone(dims) -> Backbone:
    return Backbone(
        module=nn.Identity(),
        features=lambda module, inputs: Features(pooled=module(inputs)),
        groups=(),
        fine_groups=(),
        head_level=0,
        dims=dims,
        reads=TextSpec("", 1),
        weights_id="none",
    )


def literal_metrics(task) -> dict[str, str]:
    """METRICS as the config checker reads it."""
    room = Path(tlx.tasks.__file__).parent
    tree = ast.parse((room / f"{type(task).__module__.rsplit('.', 1)[1]}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "METRICS":
            return ast.literal_eval(node.value)
    raise AssertionError("no literal METRICS")


def test_metrics_are_named_by_the_literal_and_directions(made):
    task, batch, outputs = made
    figures = task.metrics(task.collect(outputs, batch))
    assert figures.keys() == task.directions.keys()
    assert task.directions == literal_metrics(task)
    assert task.monitor in figures
    assert set(task.directions.values()) <= {"max", "min"}
    assert all(type(value) is float and math.isfinite(value) for value in figures.values())


def test_head_learns(made):
    task, batch, _ = made
    head = task.head(backbone({"pooled": 16}), dropout=0.1)
    assert {name for name, _ in head.named_parameters()} == {"linear.weight", "linear.bias"}
    features = Features(pooled=torch.randn(50, 16))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        loss, weight = task.losses(head(features), batch)["loss"]
        assert loss.shape == weight.shape == (50,)
        total = (loss * weight).sum() / weight.sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.9 * losses[0]
    with pytest.raises(ValueError, match="pooled"):
        head(Features())
    with pytest.raises(ValueError, match="pooled"):
        task.head(backbone({"tokens": 16}), dropout=0.0)
    with pytest.raises(ValueError, match=r"dropout=1\.5"):
        task.head(backbone({"pooled": 16}), dropout=1.5)


def test_softened_targets_give_the_same_loss_and_average_to_the_average(made):
    task, batch, outputs = made
    soft = {**batch, "target": task.targets.soft(batch["target"])}
    assert torch.allclose(
        task.losses(outputs, soft)["loss"][0], task.losses(outputs, batch)["loss"][0], atol=1e-6
    )
    assert task.targets.soft(soft["target"]).shape == soft["target"].shape
    mixed = 0.3 * soft["target"] + 0.7 * soft["target"].flip(0)
    assert task.losses(outputs, {"target": mixed})["loss"][0].isfinite().all()


def test_loss_metric_is_the_mean_loss(made):
    task, batch, outputs = made
    figures = task.metrics(task.collect(outputs, batch))
    assert figures["loss"] == pytest.approx(
        float(task.losses(outputs, batch)["loss"][0].mean()), rel=1e-5
    )


def test_collecting_in_batches_equals_collecting_at_once(made):
    task, batch, outputs = made
    parts = [
        task.collect(outputs[s], {k: v[s] for k, v in batch.items()})
        for s in (slice(0, 20), slice(20, 50))
    ]
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    assert task.metrics(joined) == task.metrics(task.collect(outputs, batch))


def test_report_is_what_a_record_holds(made):
    task, batch, outputs = made
    collected = task.collect(outputs, batch)
    report = task.report(collected)
    split = split_record(json.loads(json.dumps(report, allow_nan=False)))
    record = Record(
        run="r", name="", status="finished", task="", seed=0, budget_steps=1, splits={"test": split}
    )
    assert from_json(to_json(record)) == record
    assert len(report["per_class"]) == C
    for name, value in task.metrics(collected).items():
        figure = report["metrics"][name]
        assert figure["value"] == value
        assert figure["low"] < figure["high"]
        assert figure["n"] == 50
    assert task.report(collected) == report  # the same resamples


@pytest.mark.parametrize("kind", ["single", "multi", "real"])
@pytest.mark.parametrize("right", [True, False])
def test_no_final_figure_has_an_interval_of_no_width(kind, right):
    torch.manual_seed(0)
    task, target = make(kind)
    truth = {"single": lambda: F.one_hot(target, C).float(), "multi": lambda: target}
    outputs = target if kind == "real" else 2000 * (truth[kind]() - 0.5) * (1 if right else -1)
    found = task.report(task.collect(outputs, {"target": target}))["metrics"]
    for name, figure in found.items():
        none = math.isnan(figure["low"]) and math.isnan(figure["high"])
        assert none or figure["low"] < figure["high"], name
        assert none or figure["low"] <= figure["value"] + 1e-9, name
        assert none or figure["value"] <= figure["high"] + 1e-9, name
    if kind == "single" and right:
        assert found["accuracy"]["low"] == pytest.approx(0.025 ** (1 / 50))
        assert 0.8 < found["macro_f1"]["low"] == found["balanced_accuracy"]["low"] < 0.93
        assert math.isnan(found["loss"]["low"])


def test_half_precision_outputs_are_taken(made):
    task, batch, outputs = made
    assert task.losses(outputs.bfloat16(), batch)["loss"][0].dtype == torch.float32
    assert task.metrics(task.collect(outputs.bfloat16(), batch))


def test_nan_outputs_do_not_crash_and_are_counted(made):
    task, batch, outputs = made
    outputs[3] = torch.nan
    collected = task.collect(outputs, batch)
    report = task.report(collected)
    assert report["invalid"] == 1
    assert math.isnan(task.metrics(collected)["loss"])
    assert len(rows(task.columns(collected))) == 50


def test_an_empty_split_does_not_crash(made):
    task, batch, outputs = made
    collected = task.collect(outputs[:0], {key: value[:0] for key, value in batch.items()})
    report = task.report(collected)
    assert report["n"] == 0
    assert math.isnan(report["metrics"][task.monitor]["value"])
    assert rows(task.columns(collected)) == []


def test_rows_follow_the_items(made):
    task, batch, outputs = made
    found = rows(task.columns(task.collect(outputs, batch)))
    assert len(found) == 50
    json.dumps(found, allow_nan=False)
    assert all({"label", "prediction"} <= row.keys() for row in found)


@pytest.mark.parametrize("kind", ["single", "multi", "real"])
@pytest.mark.parametrize(
    "factory", [classification, multi_label_classification, regression], ids=lambda f: f.__name__
)
def test_labels_of_another_kind_are_refused(kind, factory):
    wanted = {"classification": "single", "multi_label_classification": "multi"}
    if wanted.get(factory.__name__, "real") != kind:
        with pytest.raises(ValueError, match="choose another task"):
            factory(Labels(kind, NAMES))


class TestClassification:
    def test_metrics_equal_sklearn(self):
        task, target = make("single")
        logits = torch.randn(50, C) + 2 * F.one_hot(target, C)
        found = task.metrics(task.collect(logits, {"target": target}))
        predicted = logits.argmax(1)
        assert found["accuracy"] == pytest.approx(reference.accuracy_score(target, predicted))
        assert found["macro_f1"] == pytest.approx(
            reference.f1_score(target, predicted, average="macro")
        )
        assert found["balanced_accuracy"] == pytest.approx(
            reference.balanced_accuracy_score(target, predicted)
        )
        assert found["top5"] == pytest.approx(
            reference.top_k_accuracy_score(target, logits.numpy(), k=5, labels=range(C))
        )

    def test_report_by_class_equals_sklearn(self):
        task, target = make("single")
        logits = torch.randn(50, C) + F.one_hot(target, C)
        report = task.report(task.collect(logits, {"target": target}))
        expected = reference.classification_report(
            target, logits.argmax(1), target_names=NAMES, output_dict=True, zero_division=0
        )
        for line in report["per_class"]:
            row = expected[line["name"]]
            assert line["f1"] == pytest.approx(row["f1-score"])
            assert line["recall"] == pytest.approx(row["recall"])
            assert line["support"] == row["support"]
        matrix = reference.confusion_matrix(target, logits.argmax(1), labels=range(C))
        assert report["confusion"] == matrix.tolist()
        assert sum(b["n"] for b in report["calibration"]["bins"]) == 50

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_loss_equals_torch(self, smoothing):
        task, target = make("single")
        logits = torch.randn(50, C)
        found, weight = task.losses(logits, {"target": target}, smoothing=smoothing)["loss"]
        expected = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
        torch.testing.assert_close(found, expected)
        assert bool((weight == 1).all())
        soft = torch.rand(50, C).softmax(1)
        found, _ = task.losses(logits, {"target": soft}, smoothing=smoothing)["loss"]
        expected = F.cross_entropy(logits, soft, label_smoothing=smoothing, reduction="none")
        torch.testing.assert_close(found, expected)

    def test_class_weights_equal_torchs_weighted_mean(self):
        weights = [float(i + 1) for i in range(C)]
        task = classification(Labels("single", NAMES), class_weights=weights)
        logits, target = torch.randn(50, C), torch.randint(C, (50,))
        expected = F.cross_entropy(logits, target, weight=torch.tensor(weights))
        for given in (target, task.targets.soft(target)):
            loss, weight = task.losses(logits, {"target": given})["loss"]
            torch.testing.assert_close((loss * weight).sum() / weight.sum(), expected)

    @pytest.mark.parametrize("weights", [[1.0], [0.0] * C, [-1.0] * C, [math.nan] * C])
    def test_wrong_class_weights(self, weights):
        with pytest.raises(ValueError, match="class_weights"):
            classification(Labels("single", NAMES), class_weights=weights)

    @pytest.mark.parametrize("smoothing", [-0.1, 1.0])
    def test_wrong_smoothing(self, smoothing):
        task, target = make("single")
        with pytest.raises(ValueError, match="smoothing"):
            task.losses(torch.randn(50, C), {"target": target}, smoothing=smoothing)["loss"]

    def test_one_class_is_refused(self):
        with pytest.raises(ValueError, match="at least 2"):
            classification(Labels("single", ("a",)))

    def test_a_nan_item_is_wrong_even_where_argmax_would_hit(self):
        task, _ = make("single")
        logits = torch.full((2, C), torch.nan)
        collected = task.collect(logits, {"target": torch.zeros(2, dtype=torch.long)})
        assert task.metrics(collected)["accuracy"] == 0
        assert np.sum(task.report(collected)["confusion"]) == 0
        assert rows(task.columns(collected))[0]["prediction"] is None

    def test_few_classes_have_no_top5_and_many_no_confusion(self):
        few = classification(Labels("single", ("a", "b")))
        assert "top5" not in few.directions
        many = classification(Labels("single", tuple(map(str, range(300)))))
        collected = many.collect(torch.randn(9, 300), {"target": torch.arange(9)})
        assert many.report(collected)["confusion"] is None
        assert len(rows(many.columns(collected))[0]["probabilities"]) == 5

    def test_the_accuracy_interval_widens_with_fewer_items(self):
        task, _ = make("single")

        def width(n):
            target = torch.arange(n) % C
            logits = F.one_hot(torch.where(torch.arange(n) % 4 == 0, (target + 1) % C, target), C)
            figure = task.report(task.collect(logits, {"target": target}))["metrics"]["accuracy"]
            return figure["high"] - figure["low"]

        assert width(40) > 2 * width(400)


class TestMultiLabel:
    def test_metrics_equal_sklearn(self):
        task, target = make("multi")
        logits = torch.randn(50, C) + target
        found = task.metrics(task.collect(logits, {"target": target}))
        expected = reference.average_precision_score(target, logits.sigmoid(), average="macro")
        assert found["map"] == pytest.approx(expected)
        for average in ("micro", "macro"):
            expected = reference.f1_score(target, logits > 0, average=average)
            assert found[f"{average}_f1"] == pytest.approx(expected)

    def test_a_label_that_no_item_has_is_left_out_of_map(self):
        task, target = make("multi")
        target[:, 0] = 0
        found = task.metrics(task.collect(torch.randn(50, C), {"target": target}))
        assert math.isfinite(found["map"])

    def test_loss_equals_torch_with_positive_weights_and_smoothing(self):
        weights = [float(i + 1) for i in range(C)]
        task = multi_label_classification(Labels("multi", NAMES), positive_weights=weights)
        logits, target = torch.randn(5, C), torch.randint(2, (5, C))
        found, _ = task.losses(logits, {"target": target}, smoothing=0.2)["loss"]
        expected = F.binary_cross_entropy_with_logits(
            logits, target * 0.8 + 0.1, pos_weight=torch.tensor(weights)
        )
        torch.testing.assert_close(found.mean(), expected)

    def test_targets_of_another_shape_are_refused(self):
        task, _ = make("multi")
        with pytest.raises(ValueError, match="target"):
            task.losses(torch.randn(5, C), {"target": torch.ones(5, 1)})["loss"]


class TestRegression:
    def test_metrics_equal_sklearn(self):
        task, target = make("real")
        predicted = target + torch.randn(50, C)
        found = task.metrics(task.collect(predicted, {"target": target}))
        assert found["mse"] == pytest.approx(reference.mean_squared_error(target, predicted))
        assert found["mae"] == pytest.approx(reference.mean_absolute_error(target, predicted))
        assert found["r2"] == pytest.approx(reference.r2_score(target, predicted))
        assert found["rmse"] == pytest.approx(math.sqrt(found["mse"]))

    def test_flat_targets_of_one_quantity_do_not_broadcast(self):
        task = regression(Labels("real", ("age",)), criterion="mae")
        outputs, target = torch.randn(4, 1), torch.randn(4)
        found, _ = task.losses(outputs, {"target": target})["loss"]
        torch.testing.assert_close(found, (outputs[:, 0] - target).abs())
        with pytest.raises(ValueError, match="target"):
            task.losses(outputs, {"target": torch.randn(4, 2)})["loss"]

    def test_smoothing_and_unknown_criteria_are_refused(self):
        task, target = make("real")
        with pytest.raises(ValueError, match="label_smoothing"):
            task.losses(torch.randn(50, C), {"target": target}, smoothing=0.1)["loss"]
        with pytest.raises(ValueError, match="criterion='l4'"):
            regression(Labels("real", NAMES), criterion="l4")
