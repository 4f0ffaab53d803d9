"""Heads trained side by side on the same features: one stack of weights, one job, many runs.

Gradients are written by hand and updates are in place; each run ends where it would alone.

Shapes: G runs of a stack, B items of a batch, N items, D features, C outputs.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from tlx.frozen.blocks import Block
from tlx.frozen.rules import AdamW, Sgd, rule_of
from tlx.tasks.head_losses import HeadLoss

BLOCK_NUMBERS = 2**19  # weights of a block: with state, gradient and outputs still in a CPU's cache


@dataclass(frozen=True)
class Start:
    """How one run begins and what is its own.

    Attributes:
        parameters: name -> weight [C, D], name -> bias [C], layer by layer from the features up,
            as in the head's `state_dict`; between layers stands a ReLU.
        optimizer: of the same class for all runs of a stack.
        lr: base learning rate.
        weight_decay: of the weights; biases take none.
        smoothing: label smoothing.
        max_norm: largest norm of the run's gradient; infinity is off.
    """

    parameters: Mapping[str, Tensor]
    optimizer: Sgd | AdamW
    lr: float
    weight_decay: float = 0.0
    smoothing: float = 0.0
    max_norm: float = math.inf

    def __post_init__(self) -> None:
        """Checks the arguments.

        Raises:
            ValueError: one is out of range.
        """
        if not (self.lr >= 0 and self.weight_decay >= 0):
            raise ValueError(f"lr={self.lr}, weight_decay={self.weight_decay}; give 0 or more")
        if not (0 <= self.smoothing < 1 and self.max_norm > 0):
            raise ValueError(
                f"smoothing={self.smoothing}, max_norm={self.max_norm}; "
                "give a smoothing in [0, 1) and a norm above 0"
            )
        sgd = self.optimizer if isinstance(self.optimizer, Sgd) else None
        if sgd is not None and sgd.nesterov and sgd.momentum <= 0:
            raise ValueError("nesterov needs a momentum above 0; give nesterov=False")
        shapes = [tuple(tensor.shape) for tensor in self.parameters.values()]
        weights, biases = shapes[::2], shapes[1::2]
        layers = all(
            len(weight) == 2 and bias == weight[:1]
            for weight, bias in zip(weights, biases, strict=False)
        )
        chained = all(below[0] == above[1] for below, above in pairwise(weights) if layers)
        if not (weights and len(weights) == len(biases) and layers and chained):
            raise ValueError(
                f"parameters {dict(zip(self.parameters, shapes, strict=True))} are no chain of "
                "layers; give weight [C, D] and bias [C] of each, from the features up"
            )


@final
class Heads:
    """A stack of heads in training. Runs are numbered by their place among the starts."""

    def __init__(
        self, starts: Sequence[Start], *, loss: HeadLoss, block_numbers: int = BLOCK_NUMBERS
    ) -> None:
        """Stacks copies of the runs' parameters, on their device and in their dtype.

        Args:
            starts: of at least one run; parameters of the same names, shapes and dtype.
            loss: of all runs.
            block_numbers: about how many numbers of the stack one pass goes over on a CPU.

        Raises:
            ValueError: the runs are none, or do not fit one stack.
        """
        _check_alike(starts)
        first = starts[0].parameters
        self.loss = loss
        self.runs = tuple(range(len(starts)))
        self._parameters = {
            name: torch.stack([start.parameters[name].detach() for start in starts])
            for name in first
        }
        weight_GCD = next(iter(self._parameters.values()))
        self._device, self._dtype = weight_GCD.device, weight_GCD.dtype
        self._rule = rule_of([start.optimizer for start in starts], self._device)
        self._slots = {
            name: {slot: torch.zeros_like(values) for slot in self._rule.slots}
            for name, values in self._parameters.items()
        }
        numbers = [(each.lr, each.weight_decay, each.smoothing, each.max_norm) for each in starts]
        self._numbers = torch.tensor(numbers, dtype=torch.float64, device=self._device).T
        self._steps_G = self._numbers.new_zeros(len(starts))
        # a GPU has no cache to fit: there one block is fastest
        whole = self._device.type != "cpu"
        size = sum(tensor.numel() for tensor in first.values())
        self._most = len(starts) if whole else max(1, block_numbers // size)
        self._blocks: list[Block] = []
        self._items = -1

    @torch.no_grad()
    def step(
        self, features: Tensor, targets: Tensor, *, factors: Tensor | Sequence[float] | None = None
    ) -> Tensor:
        """One optimizer step of every run (a mutator); the losses before it [G], as `runs`.

        Args:
            features: [B, D] shared by all runs, or [G, B, D].
            targets: as the task's, with a first dimension G where the features have one.
            factors: of the base learning rates [G], from the schedules; None: 1.

        Raises:
            ValueError: shapes do not fit.
        """
        self._check_batch(features, targets)
        shared = features.ndim == 2
        if features.shape[-2] != self._items:
            self._lay_out(features.shape[-2])
        self._steps_G += 1
        # in double precision up to here, as torch computes with Python's floats for one run
        lr_G, decay_G = self._numbers[0], self._numbers[1]
        if factors is not None:
            lr_G = lr_G * torch.as_tensor(factors, dtype=torch.float64, device=self._device)
        all_factors = torch.stack(self._rule.factors(lr_G, decay_G, self._steps_G))
        factors_KG1 = all_factors.to(self._dtype)[:, :, None]
        loss_G = features.new_empty(len(self.runs))
        for block in self._blocks:
            span = block.span
            inputs = features if shared else features[span]
            loss_G[span] = block.gradient(
                inputs, targets[None] if shared else targets[span], loss=self.loss
            )
            block.clip()
            block.update(self._rule, factors_KG1[:, span].unbind())
        return loss_G

    def head(self, run: int) -> tuple[Tensor, ...]:
        """Copies of a run's parameters, in the order in which they were given: weight, bias."""
        place = self._place(run)
        return tuple(values[place].clone() for values in self._parameters.values())

    def state(self, run: int) -> dict[str, dict[str, Tensor]]:
        """Copies of a run's optimizer state by parameter, as torch's optimizers keep it.

        Before the first step, and for SGD without momentum, each parameter's is empty.
        """
        place = self._place(run)
        steps = float(self._steps_G[place])
        if steps == 0 or not self._rule.has_state(place):
            return {name: {} for name in self._parameters}
        state = {
            name: {slot: values[place].clone() for slot, values in slots.items()}
            for name, slots in self._slots.items()
        }
        if self._rule.counts:  # a tensor of each parameter's own: torch adds to it in place
            state = {name: {"step": torch.tensor(steps), **s} for name, s in state.items()}
        return state

    def load_state(self, run: int, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Goes on from a run's optimizer state as `state` gives it (a mutator).

        Raises:
            ValueError: it is another optimizer's, or other parameters'.
        """
        place = self._place(run)
        counted: set[str] = {"step"} if self._rule.counts else set()
        expected = {*self._rule.slots, *counted} if self._rule.has_state(place) else set()
        if state.keys() != self._slots.keys() or any(
            each and each.keys() != expected for each in state.values()
        ):
            slots_of = {name: sorted(each) for name, each in state.items()}
            raise ValueError(
                f"run {run}: state {slots_of}; give {sorted(expected)}, or nothing, for each of "
                f"{', '.join(self._slots)}"
            )
        begun = {name: float(each.get("step", 1.0)) for name, each in state.items() if each}
        if begun and (len(begun) < len(state) or len(set(begun.values())) > 1):
            raise ValueError(f"run {run}: parameters are at different steps, {begun}")
        for name, slots in self._slots.items():
            for slot, values in slots.items():
                values[place] = state[name].get(slot, torch.zeros_like(values[place]))
        self._steps_G[place] = next(iter(begun.values()), 0.0)

    def drop(self, runs: Collection[int]) -> None:
        """Takes runs out of the stack for good (a mutator); the others keep their numbers.

        Raises:
            ValueError: one is not in the stack.
        """
        for run in runs:
            self._place(run)
        left = [place for place, run in enumerate(self.runs) if run not in runs]
        which_G = torch.tensor(left, dtype=torch.int64, device=self._device)
        self.runs = tuple(self.runs[place] for place in left)
        self._parameters = {name: t[which_G] for name, t in self._parameters.items()}
        self._slots = {
            name: {slot: values[which_G] for slot, values in slots.items()}
            for name, slots in self._slots.items()
        }
        self._numbers, self._steps_G = self._numbers[:, which_G], self._steps_G[which_G]
        self._rule.keep(which_G)
        # they are views of the tensors that were just replaced
        self._blocks, self._items = [], -1

    def _place(self, run: int) -> int:
        if run not in self.runs:
            raise ValueError(f"run {run} is not in the stack; these are: {list(self.runs)}")
        return self.runs.index(run)

    def _check_batch(self, features: Tensor, targets: Tensor) -> None:
        width = next(iter(self._parameters.values())).shape[2]
        leading = features.shape[:-1]
        fits = len(leading) == 1 or (len(leading) == 2 and leading[0] == len(self.runs))
        if not fits or features.shape[-1] != width or targets.shape[: len(leading)] != leading:
            raise ValueError(
                f"features {tuple(features.shape)}, targets {tuple(targets.shape)}; give "
                f"[B, {width}] and [B, ...], or [{len(self.runs)}, B, {width}] and "
                f"[{len(self.runs)}, B, ...]"
            )

    def _spans(self) -> list[slice]:
        runs = len(self.runs)
        blocks = math.ceil(runs / self._most)
        edges = [runs * block // blocks for block in range(blocks + 1)] if blocks else []
        return [slice(low, high) for low, high in pairwise(edges)]

    def _layers(self, span: slice) -> list[tuple[Tensor, Tensor]]:
        values = [each[span] for each in self._parameters.values()]
        return list(zip(values[::2], values[1::2], strict=True))

    def _lay_out(self, items: int) -> None:
        """Makes the blocks for batches of so many items (a mutator); they share their buffers."""
        spans = self._spans()
        most = max((span.stop - span.start for span in spans), default=0)
        grads = [values[:most].clone() for values in self._parameters.values()]
        widths = [bias.shape[1] for bias in list(self._parameters.values())[1::2]]
        outputs, errors = (
            [grads[0].new_empty(most, width, items) for width in widths] for _ in range(2)
        )
        smoothing_G, norm_G = self._numbers[2], self._numbers[3]
        self._blocks, self._items = [], items
        for span in spans:
            runs = span.stop - span.start
            smooths, clips = smoothing_G[span].any(), norm_G[span].isfinite().any()
            self._blocks.append(
                Block(
                    span=span,
                    layers=self._layers(span),
                    slots=[[each[span] for each in s.values()] for s in self._slots.values()],
                    grads=[each[:runs] for each in grads],
                    outputs=[each[:runs] for each in outputs],
                    errors=[each[:runs] for each in errors],
                    smoothing_g=smoothing_G[span].to(self._dtype) if smooths else None,
                    norm_g=norm_G[span].to(self._dtype) if clips else None,
                    decays=bool(self._numbers[1, span].any()),
                )
            )


def _check_alike(starts: Sequence[Start]) -> None:
    if not starts:
        raise ValueError("no run to stack; give at least one start")
    kinds = {
        tuple((n, tuple(t.shape), t.dtype, t.device) for n, t in start.parameters.items())
        for start in starts
    }
    if len(kinds) > 1:
        raise ValueError(
            f"runs of one stack have parameters of the same names, shapes, dtype and device; "
            f"these have {sorted(map(str, kinds))}"
        )
