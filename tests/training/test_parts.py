"""A batch in parts, of any weights and sizes and over ranks, trains as the batch in one piece."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import made
from tlx.backbones.backbone import Features
from tlx.config import changes
from tlx.config.compose import compose
from tlx.data.images.augment import cutmix, mixup
from tlx.data.splits import IGNORED, Batch, Labels
from tlx.methods import strategies
from tlx.methods.schedules import constant
from tlx.methods.stages import Group, Layout
from tlx.tasks.classification import classification
from tlx.tasks.language_modeling import language_modeling
from tlx.tasks.task import Network, Task
from tlx.tasks.token_classification import token_classification
from tlx.training import regularization
from tlx.training.effects import Effects, Regularization
from tlx.training.engine import module
from tlx.training.engine.module import Recipe, TransferModule

WORDS, WIDTH = 6, 4
TAGS = Labels("tags", ("O", "B-a", "I-a"))


class Tokens(nn.Module):
    """An embedding and a linear map of each token, which is another in each pass, as by dropout."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(20, WIDTH), nn.Linear(WIDTH, outputs)
        self.passes = 0

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        self.passes += 1
        return self.embedding(inputs["input_ids"]) * (1.0 + 0.5 * (self.passes % 2))


def of_tokens(outputs: int, mask: Callable[[Mapping[str, Tensor]], Tensor]) -> Network:
    torch.manual_seed(0)
    trunk, head = Tokens(outputs), nn.Module()
    head.forward = lambda features: trunk.linear(features.tokens)  # type: ignore[method-assign]
    return Network(trunk, head, lambda m, x: Features(tokens=m(x), mask=mask(x)))


def tagged(lengths: Sequence[int]) -> list[Batch]:
    """Sentences of so many words, each a batch of its own."""
    generator = torch.Generator().manual_seed(1)
    items = []
    for index, length in enumerate(lengths):
        tags = torch.randint(3, (1, WORDS), generator=generator)
        there = (torch.arange(WORDS) < length)[None]
        items.append(
            {
                "index": torch.tensor([index]),
                "input": {
                    "input_ids": torch.randint(20, (1, WORDS), generator=generator),
                    "attention_mask": there,
                    "words": torch.where(there, torch.arange(WORDS), -1),
                },
                "target": tags.masked_fill(~there, IGNORED),
            }
        )
    return items


def windows(asked: Sequence[int]) -> list[Batch]:
    """Windows of which so many tokens are asked, each a batch of its own."""
    return [
        {**item, "target": {"labels": item["target"].masked_fill(item["target"] == 2, 0)}}
        for item in tagged(asked)
    ]


def together(items: Sequence[Any]) -> Any:
    """One batch of several."""
    if isinstance(items[0], Mapping):
        return {key: together([item[key] for item in items]) for key in items[0]}
    return torch.cat(list(items))


def gradient(
    net: Network, task: Task, effects: Mapping[str, Effects], ranks: Sequence[Sequence[Batch]]
) -> Tensor:
    """Of a step whose batch is given by rank, and by part, as DDP and Lightning average it."""
    count = len(ranks[0])
    names = [name for name, _ in net.named_parameters()]
    recipe = Recipe(
        network=net,
        task=task,
        layout=Layout(groups=(Group("all", tuple(names), 0),), fine_groups=()),
        optimizer=made.adam,
        schedule=constant(),
        lr=0.1,
        effects=Regularization(effects),
        accumulate=count,
    )
    losses: list[Tensor] = []
    totals: list[Tensor] = []
    for attempt in ("count", "train"):  # each rank adds what it counts to what the others count
        losses = []
        for rank, parts in enumerate(ranks):
            trainer = TransferModule(recipe, total_steps=1)
            trainer._share = (rank, len(ranks))
            trainer.set_lr = lambda: None  # type: ignore[method-assign]

            def reduce(own: Tensor) -> None:
                totals.append(own.clone())
                if attempt == "train":  # noqa: B023
                    own.copy_(torch.stack(totals[: len(ranks)]).sum(0))

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module.dist, "all_reduce", reduce)
                settled = trainer.settle(list(parts), 0, rank) if count > 1 else parts
                for place, part in enumerate(settled):
                    net.backbone.passes = 0
                    losses.append(trainer.training_step(part, place))
                    trainer.count_batch()
    net.zero_grad()
    (torch.stack(losses).sum() / count / len(ranks)).backward()
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


