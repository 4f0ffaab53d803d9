"""A short run on each source of texts, from the command's words to the record."""

import csv
import json
import math

import pytest

from tlx.config.check import check
from tlx.config.compose import compose
from tlx.execution import execute, runs
from tlx.report.views import samples
from tlx.use.evaluate import evaluate
from tlx.use.predict import Predictor

BASE = [
    *("trainer=cpu", "trainer.epochs=null", "trainer.steps=3", "trainer.batch_size=8"),
    *("trainer.eval_every_steps=3", "final_weights=last"),
]
SMALL_LM = [
    *("backbone=char_lm", "backbone.embedding=8", "backbone.width=8", "backbone.layers=1"),
    *("task.block=16", "dataset.length_buckets=false"),
]
SMALL_BERT = [
    *("backbone=transformers", "backbone.name=bert", "backbone.init=none"),
    "backbone.kwargs={hidden_size:16,num_hidden_layers:1,num_attention_heads:2,"
    "intermediate_size:32,max_position_embeddings:128}",
]


@pytest.fixture
def files(tmp_path):
    rows = [(f"number {i} 是{'好坏'[i % 2]}的", "ab"[i % 2]) for i in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *map(",".join, rows)]), "utf-8")
    (tmp_path / "a.txt").write_text("\n".join(text for text, _ in rows), "utf-8")
    for i, (text, label) in enumerate(rows):
        (tmp_path / "tree" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / label / f"{i}.txt").write_text(text, "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "metric"),
    [
        (["dataset=text_csv", "dataset.path={files}/a.csv", "backbone=tfidf"], "accuracy"),
        (["dataset=text_folder", "dataset.root={files}/tree", *SMALL_BERT], "accuracy"),
        (["dataset=text_lines", "dataset.path={files}/a.txt", *SMALL_LM], "bits_per_character"),
        (["dataset=text_file", "dataset.path={files}/a.txt", *SMALL_LM], "bits_per_character"),
        (["dataset=stdlib_docs", "backbone=tfidf"], "accuracy"),
        (
            [
                *("dataset=stdlib_docs", "dataset.about=tags", "task=token_classification"),
                *("dataset.fraction=0.05", *SMALL_BERT),
            ],
            "f1",
        ),
        (
            [
                *("dataset=stdlib_docs", "dataset.about=language", "dataset.of=topic"),
                *("task=language_modeling", "+dataset.fraction=0.02", *SMALL_LM),
                "task.block=256",  # else 20,000 blocks to test on
            ],
            "bits_per_character",
        ),
        (
            [
                *("dataset=text_lines", "dataset.path={files}/a.txt", *SMALL_BERT),
                *("task=masked_language_modeling", "task.block=16"),
            ],
            "perplexity",
        ),
    ],
    ids=lambda value: (
        value[0] + "".join(w[14:] for w in value if "about" in w) if isinstance(value, list) else ""
    ),
)
def test_a_run(files, words, metric):
    given = [word.format(files=files) if "{files}" in word else word for word in words]
    config = compose([*BASE, *given, f"runs_dir={files / 'runs'}"])
    assert check(config) == []
    found = execute.run(config)
    assert found.status == "finished"
    for split in ("val", "test"):
        assert found.splits[split].n
        assert math.isfinite(found.splits[split].metrics[metric].value)
    written = samples.read_samples(files / "runs" / found.run / "predictions")
    assert bool(written) == (metric == "bits_per_character")


def test_a_run_again_writes_the_same_samples(files):
    data = ["dataset=text_lines", f"dataset.path={files}/a.txt"]
    found = []
    for name in ("once", "again"):
        config = compose([*BASE, *data, *SMALL_LM, f"runs_dir={files / name}"])
        folder = files / name / execute.run(config).run / "predictions"
        found.append((folder / samples.SAMPLES).read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["tfidf", "bert"])
def test_prediction_of_texts_is_that_of_the_run(files, kind):
    network = ["backbone=tfidf"] if kind == "tfidf" else SMALL_BERT
    data = ["dataset=text_csv", f"dataset.path={files}/a.csv"]
    config = compose([*BASE, *data, *network, f"runs_dir={files / 'runs'}"])
    folder = files / "runs" / execute.run(config).run
    with open(folder / "predictions" / "test.csv", encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    lines = (files / "a.csv").read_text("utf-8").splitlines()
    texts = [lines[int(row["id"].rpartition(":")[2]) - 1].rpartition(",")[0] for row in told]
    (files / "some.txt").write_text(f"\ufeff{texts[0]}\n\n {texts[1]}\u2028\n", "utf-8")
    assert [row["text"] for row in told] == texts
    found = Predictor(folder).predict([files / "some.txt", *texts[2:]], batch_size=3)
    assert found[1]["path"] == f"{files / 'some.txt'}:3"
    whole = Predictor(folder).predict([files / "a.csv"])
    assert [row["path"] for row in whole] == [f"{files / 'a.csv'}:{i}" for i in range(2, 42)]
    assert {row["text"]: row["prediction"] for row in told}.items() <= {
        row["text"]: row["prediction"] for row in whole
    }.items()
    assert [row["prediction"] for row in found] == [row["prediction"] for row in told]
    for mine, theirs in zip(found, told, strict=True):
        assert mine["probabilities"] == pytest.approx(json.loads(theirs["probabilities"]), abs=1e-5)
    with pytest.raises(ValueError, match="text 2 is empty"):
        Predictor(folder).predict([texts[0], ""])
    with pytest.raises(FileNotFoundError, match=r"missing\.txt does not exist"):
        Predictor(folder).predict([str(files / "missing.txt")])
    assert len(Predictor(folder).predict(["a fine and lovely text " * 20])) == 1
    pairs = [f"dataset.path={files}/a.csv", "dataset.pair_column=label"]
    with pytest.raises(runs.RunError, match="has pairs, and the run was trained on single texts"):
        evaluate(folder, overrides=pairs)
    other = ["dataset=text_csv", f"dataset.path={files}/a.csv"]
    assert evaluate(folder, overrides=other).keys() == {"val", "test"}
    (files / "one.csv").write_text("\n".join(lines[:1] + lines[1:3]) + "\n", "utf-8")
    two = evaluate(folder, overrides=[f"dataset.path={files}/one.csv"])
    assert {name: report["n"] for name, report in two.items()} == {"test": 2}
