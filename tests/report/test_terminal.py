import pytest

from report import synthetic
from tlx.report import build, terminal
from tlx.results import manifest


@pytest.fixture(scope="module")
def text(studies):
    runs_dir, folder, _ = studies["explicit"]
    return terminal.text(folder, runs_dir=runs_dir, width=120)


def test_it_shows_every_split_with_intervals_and_n(text):
    for split in ("test", "noise", "rotation"):
        assert f"few_labels: accuracy on {split}" in text
    assert "3 of 5" in text
    assert " lr=0.003 " in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_it_shows_verdicts_and_failures(text):
    assert "✓ lp_ft > full: held" in text
    assert "✗ linear_probe > lp_ft: not held" in text
    assert "RuntimeError: bad" in text
    assert "2 runs missing" in text


def test_names_are_no_markup(tmp_path):
    folder = synthetic.leave_one_out(tmp_path, seeds=2)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("without mixup", "[red]without[/] mixup"))
    assert "[red]without[/] mixup" in terminal.text(folder, runs_dir=tmp_path, width=160)


def test_a_search_shows_its_best_trials(studies):
    runs_dir, folder, _ = studies["search"]
    text = terminal.text(folder, runs_dir=runs_dir, width=140)
    assert "★" in text
    assert "more rows: tables/trials.csv" in text
    assert "OutOfMemoryError" in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_breaks_no_word(studies, width):
    runs_dir, folder, _ = studies["explicit"]
    text = terminal.text(folder, runs_dir=runs_dir, width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    for arm in synthetic.ACCURACY:
        assert sum(line.startswith(f" {arm} ") for line in lines) == 3  # once a split
    assert sum(line.strip() == "lr=0.003" for line in lines) == 3 * len(synthetic.ACCURACY)
    assert "Too wide for here: sd" in text


def test_a_wide_terminal_leaves_nothing_out(studies):
    runs_dir, folder, _ = studies["explicit"]
    text = terminal.text(folder, runs_dir=runs_dir, width=140)
    assert "Too wide" not in text
    assert text.count("p (Holm)") == 3


def looked_at(tmp_path, change=None):
    """A study whose figures are read, as text."""
    folder = synthetic.leave_one_out(tmp_path, seeds=3)
    if change:
        change(folder, tmp_path)
    return folder, terminal.text(folder, runs_dir=tmp_path, width=160)


def test_reading_verdicts_is_a_look_and_reading_estimates_is_none(tmp_path):
    def without_one(folder, runs_dir):
        (runs_dir / "loo-base-s2" / "record.json").unlink()

    folder, text = looked_at(tmp_path / "whole")
    assert [look.seeds for look in manifest.read(folder).looks] == [(0, 1, 2)]
    assert "declare study.sequential before the first look" in text
    folder, text = looked_at(tmp_path / "part", without_one)
    assert "undecided: waiting for 1 run; base minus without ema" in text
    assert "settle" not in text
    assert manifest.read(folder).looks == ()


def test_where_a_look_cannot_be_noted_no_verdict_is_given(tmp_path, monkeypatch):
    folder = synthetic.leave_one_out(tmp_path, seeds=3)

    def refuse(*args, **kwargs):
        raise PermissionError("not yours")

    monkeypatch.setattr(manifest, "add_look", refuse)
    text = terminal.text(folder, runs_dir=tmp_path, width=160)
    assert "no verdict is given, for it cannot be noted that one was: not yours" in text
    assert "held" not in text


def test_the_page_says_how_often_it_was_looked_at_and_advises_nothing_invalid(tmp_path):
    folder = synthetic.leave_one_out(tmp_path, seeds=6)
    spec = manifest.read(folder)
    manifest.add_look(folder, spec.seeds[:3], sequential={})
    page = build.build(folder, runs_dir=tmp_path).html.read_text()
    assert "The study was looked at 2 times" in page
    assert "keeps 0.04 of the 0.05, and all other looks share 0.01" in page
    assert "waiting" not in page
    assert page.count("would settle it") == page.count("seeds added now are judged at 0.01")
