"""Secrets: refused where a run's process would need them, hidden in all that is written."""

import json
from pathlib import Path

import pytest

from tlx import cli
from tlx.base import secrecy
from tlx.config import schema
from tlx.config.check import CheckError, schema_signature
from tlx.config.compose import compose
from tlx.config.identity import run_id
from tlx.config.places import targets_by_group
from tlx.config.signatures import signature
from tlx.execution import execute, runs
from tlx.results import manifest

HF = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZabcdefgh"
KEYS = (
    HF,
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "A1b2_" * 9,
    "sk-proj-" + "aB3_" * 10,
    "AKIA" + "ABCD1234" * 2,
    "xoxb-123456789012-abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
)
PLAIN = (
    "hf-internal-testing/tiny-random-bert",
    "sk-learn_benchmarks_of_many_datasets",
    "/data/task-2024-sketches-of-many-animals",
    "https://host:8080/path?mail=a@b",
    "https://host/a:b@c/d",
    "git@github.com:me/mine.git",
    "ssh://git@host/mine",
    "postgresql://me@host:5432/db",
    "see C://folder and mail me@here.org",
    "a5fe83c16f0ce17c2a52b6d1ad5d7ff2a3a6b49c",
    "digits-resnet10t-full-s0-a538052d40",
)
SMALL = (
    *("dataset=digits", "dataset.labels_per_class=4", "backbone=timm", "backbone.init=none"),
    *("backbone.name=test_resnet", "backbone.image_size=32", "trainer=cpu", "trainer.steps=2"),
    *("trainer.batch_size=16", "freeze_strategy=linear_probe"),
)


@pytest.mark.parametrize("key", KEYS)
def test_known_forms_are_hidden_anywhere(key):
    assert secrecy.masked_text(f"failed with {key}, sorry") == "failed with ***, sorry"
    assert secrecy.masked_text(f"https://{key}@host/x") == "https://***@host/x"


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_stay(text):
    assert secrecy.masked_text(text) == text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql+psycopg://me:pw@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql://me:p@s:s@host/db", "postgresql://me:***@host/db"),
        ("redis://:pw@host", "redis://:***@host"),
        ("https://me:1234@host/x", "https://me:***@host/x"),
        ("a://u:p@h and b://v:q@i", "a://u:***@h and b://v:***@i"),
        ("https://h/x?a=1&token=abc&b=2", "https://h/x?a=1&token=***&b=2"),
        ("https://h/x?X-Amz-Signature=abc", "https://h/x?X-Amz-Signature=***"),
    ],
)
def test_passwords_in_addresses_are_hidden(text, hidden):
    assert secrecy.masked_text(text) == hidden
    assert secrecy.masked_text(hidden) == hidden


def test_masking_keeps_the_rest_of_plain_data():
    data = {"a": [1, None, {"token": True}], 3: ("x", 2.5), "unk_token": "<unk>", "tokens": "all"}
    assert secrecy.masked(data) == {**data, 3: ["x", 2.5]}


@pytest.mark.parametrize(
    ("data", "hidden"),
    [
        ({"password": 31337}, {"password": "***"}),
        (
            {"Credentials": {"user": "u", "pin": 4711}},
            {"Credentials": {"user": "***", "pin": "***"}},
        ),
        ({"headers": {"Authorization": "Bearer a"}}, {"headers": {"Authorization": "***"}}),
        ({"api-key": "a", "accessToken": "b"}, {"api-key": "***", "accessToken": "***"}),
        (["export WANDB_API_KEY=0a1b && x"], ["export WANDB_API_KEY=*** && x"]),
        (["https://hooks.slack.com/services/T0/B0/abc"], ["https://hooks.slack.com/services/***"]),
    ],
)
def test_secrets_are_hidden_however_they_are_written(data, hidden):
    assert secrecy.masked(data) == hidden
    assert list(secrecy.places({"here": data}))
    assert not list(secrecy.places({"here": hidden}))


@pytest.mark.parametrize(
    "data",
    [
        {"class_weights": {"PASSWORD": 2.0, "SECRET": 3}, "token": 5000, "secret": True},
        {"line": "TOKENIZERS_PARALLELISM=false HF_TOKEN=$MINE key=x token=y"},
        {"padToken": "<pad>"},
        {"lr": float("nan")},
    ],
)
def test_counts_weights_and_names_of_variables_are_no_secrets(data):
    assert not list(secrecy.places(data))
    assert secrecy.masked(data) == data


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("+a.b={api_key: abc, c: d}", "+a.b={api_key: ***, c: d}"),
        ("+a={b: {'apiKey': 'd e'}}", "+a={b: {'apiKey': ***}}"),
        ("+a={credentials: {user: u}}", "+a={credentials: ***}"),
        ("+a={c: d, unk_token: x}", "+a={c: d, unk_token: x}"),
    ],
)
def test_secrets_in_an_override_with_a_mapping_are_hidden(line, hidden):
    assert secrecy.masked_line(line) == hidden
    assert secrecy.masked_line(hidden) == hidden


