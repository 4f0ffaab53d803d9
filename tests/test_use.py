"""Using a run: what becomes of damaged or missing weights, of other data, of a missing network."""

import http.server
import json
import shutil
import socket
import threading
import time

import numpy as np
import pytest
import timm as timm_lib
import torch
from PIL import Image
from safetensors.torch import save_file

from tlx import cli
from tlx.backbones.timm.networks import timm
from tlx.backbones.weights import files as weights
from tlx.execution import finished, runs
from tlx.results import record
from tlx.use.evaluate import evaluate
from tlx.use.export import export
from tlx.use.predict import Predictor

SMALL = [
    *("dataset=image_folder", "dataset.labels_per_class=6", "dataset.val_fraction=0.3"),
    *("backbone=timm", "backbone.name=test_resnet", "backbone.init=none", "backbone.image_size=32"),
    *("trainer=cpu", "trainer.epochs=null", "trainer.steps=4", "trainer.batch_size=8"),
    *("trainer.eval_every_steps=2", "trainer.workers=0", "logger=[csv]", "keep=checkpoints"),
]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def photos(root, *, classes=("cat", "dog"), n, seed=0):
    """Images of noise, n a class, divided by nobody."""
    draw = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(n):
            pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run; nobody may change it."""
    torch.set_num_threads(1)
    root = photos(tmp_path_factory.mktemp("photos") / "own", n=20)
    runs_dir = tmp_path_factory.mktemp("trained")
    assert cli.main(["train", *SMALL, f"dataset.root={root}", f"runs_dir={runs_dir}"]) == 0
    (folder,) = [path.parent for path in runs_dir.glob("*/record.json")]
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the finished run that a test may spoil."""
    folder = tmp_path / "runs" / trained.name
    shutil.copytree(trained, folder)
    keep(folder, "checkpoints")
    return folder


def keep(folder, value):
    changes = {"runs_dir": str(folder.parent), "keep": value}
    runs.write_config(folder, {**runs.read_config(folder), **changes})


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_facts(path):
    save_file({"x": torch.zeros(1)}, path)


def empty(path):
    path.write_bytes(b"")


# -- what is stated beside the starting weights -----------------------------------------------


def test_images_are_normalised_as_in_training_once_the_starting_weights_are_gone(tmp_path, capsys):
    start = tmp_path / "start"
    start.mkdir()
    state = timm_lib.create_model("test_efficientnet", num_classes=2).state_dict()
    save_file(state, start / "net.safetensors")
    stated = {"mean": [0.1, 0.2, 0.3], "std": [0.6, 0.7, 0.8]}
    arguments = {"model_args": {"pad_type": "same"}, "pretrained_cfg": stated}
    (start / "config.json").write_text(
        json.dumps({"architecture": "test_efficientnet", **arguments})
    )
    own = ["backbone.name=test_efficientnet", f"backbone.init={start / 'net.safetensors'}"]
    own += [f"dataset.root={photos(tmp_path / 'photos', n=20)}", f"runs_dir={tmp_path / 'runs'}"]
    assert cli.main(["train", *SMALL, *own]) == 0
    assert f"mean 0.1, 0.2, 0.3; std 0.6, 0.7, 0.8 (of {start}" in capsys.readouterr().out
    shutil.rmtree(start)
    (folder,) = [path.parent for path in (tmp_path / "runs").glob("*/record.json")]
    (row,) = Predictor(folder).predict([tmp_path / "photos" / "cat" / "00.png"])
    out = tmp_path / "out"
    assert export(folder, into=out)
    plain = timm_lib.create_model(f"local-dir:{out}", pretrained=True).eval()
    data = timm_lib.data.resolve_model_data_config(plain)
    assert {key: list(data[key]) for key in stated} == stated
    transform = timm_lib.data.create_transform(**data, is_training=False)
    image = Image.open(tmp_path / "photos" / "cat" / "00.png")
    with torch.no_grad():
        expected = plain(transform(image)[None]).softmax(-1)[0]
    given = [row["probabilities"][name] for name in ("cat", "dog")]
    torch.testing.assert_close(torch.tensor(given), expected, rtol=0, atol=1e-5)


# -- weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "export", "predict"])
@pytest.mark.parametrize("damage", [cut_off, empty, without_facts])
def test_damaged_weights_are_named_with_the_way_out(copied, capsys, command, damage):
    damage(copied / runs.WEIGHTS)
    more = [str(copied)] if command == "predict" else []
    assert cli.main([command, str(copied), *more]) == 2
    said = capsys.readouterr().err
    assert str(copied / runs.WEIGHTS) in said
    assert "--force" in said
    assert "checkpoint" in said


def test_the_last_checkpoint_gives_the_weights_again(copied, monkeypatch):
    before = finished.load(copied)[1].network.state_dict()
    cut_off(copied / runs.WEIGHTS)
    (copied / "record.json").rename(copied.parent / "record.json")
    given = (copied / "overrides.txt").read_text().splitlines()
    assert cli.main(["train", *given, f"runs_dir={copied.parent}"]) == 0
    after = finished.load(copied)[1].network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("kept", "says", "advises"),
    [
        ("record", "keep=record removes it", "--force keep=weights"),
        ("weights", "it was deleted", "--force`"),
    ],
)
def test_weights_that_are_gone_of_a_finished_run(copied, kept, says, advises):
    keep(copied, kept)
    (copied / runs.WEIGHTS).unlink()
    shutil.rmtree(copied / "checkpoints")
    with pytest.raises(runs.RunError) as error:
        finished.load(copied)
    assert says in str(error.value)
    assert advises in str(error.value)
    assert "checkpoint" not in str(error.value)


