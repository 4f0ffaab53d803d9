"""What is asked of items: how targets get from their source into batches, one class a kind.

Shapes: N items, C classes, K quantities, W words, T tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NoReturn, Protocol, final

import torch
import torch.nn.functional as F
from torch import Tensor

from tlx.data.splits import IGNORED, Labels


class Targets(Protocol):
    """Targets of one kind, for the labels of one dataset.

    Raw is what a source gives, encoded what a loader's workers make of it, item by item, and a
    batch holds what `collate` makes of these.
    """

    @property
    def kind(self) -> str:
        """That of the labels."""
        ...

    @property
    def noun(self) -> str:
        """What the labels' names are, several of them."""
        ...

    of_inputs: ClassVar[bool]
    """Whether a target is made of its item's input, so that none can be had without that."""

    def encode(self, raw: Any) -> object:
        """A raw target, encoded."""
        ...

    def collate(self, targets: Sequence[Any], inputs: Any) -> Any:
        """Encoded targets as a batch has them.

        Args:
            targets: of the batch's items.
            inputs: the batch's inputs; None: they are not at hand, which `of_inputs` forbids.
        """
        ...

    def nothing(self, item: Any) -> object:
        """A raw target for an item that is to be predicted and has none.

        Raises:
            ValueError: nothing can be predicted of items.
        """
        ...

    def soft(self, target: Any) -> object:
        """A batch's targets, such that they can be averaged.

        Raises:
            ValueError: they cannot.
        """
        ...

    def written(self, raw: Any) -> str:
        """A raw target as a person reads it."""
        ...

    def check(self, raw: Any) -> str | None:
        """What is wrong with a raw target, as what follows the item's name; None: nothing."""
        ...


@final
@dataclass(frozen=True)
class ClassTargets:
    """One class an item: its place among the names, int64 [N]; soft: probabilities [N, C]."""

    labels: Labels
    kind: ClassVar[str] = "single"
    noun: ClassVar[str] = "classes"
    of_inputs: ClassVar[bool] = False

    def encode(self, raw: int) -> Tensor:
        """See the protocol Targets."""
        return torch.tensor(raw, dtype=torch.int64)

    def collate(self, targets: Sequence[Tensor], inputs: object) -> Tensor:
        """See the protocol Targets."""
        return torch.stack(list(targets))

    def nothing(self, item: object) -> int:
        """See the protocol Targets."""
        return 0

    def soft(self, target: Tensor) -> Tensor:
        """One-hot."""
        if target.is_floating_point():
            return target
        return F.one_hot(target, len(self.labels.names)).float()

    def written(self, raw: int) -> str:
        """See the protocol Targets."""
        names = self.labels.names
        return names[raw] if len(names) > 1 else str(raw)

    def check(self, raw: int) -> str | None:
        """See the protocol Targets."""
        return _misplaced(raw, (raw,), self.labels)


@final
@dataclass(frozen=True)
class VectorTargets:
    """A number for each label, float32 [N, K]: real ones, or 1 where a label is present."""

    labels: Labels
    kind: str
    noun: str
    of_inputs: ClassVar[bool] = False

    def encode(self, raw: Sequence[float]) -> Tensor:
        """See the protocol Targets."""
        return torch.tensor(raw, dtype=torch.float32)

    def collate(self, targets: Sequence[Tensor], inputs: object) -> Tensor:
        """See the protocol Targets."""
        return torch.stack(list(targets))

    def nothing(self, item: object) -> tuple[float, ...]:
        """See the protocol Targets."""
        return (0.0,) * len(self.labels.names)

    def soft(self, target: Tensor) -> Tensor:
        """Floats [N, K], also where K is 1 and the batch has [N]."""
        return (target[:, None] if target.ndim == 1 else target).float()

    def written(self, raw: Sequence[float]) -> str:
        """See the protocol Targets."""
        return str(raw)

    def check(self, raw: Sequence[float]) -> str | None:
        """See the protocol Targets."""
        return _of_other_length(raw, self.labels)


