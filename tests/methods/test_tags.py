"""Tag schemes: round trips between them, and seqeval as reference where it has the scheme."""

import itertools
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.methods.entities import Entity
from tlx.methods.tags import (
    MARKS,
    SCHEMES,
    TagError,
    converted,
    detected,
    faults,
    repairs,
    spans,
    written,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from seqeval.metrics.sequence_labeling import get_entities
    from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

REFERENCE = {"iob1": IOB1, "iob2": IOB2, "bioes": IOBES, "bilou": BILOU}
USUAL = {"M": "I", "L": "E", "U": "S"}
"""Marks of bioes for those that the lenient reader of seqeval does not know."""
KINDS = ("per", "creative-work")


@st.composite
def sentences(draw):
    """Entities and the number of words."""
    found, start = [], 0
    parts = st.tuples(st.sampled_from(("", *KINDS)), st.integers(1, 4))
    for kind, length in draw(st.lists(parts, max_size=6)):
        if kind:
            found.append(Entity(kind, start, start + length))
        start += length
    return found, start


def any_tags(scheme):
    names = [f"{mark}-{kind}" for mark in MARKS[scheme] for kind in KINDS]
    return st.lists(st.sampled_from(["O", *names]), max_size=8)


@pytest.mark.parametrize(("source", "to"), [*itertools.product(SCHEMES, SCHEMES)])
@given(sentence=sentences())
def test_round_trip(source, to, sentence):
    found, words = sentence
    tags = written(found, words=words, scheme=source)
    assert faults(tags, source) == []
    assert spans(tags, scheme=source) == found
    other = converted(tags, scheme=source, to=to)
    assert other == written(found, words=words, scheme=to)
    assert converted(other, scheme=to, to=source) == tags


@pytest.mark.parametrize("scheme", sorted(REFERENCE))
@given(sentence=sentences())
def test_strict_entities_are_those_of_seqeval(scheme, sentence):
    found, words = sentence
    tags = written(found, words=words, scheme=scheme)
    (theirs,) = Entities([tags], REFERENCE[scheme]).entities
    assert [(e.tag, e.start, e.end) for e in theirs] == found


@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data())
def test_lenient_entities_are_those_of_seqeval(scheme, data):
    tags = data.draw(any_tags(scheme))
    theirs = get_entities([f"{USUAL.get(tag[0], tag[0])}{tag[1:]}" for tag in tags])
    mine = spans(tags, scheme=scheme, strict=False)
    assert [(kind, start, end - 1) for kind, start, end in mine] == theirs


@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data())
def test_what_has_no_fault_is_what_writing_gives(scheme, data):
    """Strictness is exact: tags are refused if and only if no entities are written so."""
    tags = data.draw(any_tags(scheme))
    lenient = spans(tags, scheme=scheme, strict=False)
    again = written(lenient, words=len(tags), scheme=scheme)
    wrong = faults(tags, scheme)
    assert (again == tags) == (not wrong)
    assert all(0 <= fault.place < len(tags) for fault in wrong)
    if wrong:
        with pytest.raises(TagError) as caught:
            spans(tags, scheme=scheme)
        assert caught.value.faults == tuple(wrong)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data())
def test_repairs_are_the_tags_of_what_seqeval_reads(scheme, data):
    tags = data.draw(any_tags(scheme))
    fixed = list(tags)
    for place, tag, read in repairs(tags, scheme):
        assert fixed[place] == tag != read
        fixed[place] = read
    assert faults(fixed, scheme) == []
    assert bool(repairs(tags, scheme)) == bool(faults(tags, scheme))
    before, after = ([f"{USUAL.get(t[0], t[0])}{t[1:]}" for t in each] for each in (tags, fixed))
    assert get_entities(before) == get_entities(after)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(found=st.lists(sentences(), min_size=1))
def test_detected_scheme_reads_the_same_entities(scheme, found):
    held = [written(entities, words=words, scheme=scheme) for entities, words in found]
    seen = detected(held)
    assert [spans(tags, scheme=seen) for tags in held] == [entities for entities, _ in found]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_wrong_tag_hides_no_scheme(scheme):
    long = [Entity("per", 0, 3), Entity("per", 3, 4), Entity("per", 5, 8)]
    good = written(long, words=9, scheme=scheme)
    bad = ["O", "O", f"{MARKS[scheme][1]}-per", "B-per", "O"]
    assert detected([good, bad, good]) == scheme


def test_of_schemes_with_as_many_faults_the_one_that_has_the_tags_is_detected():
    assert detected([["B-per", "O"], ["S-per"]]) == "bioes"
    assert detected([["B-per", "O"], ["B-per", "M-per", "E-per"]]) == "bmes"
    assert detected([["U-per", "O"], ["B-per", "I-per", "L-per"]]) == "bilou"
    assert detected([["B-per", "O"], ["B-per", "I-per", "O"], ["S-per"]]) == "iob2"


@pytest.mark.parametrize(
    ("tags", "scheme", "place", "message"),
    [
        (["I-per"], "iob2", 0, "'I-per' cannot begin"),
        (["B-per", "I-loc"], "iob2", 1, "'I-loc' cannot follow 'B-per'"),
        (["O", "B-per"], "iob1", 1, "'B-per' cannot follow 'O'"),
        (["I-loc", "B-per"], "iob1", 1, "'B-per' cannot follow 'I-loc'"),
        (["B-per", "O"], "bioes", 1, "'O' cannot follow 'B-per'"),
        (["O", "B-per"], "bioes", 1, "'B-per' cannot end"),
        (["B-per", "S-per"], "bmes", 1, "'S-per' cannot follow 'B-per'"),
        (["O", "I-per"], "bmes", 1, "'I-per' is no tag of bmes"),
        (["B-"], "iob2", 0, "'B-' is no tag"),
        (["BI-per"], "iob2", 0, "'BI-per' is no tag"),
    ],
)
def test_faults_have_their_place(tags, scheme, place, message):
    (found,) = faults(tags, scheme)
    assert found.place == place
    assert found.message.startswith(message)


@pytest.mark.parametrize("tag", ["", "B", "S-per", "o", "-per"])
def test_unreadable_tags_are_refused_leniently_too(tag):
    with pytest.raises(TagError, match="is no tag of iob2"):
        spans(["O", tag], scheme="iob2", strict=False)
    with pytest.raises(TagError, match="is no tag of iob2"):
        repairs(["O", tag], "iob2")


@pytest.mark.parametrize(
    "found",
    [
        [Entity("per", 0, 2), Entity("loc", 1, 3)],
        [Entity("per", 2, 4)],
        [Entity("per", 1, 1)],
        [Entity("per", -1, 1)],
    ],
)
def test_entities_that_do_not_fit_are_refused(found):
    with pytest.raises(ValueError, match="does not fit a sequence of 3 words"):
        written(found, words=3, scheme="iob2")
