"""Files of columns: what is read, what is refused and where, and what becomes of the tags."""

import logging
import os
import pickle
import random
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.data.text import columns
from tlx.data.text.columns import Format
from tlx.data.text.conll import conll
from tlx.methods import tags
from tlx.methods.entities import Entity

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from seqeval.metrics.sequence_labeling import get_entities

TRAIN = [
    [("EU", "B-org"), ("rejects", "O"), ("call", "O")],
    [("Peter", "B-per"), ("Blackburn", "I-per")],
    [("New", "B-loc"), ("York", "I-loc"), ("City", "I-loc"), ("Paris", "B-loc")],
    [("nothing", "O")],
]
OTHER = [[("Anna", "B-per"), ("sings", "O")]]


def text(sentences, *, between="\t"):
    return "\n".join("".join(f"{w}{between}{t}\n" for w, t in rows) for rows in sentences)


@pytest.fixture
def corpus(tmp_path):
    """A function that writes files of sentences, or of text, and gives their folder."""

    def write(**files):
        for name, content in {"train": TRAIN, "val": OTHER, "test": OTHER, **files}.items():
            held = text(content) if isinstance(content, list) else content
            if held is not None:
                (tmp_path / f"{name}.txt").write_text(held, encoding="utf-8", newline="")
        return str(tmp_path)

    return write


def read(split, labels):
    return [
        [(word, labels.names[tag]) for word, tag in zip(s["input"], s["target"], strict=True)]
        for s in (split[i] for i in range(len(split)))
    ]


def refused(root, **options):
    with pytest.raises(ValueError, match=r".") as caught:
        conll(root=root, **options)
    return str(caught.value)


def test_sentences_and_labels(corpus):
    made = conll(root=corpus())
    assert made.labels.kind == "tags"
    assert made.labels.names == ("O", "B-loc", "I-loc", "B-org", "B-per", "I-per")
    assert read(made.train, made.labels) == TRAIN
    assert read(made.val, made.labels) == read(made.test, made.labels) == OTHER
    assert made.train.ids == ["train/1", "train/5", "train/8", "train/13"]
    assert made.train[1]["input"] == ["Peter", "Blackburn"]
    assert isinstance(made.train[1]["target"], tuple)
    assert list(made.inputs.corpus(made.train))[2] == "New York City Paris"
    assert made.notes["scheme"] == "iob2"


@pytest.mark.parametrize("scheme", tags.SCHEMES)
@pytest.mark.parametrize("given_scheme", ["auto", "right"])
def test_every_scheme_becomes_iob2(corpus, scheme, given_scheme):
    def as_(sentences):
        return [
            [
                (word, tag)
                for (word, _), tag in zip(
                    rows,
                    tags.converted([t for _, t in rows], scheme="iob2", to=scheme),
                    strict=True,
                )
            ]
            for rows in sentences
        ]

    root = corpus(train=as_(TRAIN), val=as_(OTHER), test=as_(OTHER))
    made = conll(root=root, scheme=scheme if given_scheme == "right" else "auto")
    assert read(made.train, made.labels) == TRAIN
    assert made.notes["scheme"] == scheme


def test_columns_separators_and_lines_that_are_no_words(corpus):
    content = (
        "\ufeff-DOCSTART- -X- -X- O\r\n\r\n\r\n# id 1 of = 2\r\nEU NNP B-NP\tB-org\r\n"
        "# SYM  O O\r\n \t\r\n-DOCSTART- -X- -X- O\r\nPeter NNP  B-NP B-per"
    )
    made = conll(root=corpus(train=content, val="Peter NN B-NP B-per\n", test="x NN B-NP O\n"))
    assert read(made.train, made.labels) == [
        [("EU", "B-org"), ("#", "O")],
        [("Peter", "B-per")],
    ]
    assert made.train.ids == ["train/5", "train/9"]
    chunks = conll(
        root=corpus(train=content), word_column=-3, tag_column=2, test="train.txt", val="train.txt"
    )
    assert chunks.labels.names == ("O", "B-NP")
    assert chunks.train[0]["input"] == ["NNP", "SYM"]