@final
@dataclass(frozen=True)
class WordTargets:
    """A class a word: int64 [N, W], -100 where there is no word; soft: [N, W, C], 0 there."""

    labels: Labels
    kind: ClassVar[str] = "tags"
    noun: ClassVar[str] = "classes"
    of_inputs: ClassVar[bool] = False

    def encode(self, raw: Sequence[int]) -> Tensor:
        """See the protocol Targets."""
        return torch.tensor(raw, dtype=torch.int64)

    def collate(self, targets: Sequence[Tensor], inputs: object) -> Tensor:
        """See the protocol Targets."""
        return torch.nn.utils.rnn.pad_sequence(
            list(targets), batch_first=True, padding_value=IGNORED
        )

    def nothing(self, item: Sequence[str]) -> tuple[int, ...]:
        """A tag for each of the item's words."""
        return (0,) * len(item)

    def soft(self, target: Tensor) -> Tensor:
        """See the protocol Targets."""
        if target.is_floating_point():
            return target
        hot = F.one_hot(target.clamp(min=0), len(self.labels.names))
        return hot.float() * (target != IGNORED)[..., None]

    def written(self, raw: Sequence[int]) -> str:
        """See the protocol Targets."""
        return " ".join(self.labels.names[tag] for tag in raw)

    def check(self, raw: Sequence[int]) -> str | None:
        """See the protocol Targets."""
        return _misplaced(raw, raw, self.labels)


@final
@dataclass(frozen=True)
class TextTargets:
    """The text itself, of which its inputs tell: `labels` [N, T], and counts [N] of each window.

    The labels stand where the inputs have tokens, -100 where they are padded.
    """

    labels: Labels
    kind: ClassVar[str] = "text"
    noun: ClassVar[str] = "classes"
    of_inputs: ClassVar[bool] = True

    def encode(self, raw: object) -> object:
        """As it is: a window's target was encoded with its input."""
        return raw

    def collate(
        self, targets: Sequence[Mapping[str, Any]], inputs: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """See the protocol Targets."""
        there_NT = inputs["attention_mask"]
        labels_NT = torch.full(there_NT.shape, IGNORED)
        labels_NT[there_NT] = torch.cat([each["labels"] for each in targets])
        counts = ("words", "characters", "spelled")
        return {
            "labels": labels_NT,
            **{
                name: torch.tensor([each[name] for each in targets], dtype=torch.float32)
                for name in counts
            },
        }

    def nothing(self, item: object) -> NoReturn:
        """Refused.

        Raises:
            ValueError: always.
        """
        raise ValueError("the run is a language model: it has no labels to predict")

    def soft(self, target: object) -> NoReturn:
        """Refused: windows of text have no average.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "a language model's batches cannot be mixed; take mixup and cutmix out of augmentation"
        )

    def written(self, raw: object) -> str:
        """See the protocol Targets."""
        return ""

    def check(self, raw: object) -> str | None:
        """Nothing: there is none yet."""
        return None


KINDS: Mapping[str, Callable[[Labels], Targets]] = {
    **{made.kind: made for made in (ClassTargets, WordTargets, TextTargets)},
    "multi": partial(VectorTargets, kind="multi", noun="classes"),
    "real": partial(VectorTargets, kind="real", noun="quantities"),
}
"""Those of tlx's own sources of data, which check what they read."""


def _misplaced(raw: object, places: Sequence[object], labels: Labels) -> str | None:
    width = len(labels.names)
    if all(isinstance(place, int) and 0 <= place < width for place in places):
        return None
    return f"has label {raw}, and there are {width} classes, counted from 0 to {width - 1}"


def _of_other_length(raw: Sequence[float], labels: Labels) -> str | None:
    width = len(labels.names)
    return None if len(raw) == width else f"has {len(raw)} values for {width} names"
