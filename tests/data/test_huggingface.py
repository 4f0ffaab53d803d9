"""Datasets of Hugging Face, saved to a folder; nothing is downloaded."""

import importlib.util
import io
import sys

import numpy as np
import pytest
from PIL import Image

from tlx.data.images.huggingface import huggingface

HERE = importlib.util.find_spec("datasets") is not None
needed = pytest.mark.skipif(not HERE, reason="datasets is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def table(n, start=0, *, label=None, feature=None):
    import datasets

    label = label or (lambda i: i % 2)
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": feature or datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    columns = {
        "image": [picture(start + i) for i in range(n)],
        "label": [label(i) for i in range(n)],
    }
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture
def saved(tmp_path):
    def save(**splits):
        import datasets

        made = datasets.DatasetDict(splits) if len(splits) > 1 else next(iter(splits.values()))
        made.save_to_disk(str(tmp_path / "saved"))
        return str(tmp_path / "saved")

    return save


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install datasets"):
        huggingface(path="owner/name")


@needed
def test_splits_are_found(saved):
    path = saved(train=table(20), validation=table(6, 100), test=table(8, 200))
    made = huggingface(path=path)
    assert (len(made.train), len(made.val), len(made.test)) == (20, 6, 8)
    assert made.labels.names == ("cat", "dog")
    assert list(made.train.targets[:3]) == [0, 1, 0]
    sample = made.val[2]
    assert sample["id"] == f"{path}/val/000002"
    expected = np.asarray(Image.open(io.BytesIO(picture(102)["bytes"])))
    assert (np.asarray(sample["input"]) == expected).all()


@needed
def test_an_undivided_set_is_divided(saved):
    made = huggingface(path=saved(train=table(40)), labels_per_class=3)
    assert (len(made.train), len(made.val), len(made.test)) == (6, 6, 8)
    assert huggingface(path=made.train.ids[0].rpartition("/train/")[0]).notes["looked_at"]


@needed
def test_the_fingerprint_follows_pixels(saved):
    first = huggingface(path=saved(train=table(40))).fingerprint
    assert huggingface(path=saved(train=table(40))).fingerprint == first
    assert huggingface(path=saved(train=table(40, 1))).fingerprint != first


@needed
def test_kinds_of_labels(saved):
    import datasets

    text = huggingface(
        path=saved(train=table(20, label=lambda i: "ba"[i % 2], feature=datasets.Value("string")))
    )
    assert text.labels.names == ("a", "b")
    real = huggingface(
        path=saved(train=table(20, label=lambda i: i / 2, feature=datasets.Value("float32")))
    )
    assert real.labels.kind == "real"
    several = datasets.Sequence(datasets.ClassLabel(names=["x", "y", "z"]))
    multi = huggingface(path=saved(train=table(20, label=lambda i: [0, 2], feature=several)))
    assert multi.labels.kind == "multi"
    assert tuple(multi.train.targets[0]) == (1.0, 0.0, 1.0)


@needed
def test_bad_images_and_wrong_names_are_named(saved):
    import datasets

    path = saved(train=table(20), test=table(8, 100))
    with pytest.raises(ValueError, match=r"image_column='img' is no column.*'image'"):
        huggingface(path=path, image_column="img")
    with pytest.raises(ValueError, match="holds no images"):
        huggingface(path=path, image_column="label", label_column="image")
    with pytest.raises(ValueError, match=r"val='dev' is no split of .*train, test"):
        huggingface(path=path, val="dev")
    broken = datasets.Dataset.from_dict(
        {"image": [{"bytes": b"text", "path": None}] * 9, "label": [0] * 9},
        features=table(1).features,
    )
    with pytest.raises(ValueError, match="9 images cannot be used"):
        huggingface(path=saved(train=broken))