@pytest.mark.parametrize(("name", "between"), [("tab", "\t"), ("blank", " "), (" || ", " || ")])
def test_separators_by_name(corpus, name, between):
    files = {"train": TRAIN, "val": OTHER, "test": OTHER}
    root = corpus(**{split: text(rows, between=between) for split, rows in files.items()})
    made = conll(root=root, separator=name)
    assert read(made.train, made.labels) == TRAIN


def test_words_with_blanks_want_a_tab(corpus):
    rows = [[("New York", "B-loc"), ("\u00a0", "O"), ("\u2028x\x85", "O")]]
    root = corpus(train=[[("a", "B-per")], *rows], val=rows, test=OTHER)
    assert "train.txt:3: columns: 3, in the first line 2" in refused(root)
    rows[0][1] = ("-", "O")
    root = corpus(train=[[("a", "B-per")], *rows], val=rows, test=OTHER)
    made = conll(root=root, separator="tab")
    assert read(made.val, made.labels) == rows


def test_other_encodings(corpus):
    root = corpus()
    for name in ("train", "val", "test"):
        (Path(root) / f"{name}.txt").write_bytes(text([[("a", "O")], *OTHER]).encode("latin-1"))
    (Path(root) / "val.txt").write_bytes("a\tO\nZürich\tO\n".encode("latin-1"))
    assert "val.txt is not in utf-8: wrong bytes in line 2" in refused(root)
    made = conll(root=root, encoding="latin-1")
    assert made.val[0]["input"] == ["a", "Zürich"]
    assert "'klingon' is unknown" in refused(root, encoding="klingon")


def test_tags_that_look_the_same_are_refused(corpus):
    rows = [[("a", "B-per"), ("b", "B-per\u200b")], [("c", "B-\uff50er")]]
    said = refused(corpus(train=rows, val=OTHER, test=OTHER))
    assert "train.txt:1" in said
    assert "train.txt:2" in said
    assert r"'B-per' and 'B-per\u200b' and 'B-\uff50er' look the same" in said


def test_all_that_is_wrong_is_listed_at_once(corpus):
    message = refused(
        corpus(
            train="a\tO\nb\tO\textra\n\nc\tI-per\n\n\tO\n",
            val="\n\n# nothing\n",
            test="x\tB-loc\ny\tI-per\nz\tper\n",
        ),
        extra={"late": "gone.txt"},
        scheme="iob2",
        on_fault="error",
    )
    for place in (
        "train.txt:2: columns: 3, in the first line 2",
        "train.txt:4: 'I-per' cannot begin",
        "train.txt:6: no word",
        "val.txt: no sentences",
        "test.txt:2: 'I-per' cannot follow 'B-loc'",
        "test.txt:3: 'per' is no tag of iob2",
        "gone.txt: No such file",
    ):
        assert place in message
    assert message.startswith("problems with the data (7)")


def test_long_lists_are_cut(corpus):
    message = refused(corpus(train="a\tB-x\n" + 50 * "b\tO\tc\n"))
    assert message.startswith("problems with the data (50)")
    assert message.count("columns: 3") == 20


def test_the_scheme_is_guessed_in_spite_of_a_wrong_tag(corpus):
    root = corpus(train=[*TRAIN, [("x", "O"), ("y", "I-per")]])
    message = refused(root, on_fault="error")
    assert "train.txt:16: 'I-per' cannot follow 'O'" in message
    assert message.startswith("problems with the data (1)")


@pytest.mark.parametrize("scheme", tags.SCHEMES)
def test_tags_at_random_are_read_as_seqeval_reads_them(corpus, scheme):
    """In its default mode; it knows no M, which is I there."""
    draw = random.Random(scheme)
    names = ["O", *(f"{mark}-{kind}" for mark in tags.MARKS[scheme] for kind in ("per", "loc"))]

    def rows(count):
        return [
            [(f"w{i}", draw.choice(names)) for i in range(draw.randint(1, 8))] for _ in range(count)
        ]

    files = {split: rows(200) for split in ("train", "val", "test")}
    made = conll(root=corpus(**files), scheme=scheme)
    for split, data in (("train", made.train), ("val", made.val), ("test", made.test)):
        usual = {"M": "I", "L": "E", "U": "S"}  # marks that seqeval knows
        given = [[usual.get(t[0], t[0]) + t[1:] for _, t in sentence] for sentence in files[split]]
        held = [[tag for _, tag in sentence] for sentence in read(data, made.labels)]
        assert [get_entities(row) for row in held] == [get_entities(row) for row in given]
        assert [tags.faults(row, "iob2") for row in held] == [[]] * 200
    noted = made.notes["faulty_tags"]
    assert noted["words"] == sum(len(row) for rows in files.values() for row in rows)
    assert 500 < noted["count"] < noted["words"]
    assert len(noted["places"]) == min(noted["count"], 1000)


