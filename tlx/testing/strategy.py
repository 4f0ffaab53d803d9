"""What a freeze strategy must be: a pure function from a network's layout to stages."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tlx.methods.stages import Group, Layout, Stage, least_steps, spans
from tlx.testing.contract import Contract


def layout(depth: int, *, embeddings: bool = False) -> Layout:
    """A made network of some groups, each a layer and its norm, and a head.

    Args:
        depth: number of groups below the head.
        embeddings: whether the lowest is one of embeddings.
    """
    groups = []
    for level in range(depth):
        layer = "embed.weight" if embeddings and level == 0 else f"layer{level}.weight"
        names = (layer, f"norm{level}.weight", f"norm{level}.bias")
        groups.append(Group(f"layer{level}", tuple(f"backbone.{n}" for n in names), level))
    groups.append(Group("head", ("head.linear.weight", "head.linear.bias"), depth))
    norms = tuple(n for g in groups[:-1] for n in g.parameters if ".norm" in n)
    return Layout(
        groups=tuple(groups),
        fine_groups=tuple(groups),
        neck=norms[-2:],
        norms=norms,
        embeddings=("backbone.embed.weight",) if embeddings else (),
        no_decay=frozenset({*norms, "head.linear.bias"}),
    )


class StrategyContract(Contract):
    """Of a freeze strategy: `make(layout)` gives its stages.

    Attributes:
        layouts: the networks that it is tried on, by what they are.
        steps: budget in which its stages must fit, where they say how long they take.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {
        "four groups": layout(4),
        "twelve groups": layout(12),
        "embeddings": layout(6, embeddings=True),
        "one group": layout(1),
    }
    steps = 400

    def make(self, layout: Layout) -> Sequence[Stage]:
        """The stages for a network."""
        raise NotImplementedError

    def test_stages_name_parameters_of_the_network(self) -> None:
        """Each stage trains something, at rates that are numbers above 0."""
        for title, network in self.layouts.items():
            with self.subTest(title):
                stages = self.make(network)
                self.assertTrue(stages, "there is no stage; give at least one")
                for stage in stages:
                    self.assertTrue(stage.trains, f"stage {stage.name!r} trains nothing")
                    unknown = sorted(stage.trains.keys() - set(network.names))
                    self.assertFalse(unknown, f"stage {stage.name!r} trains what is not there")
                    rates = stage.trains.values()
                    fine = all(math.isfinite(rate) and rate > 0 for rate in rates)
                    self.assertTrue(fine, f"stage {stage.name!r}: a rate's scale is not above 0")

    def test_the_head_trains(self) -> None:
        """A head is new: some stage has to train it."""
        for title, network in self.layouts.items():
            with self.subTest(title):
                trained = {name for stage in self.make(network) for name in stage.trains}
                lacking = sorted(set(network.head.parameters) - trained)
                self.assertFalse(lacking, "no stage trains these of the head")

    def test_it_is_a_pure_function(self) -> None:
        """Equal layouts give equal stages: a run that goes on plans anew."""
        for title, network in self.layouts.items():
            with self.subTest(title):
                self.assertEqual(self.make(network), self.make(network), "two calls differ")

    def test_its_stages_share_out_a_budget(self) -> None:
        """They follow one another without a gap, and the last takes the rest."""
        for title, network in self.layouts.items():
            with self.subTest(title):
                stages = self.make(network)
                least = least_steps(stages, steps_per_epoch=10) or 0
                placed = spans(stages, total_steps=max(self.steps, least), steps_per_epoch=10)
                ends = [span.end for span in placed]
                self.assertEqual([0, *ends[:-1]], [span.start for span in placed])
