"""What a person reads before and after training: the data, the stages, what trains, the result."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tlx.data.splits import Splits
from tlx.methods.stages import Span
from tlx.results.record import Record, Value
from tlx.training.effects import Decay, SparedTrunk
from tlx.training.engine.course import Pace
from tlx.training.engine.module import Recipe, TransferModule
from tlx.training.optimizers import Lbfgs

WIDTH = 100


def overview(run: str, splits: Splits, pace: Pace, spans: Sequence[Span], *, noun: str) -> str:
    """The run, its data and its stages; `noun`: what the names of the labels are."""
    sizes = {"train": splits.train, "val": splits.val, "test": splits.test, **splits.extra}
    data = ", ".join(f"{name} {len(split)}" for name, split in sizes.items())
    if splits.labels.names:
        data += f"; {len(splits.labels.names)} {noun}"
    table = Table(title=f"{run}\n{data}", title_justify="left", title_style="bold")
    for column in ("stage", "steps", "epochs", "ends by", "parameters that train"):
        table.add_column(column)
    for span in spans:
        steps = span.end - span.start
        until = span.stage.until
        ends = "budget" if until.plateau is None else f"budget or plateau ({until.plateau})"
        trains = f"{len(span.stage.trains)} tensors"
        row = (span.stage.name, f"{span.start}–{span.end}", f"{steps / pace.steps_per_epoch:.3g}")
        table.add_row(*row, ends, trains)
    used = splits.notes.get("batch_size")
    if used is None:
        return _text(table)
    return (
        f"{_text(table)}\neach batch holds all {used['used']} training items: trainer.batch_size="
        f"{used['asked']} is more"
    )


def groups_table(recipe: Recipe, spans: Sequence[Span], module: TransferModule) -> str:
    """Layer groups against stages: learning rate where a group trains, its share, weight decay."""
    sizes = {name: p.numel() for name, p in recipe.network.named_parameters()}
    table = Table(title="learning rate by layer group and stage", title_justify="left")
    table.add_column("group")
    table.add_column("parameters", justify="right")
    for span in spans:
        table.add_column(span.stage.name, justify="right")
    table.add_column("weight decay", justify="right")
    for group in recipe.layout.groups:
        names = group.parameters
        cells = [_rates(recipe, span, names) for span in spans]
        decayed = _decayed(recipe, names)
        count = sum(sizes[name] for name in names)
        table.add_row(group.name, f"{count:,}", *cells, decayed)
    return _text(table)


def penalties(exact: Lbfgs) -> str:
    """How a head is solved that is not trained."""
    listed = ", ".join(f"{penalty:g}" for penalty in exact.penalties)
    return (
        f"the head is solved by L-BFGS, to convergence: the budget and the batch size do not apply"
        f"\npenalties: {listed}"
    )


def _rates(recipe: Recipe, span: Span, names: Sequence[str]) -> str:
    trains = span.stage.trains
    rates = sorted(
        {recipe.lr * trains[n] * recipe.layer_scales.get(n, 1.0) for n in names if n in trains}
    )
    if not rates:
        return "frozen"
    text = f"{rates[-1]:.3g}" if len(rates) == 1 else f"{rates[0]:.2g}…{rates[-1]:.2g}"
    part = sum(n in trains for n in names)
    return text if part == len(names) else f"{text} ({part}/{len(names)})"


def _decayed(recipe: Recipe, names: Sequence[str]) -> str:
    decay = recipe.effects.value(Decay, 0.0)
    if decay == 0 or (recipe.effects.of(SparedTrunk) and "head" not in names[0]):
        return "0"
    part = sum(name not in recipe.layout.no_decay for name in names)
    return f"{decay:g} ({part}/{len(names)})"


def result(made: Record, folder: Path, *, kept: str = "") -> str:
    """The final figures with their intervals, which weights they are of, and where everything is.

    Args:
        made: of the run.
        folder: of the run.
        kept: step and stage of the weights, in words.
    """
    table = Table(title=f"{made.run}: finished", title_justify="left", title_style="bold")
    names = list(dict.fromkeys(n for split in made.splits.values() for n in split.metrics))
    table.add_column("split")
    table.add_column("n", justify="right")
    shown = [name for name in names if name != "balanced_accuracy"][:3]
    for name in shown:
        table.add_column(f"{name} [95%]", justify="right", no_wrap=True)
    for split, found in made.splits.items():
        cells = [_value(found.metrics[name]) for name in shown if name in found.metrics]
        table.add_row(split, str(found.n), *cells)
    seconds = f"{made.used_steps} of {made.budget_steps} steps in {made.wall_s:.0f} s"
    pace = f"{seconds}, {made.samples_per_s:.0f} samples/s"
    weights = f"; weights of {kept}" if kept else ""
    return f"{_text(table, whole=True)}\n{pace}{weights}; everything is in {folder}"


def _value(value: Value) -> str:
    if math.isnan(value.low) and not math.isnan(value.value):
        return f"{value.value:.4g} [no interval]"
    if abs(value.value) >= 1e5:  # perplexity by word of a model of characters
        return f"{value.value:.4g} [{value.low:.3g}, {value.high:.3g}]"
    return f"{value.value:.4f} [{value.low:.3f}, {value.high:.3f}]"


def _text(table: Table, *, whole: bool = False) -> str:
    """A table as text, as wide as its figures need where they are to be read whole."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=10 * WIDTH, highlight=False)
    needed = console.measure(table).maximum if whole else WIDTH
    console.print(table, width=max(WIDTH, needed))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())
