"""What a regularization option changes: typed parts, each of which says where it fits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeVar, final

from torch import Tensor, nn

from tlx.backbones.backbone import Backbone
from tlx.data.splits import Batch
from tlx.methods.stages import Stage
from tlx.methods.step import Step
from tlx.tasks.task import Network, Task

if TYPE_CHECKING:  # what is built for --check needs no trainer, which is slow to import
    import pytorch_lightning as pl

P = TypeVar("P", bound="EffectPart")
V = TypeVar("V", bound="_Value")
D = TypeVar("D")
T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """A run without weights or data, which parts are asked to fit.

    Attributes:
        task: what is learnt.
        backbone: the network without its head.
        network: of both, before any surgery.
        stages: of the freeze strategy.
        norm_stats: `frozen.norm_stats`.
        feature_mixing: names of augmentations that blend the features of different items.
        ranks: processes that train together.
        accumulate: parts in which a batch is computed.
        precision: of the trainer, `32`, `bf16-mixed`, `16-mixed`, ...
        sharded: whether the network is spread over ranks.
    """

    task: Task
    backbone: Backbone
    network: Network
    stages: Sequence[Stage]
    norm_stats: str = "follow"
    feature_mixing: Sequence[str] = ()
    ranks: int = 1
    accumulate: int = 1
    precision: str = "32"
    sharded: bool = False


def everywhere(setting: Setting) -> str | None:
    """Of what fits every task, network and freeze strategy."""
    return None


@dataclass(frozen=True, kw_only=True)
class EffectPart:
    """One thing that an option changes; abstract.

    Attributes:
        alone: whether a second one, of another option, is refused.
        stacks: whether heads that train as one stack do the same with it.
        fits: why it is wrong for a task, network or freeze strategy, as the end of a sentence that
            begins with the option's name; None where it is right.
        reads_inputs: whether the network's inputs are needed in each step, which are not at hand
            where training starts from stored activations.
        of_whole_batches: whether it depends on what is computed at once, as a loss that compares
            items with one another does: then memory that runs out must not divide a batch.
    """

    alone: ClassVar[bool] = True
    stacks: ClassVar[bool] = False

    fits: Callable[[Setting], str | None] = everywhere
    reads_inputs: bool = False
    of_whole_batches: bool = False

    def why_not(self, setting: Setting) -> str | None:
        """Why it cannot be part of a run; None where it can."""
        return self.fits(setting)


@final
@dataclass(frozen=True)
class Penalty(EffectPart):
    """A term of the loss; `train/<option>` of the log.

    Attributes:
        of: from a step to a number, the mean over items unless `rows` says otherwise.
        rows: from a batch and the task to how many rows it is the mean of, where that is not
            the batch's items; what depends on weights alone needs none either.
        reads_anchor: whether it reads the starting weights, `step.anchor`.
    """

    alone: ClassVar[bool] = False

    of: Callable[[Step], Tensor]
    rows: Callable[[Batch, Task], Tensor] | None = None
    reads_anchor: bool = False

    def why_not(self, setting: Setting) -> str | None:
        """Beside what `fits` says: what reads inputs does not see the features that were mixed."""
        return (_of_whole_items(setting) if self.reads_inputs else None) or self.fits(setting)


Terms = Mapping[str, Tensor]
"""The terms of a step's loss: the task's `loss`, and each penalty by its option's name."""


@final
@dataclass(frozen=True)
class Update(EffectPart):
    """Owns the backward pass: what it leaves in `.grad` is what is clipped and stepped with.

    Attributes:
        of: called with the terms of the step's loss; with a function that computes them again at
            the weights of now, on the same batch with the same draws, of which running statistics
            see nothing; and with the parameters that train, by name. It adds to their `.grad`,
            and leaves the parameters as it found them.
    """

    of: Callable[[Terms, Callable[[], Terms], Mapping[str, nn.Parameter]], object]
    of_whole_batches: bool = field(default=True, kw_only=True)

    def why_not(self, setting: Setting) -> str | None:
        """Beside what `fits` says: it has one gradient of one batch, on one device, unscaled."""
        if setting.accumulate > 1:
            return (
                f"takes the gradient of a whole batch, and trainer.accumulate={setting.accumulate} "
                "divides it: give 1"
            )
        if setting.ranks > 1 or setting.sharded:
            return (
                "computes a step's gradient itself, which ranks do not share then: give "
                "trainer.devices=1, trainer.nodes=1 and no trainer.strategy"
            )
        if setting.precision == "16-mixed":
            return (
                "computes a step's gradient itself, and trainer.precision=16-mixed scales losses: "
                "give bf16-mixed or 32"
            )
        return self.fits(setting)


@final
@dataclass(frozen=True)
class Reference(EffectPart):
    """A frozen network that the option's penalty compares with, in `step.reference`.

    Attributes:
        of: `start`, the run's own network as it starts; a finished run, as `run:<id>` or its
            folder; or an init of the run's own backbone (`hub`, a file), which has no outputs.
        reads: what it is asked for: `outputs`, or fields of Features.
        same_labels: whether a finished run must have been trained for the same labels.
    """

    alone: ClassVar[bool] = False

    of: str = "start"
    reads: tuple[str, ...] = ("outputs",)
    same_labels: bool = True

    def why_not(self, setting: Setting) -> str | None:
        """Beside what `fits` says: it does not see the features that were mixed."""
        return _of_whole_items(setting) or self.fits(setting)


