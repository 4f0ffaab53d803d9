"""Mixup of features before the head: by direct computation, from the store, for texts."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import launching
import tiny
from texts import alternating
from tlx.backbones.backbone import Features
from tlx.building import plans
from tlx.building.calls import regularization
from tlx.building.rehearsals import rehearse
from tlx.config.check import CheckError
from tlx.config.compose import compose
from tlx.config.run import typed
from tlx.data.feature_augment import feature_mixup
from tlx.data.splits import Labels
from tlx.execution import execute
from tlx.fused.members import CannotFuse, check_recipe
from tlx.methods.mixing import drawn_ratio
from tlx.methods.order import step_seed
from tlx.methods.schedules import constant
from tlx.methods.stages import layout_of
from tlx.tasks.classification import classification
from tlx.tasks.task import Network
from tlx.training.engine.module import Recipe, TransferModule

IMAGES = [
    *("dataset=digits", "dataset.labels_per_class=6", "backbone=timm", "backbone.init=none"),
    *("backbone.name=test_resnet", "backbone.image_size=32", "frozen.norm_stats=freeze"),
    *("trainer.batch_size=16", "trainer.eval_every_steps=8", "trainer.steps=24"),
    *("optimizer=sgd", "optimizer.lr=0.05"),
]
SIZES = (
    ",".join(f"{key}:{value}" for key, value in tiny.ALL["bert"].items()) + ",initializer_range:0.5"
)
TEXTS = [
    *("trainer.batch_size=8", "trainer.eval_every_steps=4", "trainer.steps=8", "optimizer=sgd"),
    *("backbone=transformers", "backbone.name=bert", f"backbone.kwargs={{{SIZES}}}"),
    *("backbone.init=none", "backbone.dropout=0", "optimizer.lr=0.05"),
]
ALWAYS = ["trainer=cpu", "trainer.epochs=null", "final_weights=last", "logger=[csv]"]
MIXED = "augmentation=[feature_mixup]"


class Head(nn.Module):
    """Linear, on pooled features."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, features):
        return self.linear(features.pooled)


def test_the_loss_is_that_of_both_targets_on_blended_features():
    torch.manual_seed(0)
    network = Network(nn.Linear(4, 5), Head(), lambda module, x: Features(pooled=module(x)))
    names = [name for name, _ in network.named_parameters()]
    recipe = Recipe(
        network=network,
        task=classification(Labels("single", ("a", "b", "c"))),
        layout=layout_of({"all": names[:2], "head": names[2:]}),
        optimizer=lambda groups: torch.optim.SGD(groups),
        schedule=constant(),
        lr=0.1,
        seed=7,
        feature_mixing=(feature_mixup(alpha=1.0),),
    )
    module = TransferModule(recipe, total_steps=1)
    module.set_lr = lambda: None
    batch = {"input": torch.randn(6, 4), "target": torch.tensor([0, 1, 2, 0, 1, 2])}
    found = module.training_step(batch, 0)
    generator = torch.Generator().manual_seed(step_seed(7, 0, 0))
    ratio = drawn_ratio(1.0, generator)
    partners = torch.randperm(6, generator=generator)
    assert 0.05 < ratio < 0.95
    assert not torch.equal(partners, torch.arange(6))
    features = network.backbone(batch["input"])
    outputs = network.head.linear(ratio * features + (1 - ratio) * features[partners])
    own, other = (F.cross_entropy(outputs, batch["target"][i]) for i in (slice(None), partners))
    expected = ratio * own + (1 - ratio) * other
    torch.testing.assert_close(found, expected)
    (mine,) = torch.autograd.grad(found, network.backbone.weight)
    (theirs,) = torch.autograd.grad(expected, network.backbone.weight)
    torch.testing.assert_close(mine, theirs)


def run(folder, *overrides):
    config = compose([*ALWAYS, *overrides, f"runs_dir={folder}"])
    done = execute.run(config)
    return launching.weights(folder / done.run), done


@pytest.fixture
def texts(tmp_path):
    """Overrides for short texts of two classes, of several lengths."""
    lines = [f"the {['good', 'bad'][i % 2]} cat sat{' there' * (i % 5)}" for i in range(60)]
    return [*alternating(tmp_path, lines), *TEXTS]


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        ("texts", "last_k"),
        pytest.param("texts", "linear_probe", marks=pytest.mark.slow),
        pytest.param("images", "last_k", marks=pytest.mark.slow),
        pytest.param("images", "linear_probe", marks=pytest.mark.slow),
    ],
)
def test_mixing_of_stored_features_equals_that_of_computed_ones(kind, strategy, texts, tmp_path):
    own = [*(IMAGES if kind == "images" else texts), f"freeze_strategy={strategy}"]
    plain, without = run(tmp_path / "plain", *own, MIXED, "cache=off")
    stored, with_ = run(tmp_path / "stored", *own, MIXED)
    unmixed, _ = run(tmp_path / "stored", *own)
    assert with_.cached
    assert not without.cached
    for name, tensor in plain.items():
        torch.testing.assert_close(tensor, stored[name], rtol=0, atol=1e-4, msg=name)
    head = "head.linear.weight"
    assert (unmixed[head] - stored[head]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["regularization=[r_drop]"], "r_drop and augmentation.feature_mixup do not go together"),
        (["task=token_classification", "dataset=conll"], "one vector a word: leave it out"),
        (
            ["task=masked_language_modeling", "dataset=text_lines"],
            "one vector a token: leave it out",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused(more, message, tmp_path):
    config = compose([*ALWAYS, *TEXTS, "dataset=text_csv", MIXED, *more], check=False)
    config["dataset"] = {**config["dataset"], "path": "texts.tsv"}
    with pytest.raises(ValueError, match=message):
        rehearse(typed(config), regularization(typed(config)))


def test_images_cannot_be_mixed_as_texts_but_features_can(texts):
    with pytest.raises(CheckError, match=r"augmentation\.mixup: is for images"):
        compose([*ALWAYS, *texts, "augmentation=[mixup]"])
    compose([*ALWAYS, *texts, MIXED])


def test_a_stack_mixes_nothing(tmp_path):
    words = [*IMAGES, "freeze_strategy=linear_probe", f"runs_dir={tmp_path}"]
    check_recipe(plans.plan(typed(compose([*ALWAYS, *words])), init="none"))
    with pytest.raises(CannotFuse, match="feature_mixup mixes features anew"):
        check_recipe(plans.plan(typed(compose([*ALWAYS, *words, MIXED])), init="none"))


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_alpha_is_above_0(alpha):
    with pytest.raises(ValueError, match="give a number above 0"):
        feature_mixup(alpha=alpha)
