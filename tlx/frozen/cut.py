"""A network in two parts: `prefix`, up to the stored activation, and `suffix`, from it on."""

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from tlx.backbones.backbone import Features
from tlx.data.encoder import Undescribed, described
from tlx.frozen import nested
from tlx.frozen.packing import Packing
from tlx.frozen.segments import canonical
from tlx.frozen.structure import computed_with
from tlx.frozen.stubs import Forward, Stubs, reached, replaced
from tlx.tasks.task import Network

Outcome = tuple[Features, Tensor]


class NoCut(Exception):
    """The network cannot be cut, and why: a sentence for the log."""


@final
class OtherOutputs(NoCut):
    """What lies above the boundary gives other outputs for what is stored."""


@final
@dataclass(eq=False)
class Cut:
    """A network and the boundary at which it is cut, proved for one stage.

    It holds the network and computes with its present weights. Another stage, other modes or
    another device want a new cut.

    Attributes:
        names: of the modules whose outputs are stored, `backbone` or `backbone.blocks.10`; of
            several where the network above reads several, as a detector reads a pyramid.
        packing: how their outputs lie in an item's row.
        dtype: of the activation.
        state_names: parameters and buffers that the prefix depends on.
        needs_inputs: whether `suffix` must have the inputs: where they hold integers, the upper
            part may read them past the boundary, as it does an attention mask.
        network: the whole of it, not a copy.
        parts: names of the modules that the prefix runs, or runs inside of.
        template: one item of inputs, for what is left to run below the boundary.
        stubs: of modules below the boundary.
        whole: whether what is left to run below must see as many items as the batch has.
        copies: whether something works in place, so that `suffix` must copy what it is given.
    """

    names: tuple[str, ...]
    packing: Packing = field(repr=False)
    dtype: torch.dtype
    state_names: tuple[str, ...]
    needs_inputs: bool
    network: Network = field(repr=False)
    parts: tuple[str, ...] = field(repr=False)
    template: object = field(repr=False)
    stubs: Stubs = field(repr=False)
    whole: bool = False
    copies: bool = field(default=False, repr=False)

    @property
    def boundary(self) -> str:
        """The names in one text, for records and keys."""
        return " + ".join(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item's activation."""
        return self.packing.shape

    @property
    def is_features(self) -> bool:
        """Whether what is stored is the backbone's output, one tensor: the head alone is above."""
        return self.names == ("backbone",) and self.packing.is_plain

    def prefix(self, inputs: object) -> Tensor:
        """The activation [N, ...] at the boundary, without gradient; nothing above is computed.

        Args:
            inputs: of N items, as the network takes them.
        """
        with torch.no_grad():
            return self.activation(inputs)

    def activation(self, inputs: object) -> Tensor:
        """What `prefix` gives, with a gradient if something below the boundary trains."""
        outputs = reached(self.network, self.names, inputs)
        return self.packing.pack(outputs, nested.count(inputs))

    def suffix(self, stored: Tensor, *, inputs: object = None) -> Outcome:
        """What `network.with_features` gives, computed from the boundary on, with gradients.

        Args:
            stored: [N, ...], what `prefix` gave, on the network's device; it is left as it is.
            inputs: of the same N items; only read if `needs_inputs`.

        Raises:
            ValueError: the inputs are needed and missing.
        """
        if self.needs_inputs and inputs is None:
            raise ValueError(
                f"the network above {self.boundary!r} may read the inputs, such as an attention "
                "mask; call suffix(stored, inputs=...) with those of the same items"
            )
        below = inputs if self.needs_inputs else self.stand_in(len(stored))
        if self.copies:
            stored, below = stored.clone(), nested.mapped(torch.clone, below)
        return self.run(stored, below, self.stubs)

    def stand_in(self, count: int) -> object:
        """Inputs of `count` items for what is left to run below, where it does not matter which."""
        # of one item as a rule: its few operations then cost nothing, whatever the batch
        return nested.repeated(self.template, count, count=1) if self.whole else self.template

    def prefix_id(self) -> str:
        """SHA-256 of all that the prefix computes with: structure, code, weights, buffers.

        Raises:
            NoCut: what the backbone's features function does cannot be told in full.
        """
        try:
            features = canonical(described(self.network.take_features))
        except Undescribed as reason:
            raise NoCut(f"what takes the network's features cannot be told: {reason}") from None
        at = f"{self.boundary}\n{features}"
        return computed_with(self.network, at=at, modules=self.parts, tensors=self.state_names)

    def run(self, stored: Tensor, below: object, stubs: Stubs) -> Outcome:
        """The network from `stored` on, with these stubs below; may work in place.

        Args:
            stored: [N, ...], activations at the boundary.
            below: inputs for what is left to run below it.
            stubs: `self.stubs`, or others of the same modules.
        """
        given_back = [
            (self.network.get_submodule(name), _giving(output))
            for name, output in zip(self.names, self.packing.unpack(stored), strict=True)
        ]
        with replaced([*stubs, *given_back]):
            return self.network.with_features(below)


def _giving(output: object) -> Forward:
    return lambda *args, **kwargs: output
