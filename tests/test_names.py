"""Names that become parts of paths: what may be chosen, and what is read of what was chosen."""

import pytest

from tlx.base import names

GOOD = [
    *("a", "night_photos", "v1.2", "größer", "夜", "a b", "x-1", "_x", "a+b", "cond", "nulls"),
    *("com10", "ну", "می\u200cخواهم", "x" * 100),
]
BAD = [
    *("", ".", "..", "...", "../evil", "a/b", "a\\b", "/a", "-rf", ".hidden", " a", "a ", "a."),
    *("a\0b", "a\nb", "a\x1bb", "a\x85b", "a\u202eb", "a\u200bb", "\ufeffa", "a\u2028b", "\udcff"),
    *("c:d", "a*", "a?", "a|b", 'a"b', "<a>", "con", "NUL.csv", "Lpt1", "com¹", "x" * 101),
    *("夜" * 34, "\u3000a"),
]


@pytest.mark.parametrize("name", GOOD)
def test_what_may_be_chosen(name):
    assert names.fault(name) is None
    assert names.stays_inside(name)


@pytest.mark.parametrize("name", BAD)
def test_what_may_not_be_chosen(name):
    assert names.fault(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", "a\\..\\b", "a\0", 3, None, "x" * 256]
)
def test_what_leads_out_of_a_folder(name):
    assert not names.stays_inside(name)


@pytest.mark.parametrize("name", ["-x", ".x", "con", "a b", "a\nb", "x" * 200, "..a"])
def test_what_an_earlier_tlx_allowed_is_read(name, tmp_path):
    assert names.stays_inside(name)
    assert (tmp_path / name).parent == tmp_path


@pytest.mark.parametrize("two", [("Night", "night"), ("é", "e\u0301"), ("ﬁ", "fi"), ("ß", "SS")])
def test_names_of_one_file(two):
    assert names.alike(["a", *two]) == two
    assert names.alike(["a", two[0]]) is None


def test_links_lead_elsewhere(tmp_path):
    runs = tmp_path / "linked"
    (tmp_path / "runs/a/checkpoints").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    runs.symlink_to(tmp_path / "runs")  # the folder of runs itself may be a link
    (runs / "b").symlink_to(tmp_path / "elsewhere")
    (runs / "a/link").symlink_to(runs / "a/checkpoints")
    assert not names.is_link(runs / "a/checkpoints", within=runs)
    assert names.is_link(runs / "b", within=runs)
    assert names.is_link(runs / "b/checkpoints", within=runs)
    assert names.is_link(runs / "a/link", within=runs)
