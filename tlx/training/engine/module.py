"""The one LightningModule: any task, any backbone, one stage at a time."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor
from torch.optim import Optimizer

from tlx.backbones.backbone import Features
from tlx.data.augment import Augmentation
from tlx.data.splits import Batch
from tlx.methods import freezing
from tlx.methods.order import step_seed
from tlx.methods.schedules import Schedule
from tlx.methods.stages import Layout, Span
from tlx.methods.step import Referred, Step
from tlx.tasks.task import Network, Task
from tlx.training.collect import Collector
from tlx.training.effects import (
    Decay,
    Penalty,
    Regularization,
    Smoothing,
    SparedTrunk,
    Terms,
    Update,
)
from tlx.training.engine import batch_norm, sharding
from tlx.training.engine.memory import AtOnce
from tlx.training.reuse.references import References

States = Mapping[str, Mapping[str, object]]
"""An optimizer's state of each parameter, by the parameter's name."""

LOSS = "loss"
"""Figure of all that the task itself asks for."""

WHOLE = "whole"
"""Key of a part, under which it has what the loss of all parts is divided by."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, apart from when and where.

    Attributes:
        network: backbone and head.
        task: loss and metrics.
        layout: the network's parameters in groups.
        optimizer: from parameter groups to an optimizer.
        schedule: learning-rate factor by step.
        lr: base learning rate.
        effects: of all options of regularization.
        layer_scales: parameter name -> learning-rate scale of layer-wise decay.
        carry: whose optimizer state enters the next stage: `previous`, `all` or `none`.
        anchor: starting weights of the trunk, where a penalty reads them.
        mixing: augmentations of whole batches; one is drawn each step.
        feature_mixing: augmentations of features before the head, one after the other.
        norm_stats: mode of normalisation layers, see `methods.freezing.set_modes`.
        frozen_dropout: `off` or `on`, likewise.
        seed: of everything random in a step.
        accumulate: micro-batches a step.
        compile: torch.compile the network, once a stage.
    """

    network: Network
    task: Task
    layout: Layout
    optimizer: Callable[[list[dict[str, object]]], Optimizer]
    schedule: Schedule
    lr: float
    effects: Regularization = field(default_factory=Regularization)
    layer_scales: Mapping[str, float] = field(default_factory=dict)
    carry: str = "previous"
    anchor: Mapping[str, Tensor] = field(default_factory=dict)
    mixing: tuple[Augmentation, ...] = ()
    feature_mixing: tuple[Augmentation, ...] = ()
    norm_stats: str = "follow"
    frozen_dropout: str = "off"
    seed: int = 0
    accumulate: int = 1
    compile: bool = False


class TransferModule(pl.LightningModule):
    """Trains one stage of a recipe at a time; `enter` before each `fit`."""

    def __init__(
        self, recipe: Recipe, *, total_steps: int, references: References | None = None
    ) -> None:
        """Wraps a recipe's network; `total_steps` is the whole budget."""
        super().__init__()
        self.references = references
        self.network = recipe.network
        self.recipe = recipe
        self.total_steps = total_steps
        self.step = 0
        self.span: Span | None = None
        self.states: States = {}
        self.collector = Collector(recipe.task)
        self.sums: dict[str, Tensor] = {}
        self.losses: list[tuple[int, Tensor]] = []  # step and loss of each part, until looked at
        self.at_once = AtOnce()
        self._added: list[tuple[str, Tensor]] = []
        self._penalties = recipe.effects.of(Penalty)
        self._update = recipe.effects.only(Update)
        self._begun: tuple[Terms, Callable[[], Terms]] | None = None
        self._smoothing = recipe.effects.value(Smoothing, 0.0)
        self._share = (0, 1)
        self._anchor: dict[str, Tensor] = {}
        self._run: Callable[..., tuple[Features, Tensor]] = self.network.with_features
        self._stored = False
        self._micro = 0
        self._whole = torch.zeros(0)

    def enter(self, span: Span, *, start: int, states: States) -> None:
        """Freezes, thaws and sets modes for a stage that starts at step `start`.

        Args:
            span: the stage and its planned place in the budget.
            start: the step at which it really starts (earlier than planned after a plateau).
            states: optimizer state by parameter name that the new optimizer takes over.
        """
        self.span = Span(stage=span.stage, start=start, end=span.end)
        self.states = states
        freezing.apply(self.network, span.stage.trains)
        self.train()
        self.run_whole()

    def run_whole(self) -> None:
        """Batches hold the network's inputs from now on (a mutator)."""
        self._run, self._stored = self.network.with_features, False
        if self.recipe.compile:
            self._run = torch.compile(self.network.with_features)

    def run_with(self, suffix: Callable[..., tuple[Features, Tensor]]) -> None:
        """Batches hold activations, of which `suffix` makes features and outputs (a mutator)."""
        self._run, self._stored = suffix, True

    def train(self, mode: bool = True) -> "TransferModule":
        """Train mode, less what the frozen part keeps in eval mode (PITFALLS: frozen norms)."""
        super().train(mode)
        if mode:
            freezing.set_modes(
                self.network, norm_stats=self.recipe.norm_stats, dropout=self.recipe.frozen_dropout
            )
        return self

    def param_groups(self) -> list[dict[str, object]]:
        """The stage's parameter groups, each with `names`, `base_lr`, `anneal` and `lr`."""
        assert self.span is not None
        recipe, stage = self.recipe, self.span.stage
        spared = set(recipe.layout.no_decay)
        if recipe.effects.of(SparedTrunk):
            spared |= set(recipe.layout.names) - set(recipe.layout.head.parameters)
        groups: list[dict[str, object]] = []
        for anneal in sorted({stage.anneal.get(name, 0.0) for name in stage.trains}):
            trains = {n: s for n, s in stage.trains.items() if stage.anneal.get(n, 0.0) == anneal}
            made = freezing.param_groups(
                self.network,
                trains,
                lr=recipe.lr,
                weight_decay=recipe.effects.value(Decay, 0.0),
                no_decay=frozenset(spared),
                layer_scales=recipe.layer_scales,
            )
            groups += [{**group, "anneal": anneal} for group in made]
        return groups

    def configure_optimizers(self) -> Optimizer:
        """A fresh optimizer over the stage's parameters, with the carried state by name."""
        optimizer = self.recipe.optimizer(self.param_groups())
        load_state(optimizer, self.states)
        self.states = {}
        return optimizer

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by norm. bfloat16 scales no gradients, but Lightning refuses fused optimizers."""
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None and gradient_clip_val:
            plugin.clip_grad_by_norm(optimizer, gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_model(self) -> None:
        """Shards the network, once, where the strategy has a mesh of devices for it."""
        mesh = getattr(self, "_device_mesh", None)
        if mesh is not None and not sharding.is_sharded(self.network):
            sharding.shard(self.network, mesh["data_parallel"])

    def on_train_start(self) -> None:
        """Sets modes, and remembers this rank's share."""
        self.train()
        self._share = (self.global_rank, self.trainer.world_size)
        if self.references is not None:
            self.references.to(self.device)
        self._anchor = {n: t.to(self.device) for n, t in self.recipe.anchor.items()}
        self._micro = 0
        self.set_lr()

    def set_lr(self) -> None:
        """Sets every group's learning rate for the current step (a mutator of the optimizer)."""
        assert self.span is not None
        schedule = self.recipe.schedule
        whole_run = schedule.scope == "run"
        start, end = (0, self.total_steps) if whole_run else (self.span.start, self.span.end)
        factor = schedule.factor(self.step - start, end - start)
        for group in self.trainer.optimizers[0].param_groups:
            if group["anneal"]:
                done = self.step / (group["anneal"] * self.total_steps)
                group["lr"] = group["base_lr"] * cosine_to_zero(done)
            else:
                group["lr"] = group["base_lr"] * factor

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """A micro-batch's part in the step's loss: the weighted mean of *all* parts and ranks."""
        recipe, rank = self.recipe, self._share[0]
        if self._micro == 0:
            self.set_lr()
            self._added = []
        # by the step alone: a run that goes on draws what it would have drawn
        seed = step_seed(recipe.seed, self.step * recipe.accumulate + self._micro, rank)
        reseed(seed)
        if recipe.mixing and recipe.accumulate == 1:  # else `settle` has mixed all parts as one
            batch = mix(recipe.mixing, soft(recipe.task, batch), seed)
        references = self.references
        referred = {} if references is None else references.of(batch, self.step)
        terms = self._terms(batch, seed, referred)
        for name, value in terms.items():
            self._add(name, value.detach())
        if LOSS not in terms:  # the task has several, and figures of their sum are asked for
            own = [value.detach() for name, value in terms.items() if name not in self._penalties]
            self._add(LOSS, functools.reduce(torch.add, own))
        loss = functools.reduce(torch.add, terms.values())
        self.losses.append((self.step + 1, loss.detach()))
        if self._update is not None:
            self._begun = terms, functools.partial(self._again, batch, seed, referred)
        return loss

    def _terms(
        self, batch: Batch, seed: int, referred: Mapping[str, Referred]
    ) -> dict[str, Tensor]:
        """The loss of a micro-batch by its terms: each of the task's losses, and each penalty."""
        recipe, world = self.recipe, self._share[1]
        with batch_norm.explained():
            features, outputs = self._run(batch["input"])
        if recipe.feature_mixing:
            features, batch = mix_features(
                recipe.feature_mixing, features, soft(recipe.task, batch), seed
            )
            outputs = self.network.head(features)
        losses = recipe.task.losses(outputs, batch, smoothing=self._smoothing)
        weights = {name: weight for name, (_, weight) in losses.items()}
        parts = world * recipe.accumulate  # Lightning and DDP average the gradients of so many
        if self._micro == 0:
            whole = batch[WHOLE] if recipe.accumulate > 1 else self._counts(batch, weights)
            if world > 1:
                whole = whole.clone()
                dist.all_reduce(whole)
            # where no item weighs anything there is nothing to learn, and no 0 / 0
            self._whole = whole.clamp(min=1e-30)
        terms = {
            name: torch.dot(per_item, weight) * (parts / self._whole[place])
            for place, (name, (per_item, weight)) in enumerate(losses.items())
        }
        if self._penalties:
            seen = {k: v for k, v in batch.items() if k != "input"} if self._stored else batch
            step = Step(
                batch=seen,
                features=features,
                outputs=outputs,
                network=self.network,
                trainable=frozenset(self.span.stage.trains) if self.span else frozenset(),
                anchor=self._anchor,
                global_step=self.step,
            )
            # each is a mean over its part, which may be larger than others
            shares = self._counts(batch, weights) * parts / self._whole if parts > 1 else None
            for place, (name, penalty) in enumerate(self._penalties.items(), start=len(losses)):
                value = penalty.of(
                    replace(step, reference=referred[name]) if name in referred else step
                )
                if not isinstance(value, Tensor) or value.ndim:
                    raise _no_number(name, value)
                terms[name] = value if shares is None else value * shares[place]
        return terms

    def backward(self, loss: Tensor, *args: object, **kwargs: object) -> None:
        """The gradient of a step's loss, or what an update makes of it, in `.grad`."""
        if self._update is None:
            super().backward(loss, *args, **kwargs)
        else:
            assert self._begun is not None
            (terms, again), self._begun = self._begun, None
            trains = self.span.stage.trains if self.span else {}
            named = self.network.named_parameters()
            self._update.of(terms, again, {n: p for n, p in named if n in trains})

    def _again(
        self, batch: Batch, seed: int, referred: Mapping[str, Referred]
    ) -> dict[str, Tensor]:
        """The terms of the step in hand at the weights of now, with the draws of its first pass."""
        reseed(seed)
        # one step moves running statistics once, whatever it computes
        with batch_norm.still(self.network), self.trainer.precision_plugin.train_step_context():
            return self._terms(batch, seed, referred)

    def settle(self, parts: list[Batch], step: int, rank: int) -> list[Batch]:
        """The parts of this rank's share of a batch, with what its loss is divided by.

        Args:
            parts: as they are loaded.
            step: of the run.
            rank: of this process; loaders are read before training starts, which tells it.
        """
        recipe = self.recipe
        if recipe.mixing:
            softened = [soft(recipe.task, part) for part in parts]
            parts = mix_parts(recipe.mixing, softened, step_seed(recipe.seed, step, rank))
        counts = [self._counts(part, recipe.task.weights(part)) for part in parts]
        whole = torch.stack(counts).sum(0)
        return [{**part, WHOLE: whole} for part in parts]

    def _counts(self, batch: Batch, weights: Mapping[str, Tensor]) -> Tensor:
        """What each loss and each penalty is divided by, of one part: [losses + penalties]."""
        recipe, sums = self.recipe, [weight.sum() for weight in weights.values()]
        if self._share[1] * recipe.accumulate == 1:
            return torch.stack(sums)  # by which penalties are not divided
        rows = [
            len(batch["index"]) if each.rows is None else each.rows(batch, recipe.task)
            for each in self._penalties.values()
        ]
        return torch.stack([*sums, *(torch.as_tensor(n).to(sums[0]) for n in rows)])

    def count_batch(self) -> bool:
        """Counts a micro-batch; True when it completed an optimizer step."""
        self._micro = (self._micro + 1) % self.recipe.accumulate
        if self._micro == 0:
            self.step += 1
        return self._micro == 0

    def take_sums(self, steps: int) -> dict[str, Tensor]:
        """Mean of each training figure over the last `steps` steps, and starts anew."""
        means = {name: total / steps for name, total in self.sums.items()}
        self.sums = {}
        return means

    def forget_step(self, *, accumulate: int) -> None:
        """Undoes the begun step, and goes on in so many parts a step (a mutator)."""
        for name, value in self._added:
            self.sums[name].sub_(value)
        self.losses = [(step, loss) for step, loss in self.losses if step <= self.step]
        self._added, self._micro = [], 0
        self.zero_grad(set_to_none=True)
        self.recipe = replace(self.recipe, accumulate=accumulate)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects what the task's metrics need."""
        for (_, outputs), part in self.at_once.outputs(self._run, batch):
            self.collector.add(outputs, part)

    def _add(self, name: str, value: Tensor) -> None:
        if self.recipe.accumulate > 1:
            value = value / self.recipe.accumulate
        self._added.append((name, value))
        if name in self.sums:
            self.sums[name].add_(value)
        else:
            self.sums[name] = value.clone()


