"""README.md: its commands parse, its overrides compose, its Python runs, its links lead on."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

import tlx
from tlx import cli
from tlx.config.places import Library

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLACEHOLDER = "..."


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def commands():
    """Every `tlx ...` of the bash blocks, also those that a comment names after two spaces."""
    found = []
    for line in "".join(blocks("bash")).splitlines():
        command, _, comment = line.partition("#")
        second = re.search(r"\btlx \w+ \w+", comment)
        found += [command.strip()] if command.startswith("tlx ") else []
        found += [second[0]] if second else []
    return found


def words(command):
    """Arguments without the places that the reader fills in."""
    return [word for word in shlex.split(command)[1:] if PLACEHOLDER not in word]


def test_there_is_something_to_check():
    assert len(commands()) >= 8
    assert blocks("python")
    assert {shlex.split(command)[1] for command in commands()} >= {"train", "list", "predict"}


@pytest.mark.parametrize("command", commands())
def test_command_parses(command):
    assert cli.parsed(words(command)).command


def photos(root):
    """An image folder as the README describes it."""
    for split in ("train", "test"):
        for shade, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for index in range(3):
                color = (80 * shade, 40 * index, 9 * len(split))
                Image.new("RGB", (8, 8), color).save(root / split / name / f"{index}.png")


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("tlx train")])
def test_command_checks_clean(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    photos(tmp_path / "photos")
    given = [word for word in words(command) if word != "--check"]
    assert cli.main([*given, "--check"]) == 0, capsys.readouterr().err
    assert "# run id: " in capsys.readouterr().out


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("tlx list")])
def test_list_command_lists(command, capsys):
    assert cli.main(words(command)) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("snippet", blocks("python"))
def test_python_runs(snippet, tmp_path, monkeypatch, capsys):
    """With a smaller network and budget, and without the network."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    small = [
        *("backbone=timm", "backbone.name=test_resnet", "backbone.init=none"),
        *("backbone.image_size=32", "dataset.labels_per_class=4", "trainer=cpu"),
        *("trainer.epochs=null", "trainer.steps=4"),
    ]
    compose = tlx.compose
    monkeypatch.setattr(
        tlx, "compose", lambda overrides: (compose(overrides), compose([*overrides, *small]))[1]
    )
    try:
        exec(compile(snippet, "README.md", "exec"), {})
    finally:
        torch.set_num_threads(threads)
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"Value\(value=[01]\.\d*, low=[01]\.\d*, high=[01]\.\d*, n=719\)", last)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)", README))))
def test_link_leads_somewhere(target):
    if not target.startswith("http"):
        assert (ROOT / target).exists()


def test_options_that_the_axes_name_exist():
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", README, flags=re.MULTILINE)
    assert len(rows) >= 7
    for groups, options in rows:
        known = set()
        for group in re.findall(r"`(\w+)`", groups):
            known |= set(Library().options(group))
        for name in re.findall(r"`([\w]+)`", options):
            assert name in known, f"{groups}: {name}"
    lists = re.findall(r"^make (\w+)", "".join(blocks("bash")), flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{name}:", makefile, flags=re.MULTILINE) for name in lists)
