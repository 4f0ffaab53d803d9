"""What a backbone must be: groups that cover it, features of the width it says, a start."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from tlx.backbones.backbone import Backbone, Features
from tlx.backbones.weights.files import save_trunk
from tlx.data.images.spec import ImageSpec
from tlx.testing.contract import Contract, alike, seeded

ITEMS = 3


class BackboneContract(Contract):
    """Of a backbone's function: `make(init="none")` gives it, `init` a file of weights later.

    What reads no images overrides `inputs`.
    """

    def make(self, *, init: str = "none") -> Backbone:
        """The backbone; called with a seed."""
        raise NotImplementedError

    def inputs(self, backbone: Backbone, items: int) -> object:
        """Inputs as the network gets them, of some items; called with a seed."""
        if not isinstance(backbone.reads, ImageSpec):
            raise NotImplementedError("say by inputs() what the network gets")
        return torch.randn(items, *backbone.reads.size)

    def _made(self, *, init: str = "none", seed: int = 0) -> Backbone:
        with seeded(seed):
            return self.make(init=init)

    def _inputs(self, backbone: Backbone) -> object:
        with seeded(1):
            return self.inputs(backbone, ITEMS)

    @staticmethod
    def _features(backbone: Backbone, inputs: object) -> dict[str, Tensor]:
        features: Features = backbone.features(backbone.module, inputs)
        found = {"pooled": features.pooled, "tokens": features.tokens}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def test_its_groups_hold_each_parameter_once(self) -> None:
        """Stem to top, levels ascending: what no group holds could never be frozen."""
        made = self._made()
        names = sorted(name for name, _ in made.module.named_parameters())
        for title, groups in (("groups", made.groups), ("fine_groups", made.fine_groups)):
            with self.subTest(title):
                self.assertEqual(sorted(n for group in groups for n in group.parameters), names)
                levels = [group.level for group in groups]
                self.assertEqual(levels, sorted(levels), "levels go from stem to top")
                self.assertEqual(len({group.name for group in groups}), len(groups))
        self.assertGreaterEqual(made.head_level, max(g.level for g in made.fine_groups))

    def test_what_it_names_is_there(self) -> None:
        """Neck, embeddings, and what takes no weight decay."""
        made = self._made()
        names = {name for name, _ in made.module.named_parameters()}
        for title in ("neck", "embeddings", "no_decay", "adapters"):
            self.assertEqual(sorted(set(getattr(made, title)) - names), [], title)

    def test_features_are_as_wide_as_it_says(self) -> None:
        """Of each kind that `dims` names, with finite values, one row an item."""
        made = self._made()
        made.module.eval()
        found = self._features(made, self._inputs(made))
        self.assertEqual({n: t.shape[-1] for n, t in found.items()}, dict(made.dims))
        for name, tensor in found.items():
            self.assertEqual(len(tensor), ITEMS, name)
            self.assertTrue(bool(tensor.isfinite().all()), f"{name} are not finite")

    def test_an_items_features_are_its_own(self) -> None:
        """In evaluation, whoever else is in the batch: twice the same, and alone too."""
        made = self._made()
        made.module.eval()
        inputs = self._inputs(made)
        with torch.no_grad():
            found, again = self._features(made, inputs), self._features(made, inputs)
            self.same(found, again, "two passes differ, in evaluation")
            if isinstance(inputs, Tensor):
                alone = self._features(made, inputs[1:2])
                for name, tensor in found.items():
                    torch.testing.assert_close(alone[name][0], tensor[1], rtol=1e-4, atol=1e-5)

    def test_every_parameter_is_used(self) -> None:
        """A parameter without a gradient is said to train, and never does."""
        made = self._made()
        made.module.train()
        found = self._features(made, self._inputs(made))
        sum(tensor.float().square().sum() for tensor in found.values()).backward()  # type: ignore[union-attr]
        unused = [name for name, p in made.module.named_parameters() if p.grad is None]
        self.assertEqual(unused, [])

    def test_its_random_weights_are_the_seeds(self) -> None:
        """One seed, one network; another seed, another one."""
        first, again, other = self._made(), self._made(), self._made(seed=1)
        self.same(first.module.state_dict(), again.module.state_dict(), "one seed, two networks")
        self.assertFalse(alike(first.module.state_dict(), other.module.state_dict()))

    def test_it_starts_from_a_file(self) -> None:
        """As the next run does from this one's weights; and says which weights these are."""
        first = self._made()
        with tempfile.TemporaryDirectory(prefix="tlx-contract-") as folder:
            file = Path(folder) / "trunk.safetensors"
            save_trunk(first.module, file, metadata={})
            second = self._made(init=str(file), seed=1)
            self.same(first.module.state_dict(), second.module.state_dict(), "weights differ")
        self.assertEqual(first.weights_id, "none")
        self.assertNotIn(second.weights_id, ("none", ""))

    def test_it_can_be_made_without_memory(self) -> None:
        """On the meta device, where a run's stages are planned before any weights are there."""
        with torch.device("meta"):
            made = self.make(init="none")
        names = [name for name, _ in self._made().module.named_parameters()]
        self.assertEqual([name for name, _ in made.module.named_parameters()], names)
