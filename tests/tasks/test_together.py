"""Runs that are judged together get the figures that each would get alone."""

import pytest
import torch

from tlx.data.splits import Labels
from tlx.tasks import together
from tlx.tasks.classification import classification


@pytest.mark.parametrize("classes", [3, 10, 70])  # 70: more than are multiplied
@pytest.mark.parametrize("broken", [False, True])
def test_together_as_alone(classes, broken):
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(4, 50, classes, generator=generator)
    target = torch.randint(classes, (50,), generator=generator)
    if broken:
        logits[1, 3, 0] = torch.nan
    task = classification(Labels(kind="single", names=tuple(f"c{i}" for i in range(classes))))
    found = together.metrics_each(task, logits, target)
    reports = together.report_each(task, logits, target)
    assert len(found) == len(reports) == 4
    for run, (figures, report) in enumerate(zip(found, reports, strict=True)):
        alone = {"logits": logits[run], "target": target}
        assert figures == pytest.approx(task.metrics(alone), nan_ok=True, rel=1e-12)
        expected = task.report(alone)
        for name, value in expected.pop("metrics").items():
            assert report["metrics"][name] == pytest.approx(value, nan_ok=True, rel=1e-12)
        assert figures == pytest.approx(
            {name: value["value"] for name, value in report.pop("metrics").items()},
            nan_ok=True,
            rel=1e-12,
        )
        for part in (report, expected):
            part.pop("calibration")
        assert report == expected