def test_weights_that_are_not_there_yet(copied):
    (copied / runs.WEIGHTS).unlink()
    (copied / "record.json").unlink()
    with pytest.raises(runs.RunError, match="let it finish first"):
        finished.load(copied)


# -- other data -------------------------------------------------------------------------------


def test_other_data_is_evaluated_whole_though_it_is_small(trained, tmp_path):
    root = photos(tmp_path / "other", n=10, seed=1)
    found = evaluate(trained, overrides=[f"dataset.root={root}"])
    whole = evaluate(trained, overrides=["dataset=image_folder", f"dataset.root={root}"])
    assert found["test"]["n"] == whole["test"]["n"] == 20
    assert found.keys() == {"test"}
    limited = [f"dataset.root={root}", "dataset.labels_per_class=1"]
    assert evaluate(trained, overrides=limited)["val"]["n"] == 2


def test_other_classes_are_what_is_complained_of(trained, tmp_path):
    root = photos(tmp_path / "other", classes=("ant", "bee"), n=8)
    with pytest.raises(runs.RunError, match="same classes"):
        evaluate(trained, overrides=[f"dataset.root={root}"])


def test_data_of_one_class_and_of_new_ones(trained, tmp_path, caplog):
    root = photos(tmp_path / "dogs", classes=("dog",), n=5, seed=3)
    found = evaluate(trained, overrides=[f"dataset.root={root}"])
    assert [row["support"] for row in found["test"]["per_class"]] == [0, 5]
    assert "no item of 'cat'" in caplog.text
    photos(tmp_path / "dogs2", classes=("dog", "emu"), n=2)
    with pytest.raises(runs.RunError, match=r"not trained on: 'emu' \(2\)"):
        evaluate(trained, overrides=[f"dataset.root={tmp_path / 'dogs2'}"])


def test_a_copy_of_the_runs_own_data_is_divided_as_it_was(trained, tmp_path, caplog):
    copy = shutil.copytree(runs.read_config(trained)["dataset"]["root"], tmp_path / "copy")
    found = evaluate(trained, overrides=[f"dataset.root={copy}"])
    kept = record.read(trained).splits
    assert {name: each["n"] for name, each in found.items()} == {n: kept[n].n for n in found}
    assert "the data that" in caplog.text
    caplog.clear()
    evaluate(trained, overrides=["dataset.split_seed=1"])
    assert "may have been trained on" in caplog.text


def test_the_runs_own_data_stays_limited(trained, tmp_path):
    """Else its validation would hold what it was trained on."""
    own = runs.read_config(trained)["dataset"]["root"]
    n = record.read(trained).splits["test"].n
    shifted = photos(tmp_path / "shifted", n=3, seed=2)
    for overrides in (
        [f"dataset.extra.shifted={shifted}"],
        [f"dataset.root={own}/../own"],
        ["dataset=image_folder", f"dataset.root={own}"],
    ):
        found = evaluate(trained, overrides=overrides)
        assert found["val"]["n"] == 12
        assert found["test"]["n"] == n


# -- the hub ----------------------------------------------------------------------------------


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A hub that takes no connection, and an empty cache; gives the cache."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        for key in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.delenv(key, raising=False)
            monkeypatch.delenv(key.lower(), raising=False)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield tmp_path / "cache"


def test_without_network_nothing_is_asked_for_again_and_again(nobody):
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=r"no connection to http.*backbone\.init=none"):
        timm(name="test_resnet.r160_in1k", init="hub")
    assert time.monotonic() - begun < weights.HUB_TIMEOUT_S
    assert not weights.hub.HF_HUB_OFFLINE


def test_cached_weights_need_no_network(nobody):
    state = timm_lib.create_model("test_resnet").state_dict()
    repo = nobody / "models--timm--test_resnet.r160_in1k"
    for folder in ("refs", "snapshots/abc"):
        (repo / folder).mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    save_file(state, repo / "snapshots" / "abc" / "model.safetensors")
    made = timm(name="test_resnet.r160_in1k", init="hub").module.state_dict()
    assert all(torch.equal(made[name], state[name]) for name in made)


def test_a_mirror_is_asked(nobody, monkeypatch):
    asked = []

    class Mirror(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/hub"
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        with pytest.raises(RuntimeError, match="LocalEntryNotFoundError"):
            timm(name="test_resnet.r160_in1k", init="hub")
        server.shutdown()
    assert asked
    assert all(path.startswith("/hub/timm/test_resnet") for path in asked)


def test_a_hub_behind_a_proxy_counts_as_there(nobody, monkeypatch):
    assert not weights.hub_answers(weights.hub.ENDPOINT, timeout_s=5)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert weights.hub_answers(weights.hub.ENDPOINT, timeout_s=5)
