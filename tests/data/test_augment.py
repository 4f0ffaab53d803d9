"""Every augmentation option: it builds, gives images of the right size, and hides no generator."""

import pickle
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image

from tlx.building.calls import augmentations
from tlx.config.compose import compose
from tlx.config.places import conf_dir
from tlx.config.run import typed
from tlx.data.augment import IN_STEP, Augmentation
from tlx.data.images import augment
from tlx.data.images.inputs import image_encoder
from tlx.data.images.spec import ImageSpec
from tlx.data.text.inputs import TEXTS
from tlx.data.text.spec import TextSpec

OPTIONS = sorted(
    path.stem
    for path in conf_dir().glob("augmentation/*.yaml")
    if re.search(r"tlx\.data\.(images|feature_augment)\b", path.read_text())
)
SPEC = ImageSpec(
    size=(3, 24, 20),
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.2, 0.2),
    interpolation="bicubic",
    crop_pct=1.0,
)


def picture(width=40, height=30):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def made(option):
    config = compose([f"augmentation=[{option}]"], check=False)
    return augmentations(typed(config))


def run(augmentations, seed, *, train=True, size=(40, 30), **options):
    torch.manual_seed(seed)
    random.seed(seed)
    encode = image_encoder(SPEC, augmentations, train=train, **options)
    return encode({"id": "x", "input": picture(*size), "target": 0})["input"]


def test_there_are_options():
    assert len(OPTIONS) >= 8


@pytest.mark.parametrize("option", OPTIONS)
def test_option_builds_under_its_own_name(option):
    (found,) = made(option)
    assert found.name == option


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", [(40, 30), (8, 8), (1, 1)])
def test_shape_and_range(option, size):
    (found,) = made(option)
    if found.kind in IN_STEP:
        pytest.skip("acts in the training step")
    tensor = run([found], 0, size=size)
    assert tensor.shape == (3, 24, 20)
    assert tensor.dtype == torch.float32
    assert tensor.isfinite().all()


@pytest.mark.parametrize("option", OPTIONS)
def test_draws_come_from_the_global_generators_only(option):
    (found,) = made(option)
    if found.kind in IN_STEP:
        pytest.skip("acts in the training step")
    first = [run([found], seed) for seed in range(12)]
    np.random.seed(5)
    run([found], 99)
    again = [run([found], seed) for seed in range(12)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({a.numpy().tobytes() for a in first}) > 1
    assert not found.deterministic
    copy = pickle.loads(pickle.dumps(found))
    assert torch.equal(run([copy], 3), first[3])


@pytest.mark.parametrize("option", OPTIONS)
def test_evaluation_is_left_alone(option):
    assert torch.equal(run(made(option), 0, train=False), run([], 1, train=False))


def test_all_that_go_together_do():
    names = [name for name in OPTIONS if made(name)[0].kind not in IN_STEP]
    assert run([made(name)[0] for name in names], 0).shape == (3, 24, 20)


def flips_seen(augmentation, **options):
    """Whether some draws mirror, and whether some turn over, a picture that tells them."""
    pixels = np.zeros((24, 20, 3), np.uint8)
    pixels[:12, :10] = 255  # white at the upper left
    encode = image_encoder(SPEC, [augmentation], train=True, **options)
    corners = set()
    for seed in range(40):
        torch.manual_seed(seed)
        tensor = encode({"id": "x", "input": Image.fromarray(pixels), "target": 0})["input"][0]
        parts = (tensor[:12, :10], tensor[:12, 10:], tensor[12:, :10], tensor[12:, 10:])
        corners.add(max(range(4), key=lambda i: float(parts[i].mean())))
    return bool(corners & {1, 3}), bool(corners & {2, 3})


def whole(**options):
    return augment.standard(min_area=1.0, max_area=1.0, **options)


def test_flips_follow_the_data():
    off = {"label_changing": frozenset({"horizontal_flip"})}
    assert flips_seen(whole()) == (True, False)
    assert flips_seen(whole(), **off) == (False, False)
    assert flips_seen(whole(horizontal_flip=True), **off) == (True, False)
    assert flips_seen(whole(horizontal_flip=False)) == (False, False)
    assert flips_seen(whole(vertical_flip=True)) == (True, True)


def test_a_flip_that_is_off_moves_no_other_draw():
    off = {"label_changing": frozenset({"horizontal_flip"})}
    plain, without = (
        [run([augment.standard()], seed, **options) for seed in range(20)] for options in ({}, off)
    )
    same = [torch.equal(a, b) for a, b in zip(plain, without, strict=True)]
    mirrored = [torch.equal(a.flip(-1), b) for a, b in zip(plain, without, strict=True)]
    assert all(s or m for s, m in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_two_geometries_are_refused():
    with pytest.raises(ValueError, match="keep one"):
        image_encoder(SPEC, [augment.standard(), augment.standard()], train=True)


def test_erasing_writes_the_mean():
    tensor = run([augment.random_erasing(p=1.0)], 0)
    changed = tensor != run([], 0)
    assert changed.any()
    assert (tensor[changed] == 0).all()


@pytest.mark.parametrize("option", ["mixup", "cutmix"])
def test_mixing_of_batches(option):
    (found,) = made(option)
    batch = {
        "index": torch.arange(6),
        "input": torch.randn(6, 3, 8, 8),
        "target": torch.eye(6),
    }
    before = {key: value.clone() for key, value in batch.items()}

    def draw(seed):
        return found.make(batch, torch.Generator().manual_seed(seed))

    first, again = draw(0), draw(0)
    for key, value in batch.items():
        assert torch.equal(value, before[key])
        assert first[key].shape == value.shape
        assert torch.equal(first[key], again[key])
    torch.testing.assert_close(first["target"].sum(1), torch.ones(6))
    assert torch.equal(first["index"], batch["index"])


@pytest.mark.parametrize(
    ("function", "wrong", "said"),
    [
        ("standard", {"min_area": 0.0}, "min_area=0.0"),
        ("standard", {"max_stretch": 0.5}, "max_stretch=0.5"),
        ("randaugment", {"magnitude": 40}, "magnitude=40"),
        ("trivialaugment", {"fill": 300}, "fill=300"),
        ("augmix", {"severity": 0}, "severity=0"),
        ("color", {"hue": 0.7}, "hue=0.7"),
        ("random_erasing", {"p": 2.0}, "p=2.0"),
        ("random_erasing", {"value": "black"}, "value='black'"),
        ("mixup", {"alpha": 0.0}, "alpha=0.0"),
        ("cutmix", {"alpha": -1.0}, "alpha=-1.0"),
    ],
)
def test_wrong_arguments_are_named(function, wrong, said):
    with pytest.raises(ValueError, match=said):
        getattr(augment, function)(**wrong)


def test_an_encoder_refuses_what_is_of_another_modality():
    of_texts = Augmentation("word_swap", "tokens", lambda spec: spec)
    of_images = Augmentation("jitter", "sample", lambda image: image)
    message = r"augmentation\.word_swap is none of images \(kind 'tokens'\); leave it out"
    with pytest.raises(ValueError, match=message):
        image_encoder(SPEC, [of_images, of_texts], train=True)
    message = r"augmentation\.jitter is none of texts \(kind 'sample'\); leave it out"
    with pytest.raises(ValueError, match=message):
        TEXTS.encoder(TextSpec("", 1), [of_texts, of_images], train=True)
