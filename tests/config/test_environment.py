"""Environment variables in configs: only what the person's own settings allow is read."""

import pytest
from omegaconf import OmegaConf

from tlx.config.check import CheckError
from tlx.config.compose import compose

VALUE = "what-nobody-may-see"


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("TLX_SETTINGS", str(path))
    monkeypatch.setenv("MINE", VALUE)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:MINE}",
        "${oc.env:MINE,other}",
        "before ${oc.env:MINE} after",
        "${oc.decode:${oc.env:MINE}}",
        "${oc.env:${name_of}}",
        "${oc.env:NOT_THERE,other}",
    ],
)
def test_a_config_reads_no_variable_that_is_not_allowed(text, settings):
    with pytest.raises(CheckError) as caught:
        compose([f"name='{text}'", "arm=MINE"] if "name_of" not in text else _indirect(text))
    said = str(caught.value)
    variable = "NOT_THERE" if "NOT_THERE" in text else "MINE"
    assert f'allow_environment = ["{variable}"] in {settings}' in said
    assert VALUE not in said
    assert "full_key" not in said


def _indirect(text):
    return ["arm=MINE", f"name='{text.replace('name_of', 'arm')}'"]


@pytest.mark.parametrize(
    "lines",
    [
        ["defaults:", "  - override /backbone: ${oc.env:MINE}", "  - _self_"],
        ["defaults:", "  - _self_", "name: ${oc.env:MINE}"],
        ["defaults:", "  - _self_", "dataset:", "  classes: ['${oc.env:MINE}']"],
    ],
)
def test_nor_does_somebody_elses_experiment(lines, tmp_path):
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    (folder / "shared.yaml").write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckError) as caught:
        compose(["experiment=shared"], tmp_path / "own")
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize("allowed", ["MINE", "MI*"])
def test_what_the_settings_allow_is_read(allowed, settings):
    settings.write_text(f'allow_environment = ["{allowed}"]\n')
    assert compose(["name='${oc.env:MINE}'"])["name"] == VALUE
    with pytest.raises(CheckError, match="OTHER"):
        compose(["name='${oc.env:OTHER}'"])


def test_where_a_persons_files_are_is_no_secret(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert compose(["runs_dir='${oc.env:SCRATCH}/runs'"])["runs_dir"] == "/scratch/me/runs"
    monkeypatch.delenv("SCRATCH")
    assert compose(["runs_dir='${oc.env:SCRATCH,here}'"])["runs_dir"] == "here"
    with pytest.raises(CheckError, match="'SCRATCH' not found"):
        compose(["runs_dir='${oc.env:SCRATCH}'"])


def test_other_configs_of_the_process_read_as_before():
    compose([])
    with pytest.raises(CheckError):
        compose(["name='${oc.env:MINE}'"])
    assert OmegaConf.to_container(OmegaConf.create({"a": "${oc.env:MINE}"}), resolve=True) == {
        "a": VALUE
    }
