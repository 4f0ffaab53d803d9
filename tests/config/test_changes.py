"""Changed meanings: only the configs that a change concerns get another id."""

import json

import pytest

from tlx import execute, runs
from tlx.config import changes, identity
from tlx.config.changes import Change
from tlx.config.compose import compose

OLD = compose(["trainer.accumulate=2"])
OTHER = compose([])
CHANGE = Change(
    mark="parts",
    since="9.9",
    what="was one thing; is another",
    concerns=lambda config: config["trainer"]["accumulate"] > 1,
    old="trainer.accumulate=1",
)


def test_only_the_configs_concerned_get_a_new_id(monkeypatch):
    before = identity.run_id(OLD), identity.run_id(OTHER)
    monkeypatch.setattr(changes, "CHANGES", (*changes.CHANGES, CHANGE))
    assert identity.run_id(OLD) != before[0]
    assert identity.run_id(OTHER) == before[1]


def test_marks_are_unique_and_documented():
    from tlx.config.places import conf_dir

    marks = [change.mark for change in changes.CHANGES]
    assert len(set(marks)) == len(marks)
    docs = (conf_dir().parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [mark for mark in marks if f"| `{mark}` |" not in docs] == []


def test_a_run_of_before_is_not_taken_up_under_the_new_meaning(tmp_path, monkeypatch):
    monkeypatch.setattr(changes, "CHANGES", (*changes.CHANGES, CHANGE))
    folder = tmp_path / "run"
    runs.write_json(folder / execute.PROVENANCE, {"code": {"sha": "abc123"}})
    with pytest.raises(runs.RunError, match=r"(?s)parts.*since tlx 9.9.*accumulate=1.*abc123"):
        execute.refuse_changed(OLD, folder)
    execute.refuse_changed(OTHER, folder)
    facts = {"changes": changes.marks(identity.normalise(OLD))}
    (folder / execute.PROVENANCE).write_text(json.dumps(facts), encoding="utf-8")
    execute.refuse_changed(OLD, folder)