IOB1 = "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nEU NNP I-NP B-ORG\n\nx NN O I-LOC\n\n"
BMES = "中 B-LOC\n国 E-LOC\n\n北 B-LOC\n京 M-LOC\n\n大 M-LOC\n学 E-LOC\n人 S-PER\n"


@pytest.mark.parametrize(
    ("content", "scheme", "place"),
    [
        (f"{IOB1}x NN O O\nEU NNP B-NP B-ORG\n", "iob1", (9, "B-ORG", "I-ORG")),
        (f"{IOB1}EU NNP I-NP I-ORG\nx NNP B-NP B-LOC\n", "iob1", (9, "B-LOC", "I-LOC")),
        ("a B-PER\nb I-PER\n\nc I-PER\nd O\n", "iob2", (4, "I-PER", "B-PER")),
        ("a B-PER\nb I-LOC\n\nc B-LOC\n", "iob2", (2, "I-LOC", "B-LOC")),
        (BMES, "bmes", (5, "M-LOC", "E-LOC")),
        ("a B-PER\nb E-PER\n\nc B-PER\nd O\n", "bioes", (4, "B-PER", "S-PER")),
    ],
    ids=[
        "B in iob1",
        "B of another kind in iob1",
        "I begins",
        "I of another kind",
        "cut",
        "no end",
    ],
)
def test_faulty_tags_are_counted_and_listed(corpus, content, scheme, place, caplog):
    root = corpus(train=content, val=content, test="")
    line, tag, as_ = place
    with caplog.at_level(logging.WARNING):
        made = conll(root=root, test="")
    assert made.notes["scheme"] == scheme
    noted = made.notes["faulty_tags"]
    path = os.path.join(root, "train.txt")
    assert noted["count"] == len(noted["places"]) == 2 * (1 + (content == BMES))
    assert noted["places"][0] == {
        **{"split": "train", "file": path, "line": line},
        **{"tag": tag, "read": as_},
    }
    assert {each["split"] for each in noted["places"]} == {"train", "val"}
    assert f"{path}:{line} {tag} as {as_}" in caplog.text
    assert "train.txt:" in (message := refused(root, test="", on_fault="error"))
    assert "' cannot " in message


def test_nothing_is_noted_of_tags_that_follow(corpus):
    assert "faulty_tags" not in conll(root=corpus()).notes


@pytest.mark.parametrize("tag", ["X-per", "per", "b-per", "B", "B-", "S-per", "L-per", "(per*"])
@pytest.mark.parametrize("on_fault", ["scorer", "error"])
def test_tags_of_no_scheme_are_refused_with_their_line(corpus, tag, on_fault):
    message = refused(
        corpus(train=[*TRAIN, [("x", "I-per"), ("y", tag)]], val=TRAIN), on_fault=on_fault
    )
    assert f"train.txt:16: {tag!r} is no tag of iob2" in message
    assert ("train.txt:15" in message) == (on_fault == "error")


def test_tags_that_only_evaluation_has_are_listed(corpus):
    new = [[("a", "B-misc"), ("b", "I-misc"), ("c", "B-misc")]]
    message = refused(corpus(val=new, test=[[("x", "B-org"), ("y", "I-org")]]))
    assert "val.txt: 2 words have 'B-misc'" in message
    assert "val.txt: 1 words have 'I-misc'" in message
    assert "test.txt: 1 words have 'I-org'" in message


