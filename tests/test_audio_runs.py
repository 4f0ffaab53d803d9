"""Runs on sound: trained, stored, killed, evaluated, predicted, exported, moved to another set."""

import numpy as np
import pytest
import torch

import launching
from tlx.config.check import CheckError
from tlx.config.compose import compose
from tlx.execution import execute
from tlx.execution.finished import load
from tlx.use.evaluate import evaluate
from tlx.use.export import export
from tlx.use.predict import Predictor

soundfile = pytest.importorskip("soundfile")
TRAINER = [
    *("trainer=cpu", "trainer.epochs=null", "trainer.steps=8", "trainer.batch_size=16"),
    *("trainer.eval_every_steps=8", "trainer.checkpoint_every_steps=2", "logger=[csv]"),
    *("optimizer.lr=0.003", "augmentation=[]", "final_weights=last"),
]
VOWELS = ["dataset=vowels", "dataset.utterances=1"]
RECURRENT = ["backbone=acoustic_model", "backbone.width=6", "backbone.layers=3"]
SPECTROGRAM = [
    *("backbone=timm_audio", "backbone.name=test_resnet", "backbone.init=none"),
    *("backbone.bands=32", "backbone.seconds=0.4"),
]
SIZES = (
    "{hidden_size:16,num_hidden_layers:3,num_attention_heads:2,intermediate_size:24,"
    "conv_dim:[8,8],conv_kernel:[10,8],conv_stride:[5,4],num_feat_extract_layers:2,"
    "num_conv_pos_embeddings:4,num_conv_pos_embedding_groups:2%s}"
)
WAVES = [
    *("backbone=audio_transformers", "backbone.name=wav2vec2", "backbone.init=none"),
    *("backbone.seconds=0.2", f"backbone.kwargs={SIZES % ''}"),
]
LAYERED = SIZES % ",feat_extract_norm:layer,do_stable_layer_norm:true"
# without dropout, whose draws depend on how far a batch is padded
OF_LENGTHS = [
    *(*WAVES[:3], "backbone.seconds=null", f"backbone.kwargs={LAYERED}", "backbone.dropout=0")
]


def run(runs_dir, *more, data=VOWELS):
    config = compose([*data, *TRAINER, *more, f"runs_dir={runs_dir}"])
    done = execute.run(config)
    return runs_dir / done.run, done


@pytest.mark.parametrize(
    ("network", "strategy", "boundary"),
    [
        (RECURRENT, "linear_probe", "backbone"),
        (RECURRENT, "last_k", "backbone.layers.1"),
        (SPECTROGRAM, "last_k", "backbone.layer3"),
        (WAVES, "last_k", "backbone.model.encoder.layers.1"),
        (OF_LENGTHS, "last_k", "backbone.model.encoder.layers.1"),
    ],
)
def test_stored_activations_give_what_computed_ones_give(tmp_path, network, strategy, boundary):
    # SGD: of a gradient that is rounding alone, as that of a bias of keys, Adam makes a full step
    own = [*network, f"freeze_strategy={strategy}", "optimizer=sgd", "optimizer.lr=0.1"]
    own += ["freeze_strategy.k=1"] if strategy == "last_k" else []
    plain, _ = run(tmp_path / "plain", *own, "cache=off")
    stored, done = run(tmp_path / "stored", *own, "cache=auto")
    assert done.stages[0].boundary.startswith(boundary)
    assert done.stages[0].computed
    one, two = launching.weights(plain), launching.weights(stored)
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


@pytest.mark.parametrize("strategy", ["lp_ft", "gradual", "discriminative"])
def test_strategies_train_what_they_say(tmp_path, strategy):
    _, done = run(tmp_path, *RECURRENT, f"freeze_strategy={strategy}", "trainer.steps=16")
    assert done.status == "finished"
    assert len(done.stages) == {"lp_ft": 2, "gradual": 4, "discriminative": 1}[strategy]