def test_no_option_of_ours_asks_for_a_secret():
    targets = frozenset().union(*targets_by_group().values())
    names = {name for target in targets for name in signature(target).parameters}
    names |= {name for node in schema.NODES.values() for name in schema_signature(node).parameters}
    assert len(names) > 150
    assert not [name for name in names if secrecy.speaks(name)]


@pytest.mark.parametrize(
    ("override", "place"),
    [
        (f"backbone.name={HF}", "backbone.name"),
        ("+backbone.kwargs={auth: {api_key: abc}}", "backbone.kwargs.auth.api_key"),
        ("runs_dir=s3://key:secret@bucket/x", "runs_dir"),
        ("dataset.classes=[a,'ftp://me:pw@host/b']", "dataset.classes"),
    ],
)
def test_a_secret_that_a_run_would_need_is_refused(override, place):
    with pytest.raises(CheckError) as caught:
        compose([override])
    assert f"- {place}: looks like a secret" in str(caught.value)
    assert "HF_TOKEN" in str(caught.value)


def test_a_mask_that_was_frozen_is_no_secret():
    assert not list(secrecy.places({"token": "***", "url": "postgresql://me:***@host/db"}))


@pytest.mark.parametrize(
    ("address", "password", "there"),
    [
        (
            "postgresql+psycopg://me:***@host/db",
            "p@s/s",
            "postgresql+psycopg://me:p%40s%2Fs@host/db",
        ),
        ("postgresql+psycopg://me:***@host/db", None, "postgresql+psycopg://me@host/db"),
        ("postgresql+psycopg://me:pw@host/db", "other", "postgresql+psycopg://me:pw@host/db"),
        ("sqlite:///a.db", "pw", "sqlite:///a.db"),
    ],
)
def test_the_password_of_a_storage_is_given_back_to_its_processes(address, password, there):
    import sqlalchemy as sa

    assert secrecy.opened(address, password) == there
    if password and "***" in address:
        assert sa.make_url(there).password == password == secrecy.password_of(there)


def test_a_manifest_holds_no_secret(tmp_path):
    line = ("tlx", "train", f"tags=[{HF}]", "search.storage=postgresql://me:pass-word@host/db")
    run = manifest.PlannedRun(run="a", arm="a", seed=0, overrides=line[2:])
    written = manifest.Manifest(
        study="s", question=None, design="arms", baseline="a", metric="test/accuracy", mode="max",
        directions={}, claims=(), seeds=(0,), arms=("a",), factors={}, tuned={}, runs=(run,),
        parents=(), command=line, created="", search={"storage": line[3].partition("=")[2]},
    )  # fmt: skip
    text = manifest.write(tmp_path, written).read_text(encoding="utf-8")
    assert HF not in text
    assert "pass-word" not in text
    assert manifest.read(tmp_path).search == {"storage": "postgresql://me:***@host/db"}
    assert manifest.read(tmp_path).runs[0].overrides[0] == "tags=[***]"


def files_with(text, folder):
    return [
        str(p) for p in Path(folder).rglob("*") if p.is_file() and text.encode() in p.read_bytes()
    ]


@pytest.mark.slow
def test_nothing_that_a_run_writes_holds_a_secret_and_it_runs_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_BASE_URL", "http://me:basepassword@127.0.0.1:9")
    hidden = ("tagpassword", "storagepassword", HF)
    secret = (
        "tags=['https://me:tagpassword@host/x']",
        "search.storage=postgresql+psycopg://me:storagepassword@host/db",
        f"name={HF}",
        f"+executor.kwargs={{comment: {HF}}}",
    )
    line = [*SMALL, "logger=[csv,wandb]", f"runs_dir={tmp_path}/runs"]
    assert cli.main(["train", *line, *secret]) == 0
    folder = tmp_path / "runs" / run_id(compose(line))  # the id is that without secrets
    assert execute.finished(folder) is not None
    for text in (*hidden, "basepassword"):
        assert not files_with(text, tmp_path)
    assert run_id(runs.read_config(folder)) == folder.name
    assert "***" in (folder / "overrides.txt").read_text()
    assert cli.main(["rerun", folder.name, "--runs-dir", str(folder.parent)]) == 0
    out = capsys.readouterr().out
    assert "every figure is equal" in out
    assert cli.main(["train", *line, *secret]) == 0
    assert "is finished already" in capsys.readouterr().out


def test_why_a_run_failed_is_recorded_without_secrets(tmp_path):
    config = compose([*SMALL, f"runs_dir={tmp_path}"])
    folder = tmp_path / "run"
    runs.write_config(folder, config)
    execute.fail(folder, "no connection to postgresql://me:pw-of-mine@host/db")
    said = json.loads((folder / "record.json").read_text())["error"]
    assert said == "no connection to postgresql://me:***@host/db"


def test_messages_on_the_screen_are_masked(capsys):
    assert cli.main(["train", f"dataset.rot={HF}", "--check"]) == 2
    assert HF not in "".join(capsys.readouterr())
    assert cli.main(["train", "search.storage=postgresql://me:pw-of-mine@h/d", "--check"]) == 0
    out = capsys.readouterr().out
    assert "me:***@h/d" in out
    assert "pw-of-mine" not in out
