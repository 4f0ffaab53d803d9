"""The features that a linear head is solved on: rows of the store, or a sparse matrix.

Shapes: N items, D features, C outputs.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from scipy.sparse import csr_array
from torch import Tensor

from tlx.backbones.backbone import Features
from tlx.data.splits import Split
from tlx.frozen.cut import NoCut
from tlx.frozen.store import StoreError
from tlx.tasks.heads import LinearHead
from tlx.training.engine.course import Course
from tlx.training.loaders import Encoded
from tlx.training.reuse.source import Reuse
from tlx.training.reuse.sparse import Sparse
from tlx.training.reuse.transform import Transform

Vectors = Callable[[Iterable[object]], csr_array]
"""The features of encoded inputs; see `Backbone.sparse`."""


@dataclass(frozen=True)
class Fixed:
    """Features [N, D] of training and validation items, dense or sparse."""

    train: Tensor | csr_array
    val: Tensor | csr_array

    def to(self, device: torch.device) -> "Fixed":
        """Those to be trained on, where they are dense, on a device."""
        return Fixed(self.train.to(device), self.val) if isinstance(self.train, Tensor) else self

    @property
    def device(self) -> torch.device:
        """Where the head is solved: of sparse features the CPU, whose products are scipy's."""
        return self.train.device if isinstance(self.train, Tensor) else torch.device("cpu")

    def inputs(self) -> Tensor | Sparse:
        """Those to be trained on, as `Problem` takes them."""
        return self.train if isinstance(self.train, Tensor) else Sparse(self.train)

    def val_outputs(self, head: LinearHead) -> Tensor:
        """What a head gives [N, C] for the validation items."""
        weight_CD = head.linear.weight
        if isinstance(self.val, Tensor):
            outputs: Tensor = head.eval()(Features(pooled=self.val.to(weight_CD.device)))
            return outputs
        products_NC = torch.from_numpy(self.val @ weight_CD.detach().T.double().cpu().numpy())
        return (products_NC + head.linear.bias.detach().double().cpu()).float()


def features(
    reuse: Reuse, course: Course, *, width: int, sparse: Vectors | None, heed: Callable[[], None]
) -> Fixed:
    """The features of a run's items; what was computed and what was stored is accounted for.

    Args:
        reuse: gives the items, and the store's rows.
        course: takes note (it is changed).
        width: D.
        sparse: of a backbone whose features are sparse: nothing is then stored, as they are made
            in less time than they are read.
        heed: called for each item of sparse features; raises where a signal asked to stop.

    Raises:
        ValueError: they are not fixed, or cannot be stored.
    """
    why = reuse.why_not()
    if why is None and sparse is None:
        try:
            if not reuse.find().is_features:
                why = "the backbone's output is not all frozen"
        except NoCut as reason:
            why = str(reason)
    if why is not None:
        raise ValueError(f"optimizer=lbfgs needs fixed features: {why}; or use another optimizer")
    if sparse is not None:
        return _sparse(reuse, course, sparse, heed)
    try:
        train = reuse.rows(reuse.splits.train, reuse.training)
        val = reuse.rows(reuse.splits.val, reuse.evaluation)
    except StoreError as reason:
        raise ValueError(f"optimizer=lbfgs needs stored features: {reason}") from reason
    if train.shape != (width,) or not (train.resident and val.resident):
        raise ValueError(
            f"optimizer=lbfgs: features of an item are {list(train.shape)}, and "
            f"{train.bytes / 1e9:.2g} GB in all; it takes vectors of {width} that fit into memory: "
            "use another optimizer"
        )
    reused = train.reused + val.reused
    _account(course, train.computed + val.computed, reused=reused, saved_s=reused * reuse.prefix_s)
    return Fixed(train.tensor().float(), val.tensor().float())


def _sparse(reuse: Reuse, course: Course, vectors: Vectors, heed: Callable[[], None]) -> Fixed:
    """Features made of all items' inputs, in the precision that the config would store them in."""
    splits, dtype = reuse.splits, reuse.wishes.dtype or torch.float32

    def made(split: Split, transform: Transform) -> csr_array:
        found = vectors(_inputs(reuse.encoded(split, transform), heed))
        found.data = torch.from_numpy(found.data).to(dtype).float().numpy()
        return found

    fixed = Fixed(made(splits.train, reuse.training), made(splits.val, reuse.evaluation))
    _account(course, len(splits.train) + len(splits.val), reused=0, saved_s=0.0)
    return fixed


def _inputs(items: Encoded, heed: Callable[[], None]) -> Iterator[object]:
    """The input of each item, as the network would read it."""
    for index in range(len(items.split)):
        heed()
        yield items[index, 0]["input"]


def _account(course: Course, computed: int, *, reused: int, saved_s: float) -> None:
    course.progress.reuse = {
        "boundary": "backbone",
        "computed": computed,
        "reused": reused,
        "saved_s": saved_s,
    }