def test_it_goes_on_after_a_kill_to_the_same_weights(tmp_path):
    own = [*VOWELS, *TRAINER, *RECURRENT, "augmentation=[gain,noise,spec_augment]"]
    calm, killed = launching.calm_and_killed(own, tmp_path, before=6)
    one, two = launching.weights(calm), launching.weights(killed)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A folder of two words by three speakers, in three formats."""
    root = tmp_path_factory.mktemp("words")
    random = np.random.default_rng(0)
    for label, hertz in (("low", 200), ("high", 900)):
        for place in range(12):
            seconds = random.uniform(0.2, 0.4)
            time = np.arange(int(16000 * seconds)) / 16000
            wave = 0.3 * np.sin(2 * np.pi * hertz * random.uniform(0.8, 1.2) * time)
            wave += 0.01 * random.standard_normal(len(time))
            ending = ("wav", "flac", "ogg")[place % 3]
            path = root / label / f"s{place % 4}_{place}.{ending}"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, wave, 16000)
    return root


def test_a_folder_of_ones_own_is_trained_evaluated_and_predicted(tmp_path, words):
    pattern = r'dataset.group_pattern="/(s\d)_"'
    data = ["dataset=audio_folder", f"dataset.root={words}", pattern]
    folder, done = run(tmp_path / "runs", *RECURRENT, "freeze_strategy=full", data=data)
    groups = done.notes["groups"]
    assert groups["train"] + groups["val"] + groups["test"] == 4
    report = evaluate(folder, overrides=[])
    told = done.splits["test"].metrics["accuracy"].value
    assert report["test"]["metrics"]["accuracy"]["value"] == told
    rows = Predictor(folder).predict([str(words / "low")])
    assert len(rows) == 12
    assert all(row["prediction"] in ("low", "high") for row in rows)
    assert all(0.2 <= float(row["seconds"]) <= 0.4 for row in rows)
    (tmp_path / "no.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"no\.wav: cannot be decoded"):
        Predictor(folder).predict([str(tmp_path / "no.wav")])


def test_a_table_of_paths_speakers_and_labels(tmp_path, words):
    lines = ["path,label,speaker"] + [
        f"{path.relative_to(words)},{path.parent.name},{path.name[:2]}"
        for path in sorted(words.rglob("*.*"))
        if path.suffix != ".csv"
    ]
    table = words / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    data = [*("dataset=audio_csv", f"dataset.path={table}", "dataset.group_column=speaker")]
    _, done = run(tmp_path, *SPECTROGRAM, "freeze_strategy=full", data=data)
    assert done.notes["groups"]["test"] == 1


def test_an_acoustic_model_moves_to_another_corpus(tmp_path, words):
    _, first = run(tmp_path, *RECURRENT, "freeze_strategy=scratch")
    data = ["dataset=audio_folder", f"dataset.root={words}"]
    more = [f"backbone.init=run:{first.run}", "freeze_strategy=linear_probe"]
    folder, _ = run(tmp_path, *RECURRENT, *more, data=data)
    one, two = launching.weights(tmp_path / first.run), launching.weights(folder)
    trunk = [name for name in two if name.startswith("backbone.")]
    assert trunk
    assert all(torch.equal(one[name], two[name]) for name in trunk)


def test_a_finished_run_is_exported_for_its_own_code(tmp_path, monkeypatch):
    folder, _ = run(tmp_path / "runs", *RECURRENT, "freeze_strategy=full")
    export(folder, into=tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path / "out")
    inputs = {"sound": torch.randn(2, 9, 39), "real": torch.ones(2, 9, dtype=torch.bool)}
    names = {"inputs": inputs}
    exec(readme.split("```python\n")[1].split("```")[0], names)
    _, made = load(folder)
    assert torch.equal(names["outputs"], made.network(inputs))


def test_what_does_not_fit_is_refused_before_anything_starts():
    with pytest.raises(CheckError, match="reads images, and the data is recordings"):
        compose([*VOWELS, "backbone=resnet18"])
    with pytest.raises(CheckError, match="is for images, and the data is recordings"):
        compose([*VOWELS, *RECURRENT, "augmentation=[randaugment]"])
