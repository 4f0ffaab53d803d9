"""torchvision's sets: FakeData, and made-up files for the ways in which the others differ."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torchvision as vision
from PIL import Image

from tlx.data.images.torchvision import SETS, torchvision

FAKE = {"size": 200, "image_size": (3, 9, 8), "num_classes": 5}


def fake(**arguments):
    return torchvision(name="FakeData", kwargs=FAKE, **arguments)


def test_every_name_is_one_of_torchvisions():
    assert SETS
    assert all(hasattr(vision.datasets, name) for name in SETS)


def test_a_set_without_splits_is_divided():
    made = fake(val_fraction=0.25, test_fraction=0.2)
    assert (len(made.train), len(made.val), len(made.test)) == (120, 40, 40)
    ids = {i for split in (made.train, made.val, made.test) for i in split.ids}
    assert ids == {f"FakeData/train/{i:06d}" for i in range(200)}
    theirs = vision.datasets.FakeData(**FAKE)
    for split in (made.train, made.test):
        sample = split[3]
        image, target = theirs[int(sample["id"].rpartition("/")[2])]
        assert sample["target"] == target
        assert np.asarray(sample["input"]).tolist() == np.asarray(image).tolist()


def test_few_labels_and_fingerprint():
    made = fake(labels_per_class=4)
    assert Counter(made.train.targets) == Counter(made.val.targets) == dict.fromkeys(range(5), 4)
    assert fake(labels_per_class=4).fingerprint == made.fingerprint
    assert fake(labels_per_class=4, seed=1).fingerprint != made.fingerprint
    other = torchvision(name="FakeData", kwargs={**FAKE, "random_offset": 7}, labels_per_class=4)
    assert other.fingerprint != made.fingerprint
    assert made.notes["looked_at"] == {"train": 64}


def test_drop_duplicates_looks_at_every_image():
    made = fake(drop_duplicates=True)
    assert made.notes["looked_at"] == {"train": 200}
    assert made.notes["duplicates_removed"] == []


def test_it_goes_to_workers():
    made = fake(labels_per_class=1)
    again = pickle.loads(pickle.dumps(made))
    assert again.train[0]["input"].tobytes() == made.train[0]["input"].tobytes()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cifar10", "CIFAR10"), ("Flower102", "Flowers102"), ("OxfordPets", "OxfordIIITPet")],
)
def test_the_nearest_name_is_offered(name, meant):
    with pytest.raises(ValueError, match=f"did you mean {meant}"):
        torchvision(name=name)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="takes no 'sise' here; it takes image_size"):
        torchvision(name="FakeData", kwargs={"sise": 3})
    with pytest.raises(ValueError, match="takes no 'train'"):
        torchvision(name="CIFAR10", kwargs={"train": True})


@pytest.mark.parametrize("name", ["CIFAR10", "DTD", "OxfordIIITPet", "EuroSAT", "MNIST"])
def test_missing_files_are_said_to_be_missing(tmp_path, name):
    with pytest.raises(ValueError, match=r"dataset\.download=true"):
        torchvision(name=name, root=str(tmp_path), download=False)


class Parted:
    """Like the sets with splits; `known` are the names that it takes."""

    known = ("train", "val", "test")
    classes = ("a", "b")

    def __init__(self, root, split="train", partition=1, transform=None, download=False):
        if split not in self.known:
            raise ValueError(f"Unknown value '{split}' for argument split. Valid: {self.known}")
        self.seed = 100 * self.known.index(split) + partition
        self._labels = [i % 2 for i in range(40)]

    def __len__(self):
        return 40

    def __getitem__(self, index):
        draw = np.random.default_rng([self.seed, index])
        image = Image.fromarray(draw.integers(0, 256, (4, 4), dtype=np.uint8))
        return image, self._labels[index]


class TrainVal(Parted):
    known = ("trainval", "test")


class NoTest(Parted):
    known = ("train", "val")


class Wrong(Parted):
    def __getitem__(self, index):
        return super().__getitem__(index)[0], 1 - self._labels[index]


class Several(Parted):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._labels = [(0, 1)] * 40


def parted(monkeypatch, made, **arguments):
    monkeypatch.setattr(vision.datasets, "DTD", made)
    return torchvision(name="DTD", **arguments)


def test_splits_are_found_by_their_names(monkeypatch):
    made = parted(monkeypatch, Parted)
    assert (len(made.train), len(made.val), len(made.test)) == (40, 40, 40)
    assert made.labels.names == ("a", "b")
    assert made.val.ids[0] == "DTD/val/000000"
    assert made.train[0]["input"].mode == "RGB"
    assert made.train[0]["input"].tobytes() != made.val[0]["input"].tobytes()
    made = parted(monkeypatch, TrainVal, val_fraction=0.1)
    assert (len(made.train), len(made.val), len(made.test)) == (36, 4, 40)
    made = parted(monkeypatch, NoTest, val_fraction=0.1)
    assert (len(made.train), len(made.val), len(made.test)) == (36, 4, 40)
    assert made.test.ids[0] == "DTD/test/000000"


def test_a_fixed_split_is_divided(monkeypatch):
    made = parted(monkeypatch, Parted, kwargs={"split": "test", "partition": 3}, test_fraction=0.5)
    assert len(made.train) + len(made.val) == len(made.test) == 20


def test_targets_that_do_not_match_the_items_are_not_believed(monkeypatch):
    made = parted(monkeypatch, Wrong)
    assert list(made.train.targets) == [1 - i % 2 for i in range(40)]


def test_several_labels_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="not one class an image"):
        parted(monkeypatch, Several)
