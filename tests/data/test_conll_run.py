"""An augmented run on files of columns: its predictions give the figures of its record."""

import random
import warnings

import pytest

from tlx.config.check import check
from tlx.config.compose import compose
from tlx.config.identity import normalise, run_id
from tlx.data.text import columns
from tlx.data.text.columns import Format
from tlx.execution import execute
from tlx.methods import tags
from tlx.methods.entities import Entity

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from seqeval.metrics import f1_score, precision_score, recall_score

BASE = [
    *("dataset=conll", "backbone=transformers", "backbone.name=bert", "backbone.init=none"),
    "backbone.kwargs={hidden_size:16,num_hidden_layers:1,num_attention_heads:2,"
    "intermediate_size:32,max_position_embeddings:64}",
    *("backbone.vocabulary_size=200", "backbone.max_length=10", "trainer=cpu"),
    *("trainer.epochs=null", "trainer.steps=60", "trainer.batch_size=8", "optimizer.lr=0.02"),
    *("trainer.eval_every_steps=30", "final_weights=last"),
    "augmentation=[word_dropout,token_cutoff]",
]


def made(draw, count):
    """Sentences in which the word tells the tag, mostly."""
    for _ in range(count):
        words, found = [], []
        while len(words) < draw.randint(2, 14):
            kind = draw.choice(("", "", "loc", "per"))
            if kind:
                found.append(Entity(kind, len(words), len(words) + 2))
                words += [f"{kind}a", f"{kind}b"]
            else:
                words.append(draw.choice(("of", "is", "loca", "a b")))
        yield words, tags.written(found, words=len(words), scheme="bioes")


@pytest.fixture
def corpus(tmp_path):
    draw = random.Random(0)
    for name, count in (("train", 60), ("dev", 20), ("test", 20), ("late", 10)):
        lines = (
            "".join(f"{word}\t{tag}\n" for word, tag in zip(*sentence, strict=True))
            for sentence in made(draw, count)
        )
        (tmp_path / f"{name}.conll").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_predictions_give_the_figures_of_the_record(corpus):
    config = compose(
        [
            *BASE,
            *(f"dataset.root={corpus}", "dataset.separator=tab", f"runs_dir={corpus / 'runs'}"),
            "+dataset.extra={late: late.conll}",
        ]
    )
    assert check(config) == []
    found = execute.run(config)
    folder = corpus / "runs" / run_id(normalise(config)) / "predictions"
    for split in ("test", "late"):
        path = folder / f"{split}.conll"
        form = Format(separator="blank")
        given = columns.read(corpus / f"{split}.conll", Format(separator="tab")).sentences
        truth = columns.read(path, Format(tag_column=1, separator="blank")).sentences
        mine = columns.read(path, form).sentences
        assert [s.words for s in truth] == [[w.replace(" ", "_") for w in s.words] for s in given]
        names = [[list(s.tags) for s in held] for held in (truth, mine)]
        assert names[0] == [tags.converted(s.tags, scheme="bioes", to="iob2") for s in given]
        values = found.splits[split].metrics
        assert 0 < values["f1"].value < 1
        for name, figure in (
            ("f1", f1_score),
            ("precision", precision_score),
            ("recall", recall_score),
        ):
            assert values[name].value == pytest.approx(figure(*names))
