"""What a source of data must be: the same in every process, and known by its content."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch

from tlx.data.encoder import described
from tlx.data.splits import Split, Splits
from tlx.data.targets import KINDS, Targets
from tlx.methods.order import Order
from tlx.testing.contract import Contract
from tlx.training.loaders import Collate, Cursor, Encoded, RankShare, StepBatches
from tlx.training.reuse.transform import draws, item_keys

MOST_ITEMS = 12
"""Of each split that are looked at one by one."""


class SourceContract(Contract):
    """Of a dataset's function: `make(**changed)` gives its splits, with some arguments changed.

    Attributes:
        reads: what a network for it reads, the spec of a modality.
        varied: its arguments, each with a value that is not its usual one.
    """

    reads: Any = None
    varied: ClassVar[Mapping[str, object]] = {}

    def make(self, **changed: Any) -> Splits:
        """The splits."""
        raise NotImplementedError

    def targets(self, data: Splits) -> Targets:
        """How targets get into batches; of labels of one's own kind, those of the task for it."""
        return KINDS[data.labels.kind](data.labels)

    @staticmethod
    def splits_of(data: Splits) -> dict[str, Split]:
        """All splits by their names."""
        return data.named

    def collate(self, data: Splits) -> Callable[[Sequence[object]], object]:
        """Makes the inputs of a batch."""
        return partial(data.inputs.collate, self.reads)

    def encoded(self, data: Splits, split: Split, *, train: bool = False) -> Encoded:
        """A split's items as a network gets them."""
        encode = data.inputs.encoder(self.reads, (), train=train)
        return Encoded(split, encode, targets=self.targets(data), seed=0)

    def test_it_is_the_same_each_time(self) -> None:
        """Ids, targets and inputs: a run that goes on makes its data anew."""
        one, two = self.make(), self.make()
        self.assertEqual(one.fingerprint, two.fingerprint)
        self.assertEqual(one.labels, two.labels)
        for name, split in self.splits_of(one).items():
            with self.subTest(name):
                again = self.splits_of(two)[name]
                self.assertEqual(list(split.ids), list(again.ids))
                self.same(list(split.targets), list(again.targets), "targets differ")
                first, second = self.encoded(one, split), self.encoded(two, again)
                for index in range(min(MOST_ITEMS, len(split))):
                    self.same(first[index, 0], second[index, 0], f"{split.ids[index]} differs")

    def test_ids_are_unique(self) -> None:
        """Within a split; what is trained on is in no other, by its id."""
        every = self.splits_of(self.make())
        for name, split in every.items():
            with self.subTest(name):
                self.assertEqual(len(set(split.ids)), len(split), "an id stands twice")
                self.assertEqual(len(split.ids), len(split.targets))
                both = set(every["train"].ids) & set(split.ids) if name != "train" else set()
                self.assertFalse(sorted(both), "these are trained on as well")

    def test_samples_are_what_ids_and_targets_say(self) -> None:
        """A sample bears the id and the target of its place, and the target fits the labels."""
        data = self.make()
        targets = self.targets(data)
        for name, split in self.splits_of(data).items():
            with self.subTest(name):
                for index in range(min(MOST_ITEMS, len(split))):
                    sample = split[index]
                    self.assertEqual(sample["id"], split.ids[index])
                    self.same(sample["target"], split.targets[index], f"{sample['id']}: targets")
                    self.assertIsNone(targets.check(sample["target"]), sample["id"])

    def test_what_an_argument_changes_is_seen(self) -> None:
        """Items that are known by one key are equal, whatever the arguments: keys are reused."""
        self.assertTrue(self.varied, "name its arguments in `varied`, each with another value")
        usual = self.make()
        known = {
            key: (split, index)
            for split in self.splits_of(usual).values()
            for index, key in enumerate(item_keys(split, usual))
        }
        for name, value in self.varied.items():
            with self.subTest(**{name: value}):
                data = self.make(**{name: value})
                for split in self.splits_of(data).values():
                    keys = item_keys(split, data)
                    shared = [index for index, key in enumerate(keys) if key in known]
                    for index in shared[:MOST_ITEMS]:
                        other, place = known[keys[index]]
                        one = self.encoded(data, split)[index, 0]["input"]
                        two = self.encoded(usual, other)[place, 0]["input"]
                        self.same(one, two, f"{split.ids[index]} has the key of another input")

    def test_its_encoder_says_what_it_depends_on(self) -> None:
        """Else nothing that is computed of its inputs can be stored."""
        data = self.make()
        for train in (False, True):
            encode = data.inputs.encoder(self.reads, (), train=train)
            facts = getattr(encode, "facts", None)
            self.assertTrue(callable(facts), f"{encode!r} has no facts()")
            self.assertEqual(described(facts()), described(facts()))  # type: ignore[misc]
            self.assertFalse(draws(encode), "without augmentation it must not be random")

    def test_a_batch_is_made_of_its_items(self) -> None:
        """A row an item, in their order."""
        data = self.make()
        items = self.encoded(data, data.train)
        count = min(MOST_ITEMS, len(data.train))
        collate = Collate(self.collate(data), items.targets)
        batch = collate([items[index, 0] for index in range(count)])
        self.assertEqual(batch["index"].tolist(), list(range(count)))
        for index in range(count):
            one = collate([items[index, 0]])
            if isinstance(batch["input"], torch.Tensor):
                self.same(batch["input"][index], one["input"][0], f"row {index} is another item's")

    def test_a_run_that_goes_on_sees_the_same_batches(self) -> None:
        """From its third step on, of data that is made anew: bit by bit."""

        def batches(start: int) -> list[object]:
            data = self.make()
            items = self.encoded(data, data.train, train=True)
            order = Order(len(data.train), batch_size=4, seed=0)
            sampler = StepBatches(order, accumulate=1, share=RankShare())
            sampler.cursor = Cursor(start, 5)
            collate = Collate(self.collate(data), items.targets)
            return [collate([items[position] for position in each]) for each in sampler]

        self.same(batches(0)[3:], batches(3), "a batch differs")