@final
@dataclass(frozen=True)
class Surgery(EffectPart):
    """A change of the network, before it takes weights of a head and before its parameters count.

    Attributes:
        operate: changes a network (a mutator), with its backbone's facts at hand.
    """

    alone: ClassVar[bool] = False

    operate: Callable[[Network, Backbone], object]


@final
@dataclass(frozen=True)
class Arguments(EffectPart):
    """Arguments with which the network is made; two options must not give the same one.

    Attributes:
        backbone: of the backbone's function, `drop_path_rate`.
        head: `dropout` before its last layer; `bias`, which it has whatever the backbone says.
    """

    alone: ClassVar[bool] = False

    backbone: Mapping[str, object] = field(default_factory=dict)
    head: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError where a head takes no such argument."""
        if not self.head.keys() <= {"dropout", "bias"}:
            raise ValueError(f"Arguments of the head {sorted(self.head)}; it takes dropout, bias")


@dataclass(frozen=True)
class _Value(EffectPart):
    """A part that is one number; abstract."""

    stacks: ClassVar[bool] = True

    value: float


@final
class Smoothing(_Value):
    """Label smoothing of the task's loss."""


@final
class Decay(_Value):
    """Weight decay, of the parameters that take any."""


@final
class Clipping(_Value):
    """Largest norm of the gradient."""


@final
@dataclass(frozen=True)
class SparedTrunk(EffectPart):
    """Weight decay rules the head alone; something else rules the trunk."""

    alone: ClassVar[bool] = False


@final
@dataclass(frozen=True)
class Stopping(EffectPart):
    """Ends the run after `patience` validations that do not improve by `min_delta`."""

    stacks: ClassVar[bool] = True

    patience: int
    min_delta: float = 0.0


@final
@dataclass(frozen=True)
class Averaging(EffectPart):
    """Averaged weights, which are evaluated and kept instead of the raw ones.

    Attributes:
        keeps: from the number of updates before to the average's weight in the next one.
        start_fraction: of the budget, from which on it averages.
    """

    keeps: Callable[[int], float]
    start_fraction: float = 0.0


@final
@dataclass(frozen=True)
class Callbacks(EffectPart):
    """Lightning callbacks."""

    alone: ClassVar[bool] = False

    callbacks: "tuple[pl.Callback, ...]"


@final
@dataclass(frozen=True, init=False)
class Effects:
    """What one option changes: at most one part of each type.

    >>> Effects(Decay(0.05), Clipping(1.0)).parts[1].value
    1.0
    """

    parts: tuple[EffectPart, ...]

    def __init__(self, *parts: EffectPart) -> None:
        """Keeps the parts.

        Raises:
            ValueError: two are of one type.
        """
        types = [type(part) for part in parts]
        if len(set(types)) < len(types):
            names = ", ".join(kind.__name__ for kind in types)
            raise ValueError(f"Effects of {names}; give one of each type, and two options for two")
        object.__setattr__(self, "parts", parts)


@final
class Regularization:
    """The parts of all options of a run, each by its option's name, in the order of the config."""

    def __init__(self, options: Mapping[str, Effects] | None = None) -> None:
        """Keeps them.

        Raises:
            ValueError: two options set the same thing.
        """
        self._parts = [
            (name, part) for name, effects in (options or {}).items() for part in effects.parts
        ]
        for _, part in self._parts:
            names = list(self.of(type(part)))
            if part.alone and len(names) > 1:
                raise _both(names, type(part).__name__.lower())
        self.arguments(lambda part: part.backbone)
        self.arguments(lambda part: part.head)

    def __iter__(self) -> Iterator[tuple[str, EffectPart]]:
        """Yields option and part."""
        return iter(self._parts)

    def of(self, kind: type[P]) -> dict[str, P]:
        """All parts of a type."""
        return {name: part for name, part in self._parts if isinstance(part, kind)}

    def only(self, kind: type[P]) -> P | None:
        """The one part of a type, if there is one."""
        return next(iter(self.of(kind).values()), None)

    def value(self, kind: type[V], default: D) -> float | D:
        """The number that a part is, or the default where no option has one."""
        part = self.only(kind)
        return default if part is None else part.value

    def arguments(self, of: Callable[[Arguments], Mapping[str, T]]) -> dict[str, tuple[str, T]]:
        """Arguments that options give the backbone, or the head: name -> option and value.

        Args:
            of: which of the two.

        Raises:
            ValueError: two options give the same one.
        """
        given: dict[str, tuple[str, T]] = {}
        for option, part in self.of(Arguments).items():
            for name, value in of(part).items():
                if name in given:
                    raise _both([given[name][0], option], name)
                given[name] = option, value
        return given

    def check(self, setting: Setting) -> None:
        """Asks each part whether it fits.

        Raises:
            ValueError: one does not.
        """
        for name, part in self._parts:
            why = part.why_not(setting)
            if why is not None:
                raise ValueError(f"regularization.{name} {why}")


def _of_whole_items(setting: Setting) -> str | None:
    if not setting.feature_mixing:
        return None
    return (
        f"and augmentation.{setting.feature_mixing[0]} do not go together: it reads items that are "
        "not mixed; leave one out"
    )


def _both(names: Sequence[str], what: str) -> ValueError:
    return ValueError(f"regularization: {', '.join(names)} all set {what}; keep one of them")