def test_files_are_found_and_named(corpus, tmp_path):
    root = Path(corpus())
    (root / "train.txt").rename(root / "eng.train")
    (root / "val.txt").rename(root / "eng.testa")
    (root / "test.txt").rename(tmp_path / "elsewhere")
    made = conll(root=str(root), test=str(tmp_path / "elsewhere"), extra={"late": "eng.testa"})
    assert (len(made.train), len(made.val), len(made.test)) == (4, 1, 1)
    assert list(made.extra) == ["late"]
    assert made.extra["late"].ids == ["late/1"]
    alone = conll(
        train=str(root / "eng.train"), val=str(root / "eng.testa"), test=str(tmp_path / "elsewhere")
    )
    assert alone.fingerprint != made.fingerprint
    (root / "dev.conll").write_text(text(OTHER))
    assert "has dev.conll and eng.testa" in refused(str(root))
    assert "is a split already" in refused(str(root), val="eng.testa", extra={"val": "eng.testa"})
    (root / "eng.train").unlink()
    assert "dataset.train names no file" in refused(str(root), val="eng.testa")
    assert "dataset.train names no file" in refused(None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "bio"}, "scheme='bio'"),
        ({"on_fault": "mend"}, "on_fault='mend'; give scorer or error"),
        ({"separator": ""}, "separator is empty"),
        ({"word_column": 2}, "word_column=2, and lines have 2 columns"),
        ({"tag_column": -3}, "tag_column=-3, and lines have 2 columns"),
        ({"fraction": 0.0}, "fraction=0"),
    ],
)
def test_options_out_of_range_are_refused(corpus, options, message):
    assert message in refused(corpus(), **options)


def many(corpus):
    rows = [[(f"word{i}", "B-per"), ("x", "I-per")] for i in range(100)]
    return corpus(train=rows)


def test_fewer_sentences_by_seed(corpus):
    root = many(corpus)
    full = conll(root=root)
    few, again, other = (conll(root=root, fraction=0.2, seed=seed) for seed in (1, 1, 2))
    assert len(few.train) == 20
    assert few.train.ids == again.train.ids != other.train.ids
    assert few.labels == full.labels
    assert few.fingerprint == again.fingerprint != other.fingerprint
    assert set(few.train.ids) <= set(conll(root=root, fraction=0.5, seed=1).train.ids)
    assert [text.split()[0] for text in few.inputs.corpus(few.train)] == [
        s[0] for s in few.train.inputs
    ]


def test_what_is_missing_is_split_off(corpus):
    root = Path(many(corpus))
    (root / "val.txt").unlink()
    (root / "test.txt").unlink()
    made, same = (conll(root=str(root), seed=seed) for seed in (0, 1))
    parts = [set(split.ids) for split in (made.train, made.val, made.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 100
    assert len(parts[2]) == 15
    assert made.test.ids == same.test.ids


def test_it_pickles(corpus):
    made = conll(root=corpus())
    again = pickle.loads(pickle.dumps(made))
    assert again.train[0] == made.train[0]
    assert list(again.inputs.corpus(again.train)) == list(made.inputs.corpus(made.train))


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\0"), min_size=1).filter(
                lambda word: word.strip() and not word.startswith(("-DOCSTART-", "\ufeff"))
            ),
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_is_read(tmp_path_factory, sentences):
    """Whatever the words are: U+2028 ends no line, and `# ` may be a word."""
    path = tmp_path_factory.mktemp("any") / "a.txt"
    rows = [
        list(
            zip(
                words,
                tags.written([Entity("x", 0, 1)], words=len(words), scheme="iob2"),
                strict=True,
            )
        )
        for words in sentences
    ]
    path.write_text(text(rows), encoding="utf-8", newline="")
    found = columns.read(path, Format(separator="tab"))
    assert found.problems == []
    assert [list(zip(s.words, s.tags, strict=True)) for s in found.sentences] == rows


@pytest.mark.real
def test_wnut17():
    base = os.environ.get("TLX_REAL_DATA")
    if not base:
        pytest.skip("TLX_REAL_DATA is not set")
    made = conll(root=str(Path(base) / "wnut17"))
    assert (len(made.train), len(made.val), len(made.test)) == (3394, 1009, 1287)
    kinds = {name.partition("-")[2] for name in made.labels.names[1:]}
    assert kinds == {"corporation", "creative-work", "group", "location", "person", "product"}
    assert len(made.labels.names) == 13
    people = made.labels.names.index("B-person")
    assert sum(target.count(people) for target in made.test.targets) == 429
