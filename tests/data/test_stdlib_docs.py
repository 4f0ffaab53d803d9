"""The standard library as texts: honest splits, labels that the text does not give away."""

import ast
import builtins
import keyword
import re
import subprocess
import sys
from collections import Counter

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tlx.data.text.stdlib import sources as library
from tlx.data.text.stdlib.docs import stdlib_docs
from tlx.data.text.stdlib.tags import TAGS, chunks, words_of

SPLITS = ("train", "val", "test")


def named(made):
    return {name: getattr(made, name) for name in SPLITS}


def modules(split):
    return {name.partition(":")[0] for name in split.ids}


@pytest.mark.parametrize("split_seed", [0, 1, 7])
def test_topics_have_enough_and_modules_do_not_cross(split_seed):
    made = stdlib_docs(split_seed=split_seed)
    assert made.labels.names == tuple(sorted(library.TOPICS))
    for name, split in named(made).items():
        counts = Counter(split.targets)
        assert set(counts) == set(range(len(made.labels.names)))
        assert min(counts.values()) >= {"train": 100, "val": 20, "test": 20}[name]
    held = [modules(split) for split in named(made).values()]
    assert sum(map(len, held)) == len(set.union(*held))
    keys = [key for split in named(made).values() for key in split.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("about", ["topic", "tags", "language"])
def test_all_is_the_same_again_and_another_seed_divides_otherwise(about):
    made, again = stdlib_docs(about=about), stdlib_docs(about=about, seed=3)
    assert made.fingerprint == again.fingerprint
    assert modules(made.test) != modules(stdlib_docs(about=about, split_seed=1).test)


def test_another_process_finds_the_same():
    code = (
        "from tlx.data.text.stdlib.docs import stdlib_docs; import sys;"
        "assert 'telnetlib' not in sys.modules and 'turtle' not in sys.modules;"
        "print(stdlib_docs().fingerprint)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == stdlib_docs().fingerprint


def test_texts_are_docstrings_without_the_name_of_their_module():
    made = stdlib_docs()
    for name, text in zip(made.test.ids, made.test.inputs, strict=True):
        module = name.partition(":")[0]
        words = {word.strip("_") for word in re.findall(r"[A-Za-z0-9_]+", text.lower())}
        parts = {part.strip("_").lower() for part in module.split(".")}
        assert not words & (parts - {library.MASK}), name
    tree = ast.parse(library.sources()["textwrap"].read_bytes())
    whole = {ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    found = [d for d in library.documents(topics_only=True) if d.module == "textwrap"]
    assert found
    assert {d.text for d in found} & whole


def test_names_are_masked_whole():
    mask = library._masking("email.mime._parts")
    said = "Email, emails, e-mail; email.mime, _parts and partsparts"
    assert mask.sub("X", said) == "X, emails, e-mail; X.X, X and partsparts"


def test_few_labels():
    made = stdlib_docs(labels_per_class=20)
    assert set(Counter(made.train.targets).values()) == {20}
    assert set(Counter(made.val.targets).values()) == {20}
    assert made.test.ids == stdlib_docs().test.ids
    assert set(stdlib_docs(labels_per_class=5).train.ids) < set(made.train.ids)


def test_topics_can_be_learnt():
    made = stdlib_docs()
    words = TfidfVectorizer(sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=500)
    model.fit(words.fit_transform(made.train.inputs), made.train.targets)
    share = max(Counter(made.test.targets).values()) / len(made.test)
    assert model.score(words.transform(made.test.inputs), made.test.targets) > 2 * share


@pytest.mark.parametrize("of", ["all", "topic"])
def test_a_language_model_sees_no_test_document(of):
    topic, language = stdlib_docs(), stdlib_docs(about="language", of=of)
    assert language.labels.kind == "text"
    assert language.val.ids == topic.val.ids
    assert language.test.ids == topic.test.ids
    held = {*topic.val.inputs, *topic.test.inputs}
    assert not held & set(language.train.inputs)
    assert not modules(language.train) & (modules(topic.val) | modules(topic.test))
    more = set(language.train.ids) - set(topic.train.ids)
    assert bool(more) is (of == "all")
    assert set(topic.train.ids) <= set(language.train.ids)


# -- code ---------------------------------------------------------------------------------------


def test_tags_of_real_code():
    made = stdlib_docs(about="tags")
    assert made.labels.kind == "tags"
    assert made.labels.names[0] == "O"
    counts = Counter(TAGS[tag] for tags in made.train.targets for tag in tags)
    assert min(counts[tag] for tag in TAGS) > 100
    for split in named(made).values():
        for words, tags in zip(split.inputs, split.targets, strict=True):
            assert len(words) == len(tags)
            for place, (word, tag) in enumerate(zip(words, tags, strict=True)):
                check_word(word, TAGS[tag], words[place - 1] if place else "")
                kind = TAGS[tag].removeprefix("I-")
                if TAGS[tag].startswith("I-") and place:
                    assert TAGS[tags[place - 1]] in (f"B-{kind}", f"I-{kind}")


def check_word(word, tag, before):
    assert word
    assert not re.search(r"\s", word)
    if tag == "B-keyword":
        assert keyword.iskeyword(word)
    elif tag == "B-builtin":
        assert hasattr(builtins, word)
        assert before != "."
    elif tag in ("B-function", "B-class"):
        assert before in ("", {"B-function": "def", "B-class": "class"}[tag])
    elif tag == "B-comment":
        assert word.startswith("#")
    elif tag == "O":
        assert not keyword.iskeyword(word)


CODE = '''@cached
class Name(Base):  # a class
    """Says hello."""

    def hello(self, n=0x1F) -> "str":
        return len(self.len) + n if not n else 'a b'
'''


def test_each_kind_of_word(tmp_path):
    path = tmp_path / "code.py"
    path.write_text(CODE)
    (chunk,) = chunks(path)
    found = list(zip(chunk.words, (TAGS[tag] for tag in chunk.tags), strict=True))
    expected = """@/B-operator cached/O class/B-keyword Name/B-class (/O Base/O )/O :/O
    #/B-comment a/I-comment class/I-comment \"""Says/B-string hello.\"""/I-string def/B-keyword
    hello/B-function (/O self/O ,/O n/O =/B-operator 0x1F/B-number )/O ->/O "str"/B-string :/O
    return/B-keyword len/B-builtin (/O self/O ./O len/O )/O +/B-operator n/O if/B-keyword
    not/B-keyword n/O else/B-keyword 'a/B-string b'/I-string"""
    assert found == [tuple(each.rsplit("/", 1)) for each in expected.split()]
    path.write_text("def (")
    assert chunks(path.rename(tmp_path / "broken.py")) == ()


def test_an_unknown_subject_is_named():
    with pytest.raises(ValueError, match="about='topics'"):
        stdlib_docs(about="topics")


def test_the_rest_of_the_language_is_what_no_topic_has():
    made = stdlib_docs(about="language", of="topic", source_text="rest")
    plain, every = stdlib_docs(about="language", of="topic"), stdlib_docs(about="language")
    rest = made.extra["source"]
    assert made.source == "source"
    assert plain.source is None
    assert made.train.ids == plain.train.ids
    assert set(rest.ids) == set(every.train.ids) - set(plain.train.ids)
    with pytest.raises(ValueError, match=r"dataset\.of=topic"):
        stdlib_docs(about="language", source_text="rest")


def test_texts_of_whole_modules_hold_the_same_docstrings():
    each = stdlib_docs(about="language", of="topic", source_text="rest")
    whole = stdlib_docs(about="language", of="topic", source_text="rest", text="module")
    pairs = {**named(each), "source": each.extra["source"]}
    found = {**named(whole), "source": whole.extra["source"]}
    for name, split in pairs.items():
        assert set(found[name].ids) == modules(split)
        assert "\n\n".join(found[name].inputs) == "\n\n".join(split.inputs)
    with pytest.raises(ValueError, match=r"dataset\.text='module'"):
        stdlib_docs(about="topic", text="module")


def test_texts_of_code_hold_names_strings_and_comments_but_nothing_that_is_tested_on():
    docs = stdlib_docs(about="language", of="topic", text="module")
    code = stdlib_docs(about="language", of="topic", text="code")
    assert code.train.ids == docs.train.ids
    assert code.test.ids == docs.test.ids
    words = dict(zip(code.train.ids, code.train.inputs, strict=True))["random"].split()
    assert {"getrandbits", "Mersenne", "hashlib", "heavy"} <= {*words}  # names, a string, a comment
    assert "random" not in words
    kept = {name for split in named(code).values() for name in split.ids}
    assert kept == modules(docs.train) | modules(docs.val) | modules(docs.test)


@pytest.mark.parametrize("text", ["docstring", "module", "code"])
def test_a_docstring_that_is_tested_on_stands_in_no_module_that_trains(text):
    """Nor where only the names of the two modules differ, which are replaced."""
    tested = stdlib_docs(split_seed=1).test
    made = stdlib_docs(about="language", text=text, split_seed=1).train
    assert "abc:ABCMeta._dump_registry" in tested.ids
    assert "_py_abc" in modules(made)  # has the same method
    assert not [each for each in made.inputs if "Debug helper to print the" in each]


def test_words_of_a_file_are_names_strings_and_comments(tmp_path):
    path = tmp_path / "some.py"
    path.write_text("""if x != 3:  # why not
    call(r"raw", "it's", \'\'\'long\n\nquote"\'\'\', "")
""")
    assert words_of(path) == ("x", "why not", "call", "raw", "it's", 'long\n\nquote"')


@pytest.mark.parametrize("content", [b"def (:\n  'text", b"# \xff\n", b"'''open\n"])
def test_a_file_that_is_no_python_has_no_words(tmp_path, content):
    (tmp_path / "some.py").write_bytes(content)
    assert words_of(tmp_path / "some.py") == ()
