"""Outputs of a network over batches, without a trainer."""

from collections.abc import Iterable, Mapping

import torch

from tlx.data.splits import Batch
from tlx.tasks.task import Collected
from tlx.training.collect import Collector
from tlx.training.engine.memory import AtOnce


def outputs(
    network: torch.nn.Module,
    batches: Iterable[Batch],
    collector: Collector,
    *,
    device: torch.device | None = None,
    at_once: AtOnce | None = None,
) -> Collected:
    """Runs a network over encoded batches.

    A batch that does not fit into the device's memory is computed in parts.

    Args:
        network: in eval mode.
        batches: with inputs.
        collector: of the task, nothing collected.
        device: where it computes; None: on the GPU where there is one.
        at_once: what fits; None: nothing is known of that yet.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    at_once = at_once or AtOnce()
    with torch.inference_mode():
        for batch in batches:
            for made, part in at_once.outputs(lambda x: network(_to(x, device)), batch):
                collector.add(made, {key: _to(value, device) for key, value in part.items()})
    collected = collector.finish()
    assert collected is not None
    return collected


def _to(value: object, device: torch.device) -> object:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _to(item, device) for key, item in value.items()}
    return value