def reseed(seed: int) -> None:
    """Seeds torch's generators (a mutator); `torch.manual_seed` takes a stack trace each time."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def cosine_to_zero(done: float) -> float:
    """Half a cosine from 1 at 0 to 0 at 1 and beyond (FreezeOut, Brock et al. 2017, eq. 1)."""
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def soft(task: Task, batch: Batch) -> Batch:
    """The same batch with targets that can be averaged, for mixing."""
    return {**batch, "target": task.targets.soft(batch["target"])}


def mix(mixing: tuple[Augmentation, ...], batch: Batch, seed: int) -> Batch:
    """The batch after one of the mixing augmentations, drawn with the generator that it uses."""
    generator = torch.Generator().manual_seed(seed)
    pick = int(torch.randint(len(mixing), (1,), generator=generator))
    mixed: Batch = mixing[pick].make(batch, generator)
    return mixed


def mix_parts(mixing: tuple[Augmentation, ...], parts: list[Batch], seed: int) -> list[Batch]:
    """The parts of a batch after a mixing augmentation of all of it, as if it were in one piece.

    Item i of the batch is in part i modulo their number, as `StepBatches` divides it.
    """
    order = sorted(
        (place, number) for number, part in enumerate(parts) for place in range(len(part["target"]))
    )
    sizes = [len(part["target"]) for part in parts]
    index = torch.tensor([sum(sizes[:number]) + place for place, number in order])
    whole = {key: torch.cat([part[key] for part in parts])[index] for key in ("input", "target")}
    mixed = mix(mixing, whole, seed)
    return [
        {**part, **{key: mixed[key][number :: len(parts)] for key in ("input", "target")}}
        for number, part in enumerate(parts)
    ]


def mix_features(
    mixing: tuple[Augmentation, ...], features: Features, batch: Batch, seed: int
) -> tuple[Features, Batch]:
    """Features with `pooled`, and the batch with soft targets, after the mixing augmentations."""
    generator = torch.Generator().manual_seed(seed)
    pooled, targets = features.pooled, batch["target"]
    for each in mixing:
        pooled, targets = each.make(pooled, targets, generator=generator)
    return replace(features, pooled=pooled), {**batch, "target": targets}


def state_by_name(optimizer: Optimizer) -> States:
    """The optimizer's state keyed by parameter name, from groups that carry `names`."""
    return {
        name: dict(optimizer.state[parameter])
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        if parameter in optimizer.state
    }


def load_state(optimizer: Optimizer, states: States) -> None:
    """Loads state by name into an optimizer (a mutator); names it does not have are left out."""
    named = [
        (name, parameter)
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    ]
    own = optimizer.state_dict()
    own["state"] = {
        i: {key: sharding.placed_like(value, parameter) for key, value in states[name].items()}
        for i, (name, parameter) in enumerate(named)
        if name in states
    }
    optimizer.load_state_dict(own)


def _no_number(name: str, value: object) -> ValueError:
    shape = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
    return ValueError(
        f"regularization.{name} gives {shape}; a penalty gives one number, a tensor without "
        "dimensions: the mean over the batch's items"
    )