WORD = lambda inputs: inputs["words"] >= 0  # noqa: E731
TOKEN = lambda inputs: inputs["attention_mask"]  # noqa: E731
R_DROP = {"r_drop": regularization.r_drop(alpha=3.0)}
CASES: dict[str, tuple[Any, Any, Any, dict[str, Effects]]] = {
    "outside": (token_classification(TAGS, outside_weight=0.2), tagged, WORD, {}),
    "tags_r_drop": (token_classification(TAGS), tagged, WORD, R_DROP),
    "causal": (language_modeling(Labels("text", ())), windows, TOKEN, {}),
    "masked_r_drop": (
        language_modeling(Labels("text", ()), objective="masked"), windows, TOKEN, R_DROP,
    ),
}  # fmt: skip
DIVISIONS = {
    "parts": [[[0, 1, 2], [3, 4], [5, 6]]],
    "ranks": [[[0, 1, 2, 3]], [[4, 5, 6]]],
    "both": [[[0, 1], [2, 3]], [[4, 5], [6]]],
}


@pytest.mark.parametrize("division", DIVISIONS)
@pytest.mark.parametrize("case", CASES)
def test_parts_and_ranks_of_tokens_have_the_gradient_of_the_whole(case: str, division: str) -> None:
    task, data, mask, effects = CASES[case]
    items = data([6, 1, 3, 2, 5, 4, 1])
    net = of_tokens(len(task.labels.names) or 20, mask)
    whole = gradient(net, task, effects, [[together(items)]])
    ranks = [
        [together([items[i] for i in part]) for part in parts] for parts in DIVISIONS[division]
    ]
    torch.testing.assert_close(gradient(net, task, effects, ranks), whole, atol=1e-6, rtol=1e-5)


def test_a_step_without_any_weight_teaches_nothing() -> None:
    """A mean of nothing would be NaN, and end the run."""
    task = classification(made.LABELS, class_weights=[0.0, 1.0, 1.0])
    net = Network(nn.Linear(4, 3), nn.Identity(), lambda m, x: Features(pooled=m(x)))
    net.head.forward = lambda features: features.pooled
    batch = {"index": torch.arange(2), "input": torch.ones(2, 4), "target": torch.zeros(2).long()}
    net.backbone.passes = 0
    assert gradient(net, task, {}, [[batch]]).count_nonzero() == 0


def small() -> tuple[Network, Layout]:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = nn.Module()
    head.linear = nn.Linear(8, made.CLASSES)  # type: ignore[assignment]
    head.forward = lambda features: head.linear(features.pooled)  # type: ignore[operator]
    net = Network(trunk, head, lambda m, x: Features(pooled=m(x)))
    trunk_names = tuple(n for n, _ in net.named_parameters() if n.startswith("backbone"))
    groups = (Group("stem", trunk_names, 0), Group("head", ("head.linear.weight",), 1))
    return net, Layout(groups=groups, fine_groups=groups)


DATA = made.tensors(24, 8)
RUNS: dict[str, dict[str, Any]] = {
    "weighted": {"task": classification(made.LABELS, class_weights=[10.0, 1.0, 0.1])},
    "mixed": {"mixing": (mixup(alpha=1.0), cutmix(alpha=1.0))},
    "weighted_and_mixed": {
        "task": classification(made.LABELS, class_weights=[10.0, 1.0, 0.1]),
        "mixing": (mixup(alpha=1.0),),
    },
}


@pytest.mark.parametrize("run", RUNS)
def test_unequal_parts_train_as_the_whole_batch(run: str, tmp_path: Path) -> None:
    """Ten items in four parts: of three, three, two and two; through the real loop."""
    trained = []
    for accumulate in (1, 4):
        net, layout = small()
        sgd = lambda groups: torch.optim.SGD(groups, lr=0.5)  # noqa: E731
        made.train(
            net, layout, strategies.full(layout), DATA, tmp_path / str(accumulate), steps=8,
            batch_size=10, accumulate=accumulate, optimizer=sgd, lr=0.5, **RUNS[run],
        )  # fmt: skip
        trained.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(trained[1], trained[0], atol=1e-5, rtol=0)


CONCERNED = [
    ["task.class_weights=[3,1,1,1,1,1,1,1,1,1]"],
    ["augmentation=[standard,mixup]"],
    ["augmentation=[cutmix]"],
    ["dataset=conll", "dataset.root=d", "task=token_classification", "backbone=distilbert"],
    ["dataset=stdlib_docs", "task=language_modeling", "backbone=char_lm"],
]
OTHERS = [
    ["augmentation=[standard,feature_mixup]", "regularization=[weight_decay,r_drop,l2_sp]"],
    ["task.class_weights=[2,2,2,2,2,2,2,2,2,2]"],
    ["dataset=stdlib_docs", "task=text_classification", "backbone=distilbert"],
]


@pytest.mark.parametrize(
    ("overrides", "concerned"),
    [*((each, True) for each in CONCERNED), *((each, False) for each in OTHERS)],
)
def test_only_batches_whose_items_weigh_differently_have_got_a_new_id(
    overrides: list[str], concerned: bool
) -> None:
    config = compose(overrides, check=False)
    for accumulate in (1, 2):
        config["trainer"]["accumulate"] = accumulate
        marked = "accumulated_weights" in changes.marks(config)
        assert marked == (concerned and accumulate > 1)
