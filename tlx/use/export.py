"""A finished run in the form that its library loads; where there is none, its function's module."""

from pathlib import Path

from tlx.base import durable
from tlx.execution.finished import load
from tlx.tasks.heads import without_norm


def export(folder: Path, *, into: Path, onnx: bool = False, adapter: str = "merge") -> list[Path]:
    """Writes the run's network as its library loads it; returns what was written.

    A network that a function outside of tlx makes is written for that function.

    Args:
        folder: of the run.
        into: folder of the files.
        onnx: write model.onnx too.
        adapter: `merge` adapters into the weights, or write them `alone`, as peft loads them.

    Raises:
        ExportError: there is no such form of the network.
    """
    from tlx.backbones.adapters import peft as adapters
    from tlx.backbones.export.adapters import export_adapters
    from tlx.backbones.export.networks import ExportError
    from tlx.backbones.export.networks import export as write
    from tlx.backbones.export.own import export_own

    run, made = load(folder)
    facts, names, reads = made.backbone.export, made.task.labels.names, made.backbone.reads
    kind = facts.get("adapters", {}).get("kind")
    if adapter != "alone" and kind in adapters.PROMPTS:
        raise ExportError(
            f"the virtual tokens of this run (freeze_strategy={kind}) cannot be merged into "
            "weights; write them for peft: --adapter alone"
        )
    if adapter != "alone" and made.backbone.adapters:
        adapters.merge(made.network)
    state = without_norm(made.network.state_dict())
    of_library = facts.get("source") in ("timm", "transformers")
    if adapter == "alone":
        written = export_adapters(state, into, facts=facts, class_names=names, reads=reads)
    elif of_library or (facts and run.backbone.target.startswith("tlx.")):
        written = write(state, into, facts=facts, class_names=names, reads=reads, onnx=onnx)
    elif onnx:
        raise ExportError(f"export to ONNX does not know {run.backbone.target}; leave --onnx out")
    else:
        written = export_own(
            state,
            into,
            function=run.backbone.target,
            arguments={k: v for k, v in run.backbone.arguments.items() if k != "init"},
            label_names=names,
            reads=reads,
        )
    files = sorted(written.iterdir())
    durable.sync(files)  # the libraries sync nothing
    return files
