"""Figures of several runs that were judged on the same items, for all of them at once.

Shapes: G runs, N items, C outputs.
"""

from torch import Tensor

from tlx.tasks.task import Collected, Report, Task


def collected(task: Task, outputs: Tensor, targets: Tensor) -> Collected:
    """What a Collector would gather of a whole split [N, ...], or of G runs on it [G, N, ...]."""
    return on_cpu(task.collect(outputs, {"target": targets}))


def on_cpu(found: Collected) -> Collected:
    """Per-item tensors as they are kept: without gradient, on the CPU, numbers in float32."""
    return {
        key: value.detach().float().cpu() if value.is_floating_point() else value.detach().cpu()
        for key, value in found.items()
    }


def metrics_each(task: Task, outputs_GNC: Tensor, targets: Tensor) -> list[dict[str, float]]:
    """What the task's `metrics` gives for each run.

    Args:
        task: of all runs.
        outputs_GNC: of the runs.
        targets: of the items, [N] or [N, C].
    """
    if (each := task.each()) is not None:
        return each.metrics_each(collected(task, outputs_GNC, targets))
    return [task.metrics(collected(task, outputs, targets)) for outputs in outputs_GNC]


def report_each(task: Task, outputs_GNC: Tensor, targets: Tensor) -> list[Report]:
    """What the task's `report` gives for each run; arguments as of `metrics_each`."""
    if (each := task.each()) is not None:
        return each.report_each(collected(task, outputs_GNC, targets))
    return [task.report(collected(task, outputs, targets)) for outputs in outputs_GNC]
