"""Halving what is computed at once in training, where a device's memory is full."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, final

import pytorch_lightning as pl

from tlx.base.ends import Divided
from tlx.training.engine import memory
from tlx.training.engine.module import TransferModule
from tlx.training.loaders import StepBatches


@final
@dataclass(eq=False)
class Halving(pl.Callback):
    """Knows in how many parts a batch is computed, and how far the step in hand is.

    Attributes:
        module: of the run.
        batches: of its training loader.
        folder: of its checkpoints.
        batch_size: items a step, over all ranks.
        on_oom: whether anything is halved.
        say: is told of it.
        division: parts, and when they were doubled.
        at: what an error may have left half done: a step's `gradient`, or an `update` of weights.
    """

    module: TransferModule
    batches: StepBatches
    folder: Path
    batch_size: int
    on_oom: memory.OnOom
    say: Callable[[str], object]

    def __post_init__(self) -> None:
        """Computes nothing yet."""
        self.division = memory.read(self.folder, accumulate=self.module.recipe.accumulate)
        self.at: Literal["nothing", "gradient", "update"] = "nothing"

    def apply(self, trainer: pl.Trainer) -> None:
        """Has batches computed in the parts of the division (a mutator of module and trainer)."""
        parts = self.division.accumulate
        self.module.forget_step(accumulate=parts)
        self.batches.accumulate = trainer.accumulate_grad_batches = parts

    def notes(self) -> dict[str, object]:
        """What a record says of it."""
        return {"memory": asdict(self.division)} if self.division.halved_at else {}

    def divide(self, trainer: pl.Trainer, error: RuntimeError) -> None:
        """Has batches computed in twice as many parts from here on (a mutator).

        Raises:
            RuntimeError: the error, where it is of another kind, or nothing is to be halved.
            TooLarge: the batch cannot be divided, or not without another result.
            Divided: there are other ranks, which wait for this one: all are to go on from the
                last checkpoint.
        """
        if self.on_oom == "error" or self.at == "nothing" or not memory.is_out_of_memory(error):
            raise error
        recipe, step = self.module.recipe, self.module.step
        full = f"the device's memory is full at step {step}"
        why = memory.why_not(
            self.module.network,
            mixing=[each.name for each in recipe.feature_mixing],
            regularization=[name for name, part in recipe.effects if part.of_whole_batches],
        )
        if why is not None:
            raise memory.TooLarge(f"{full}: {why}") from error
        share = self.batch_size // trainer.world_size
        try:
            self.division = memory.doubled(self.division, share=share, step=step)
        except memory.TooLarge as reason:
            raise memory.TooLarge(f"{full}: {reason}") from error
        memory.write(self.folder, self.division)
        said = (
            f"{full}: each batch is computed in {self.division.accumulate} parts from here on, as "
            f"with trainer.accumulate={self.division.accumulate}"
        )
        if trainer.world_size > 1:
            raise Divided(said) from error
        self.say(said)
        memory.release(error)
        self.apply(trainer)

    # -- how far the step in hand is ----------------------------------------------------------

    def on_train_start(self, *_: object) -> None:
        """The first step's gradient is next."""
        self.at = "gradient"

    def on_before_optimizer_step(self, *_: object) -> None:
        """From here on weights may be half those of the next step."""
        self.at = "update"

    def on_train_batch_end(self, *_: object) -> None:
        """Weights are those of a step."""
        self.at = "gradient"

    def on_validation_end(self, *_: object) -> None:
        """All is saved."""
        self.at = "gradient"

    def on_train_end(self, *_: object) -> None:
        """There is no step in hand."""
        self.at = "nothing"
