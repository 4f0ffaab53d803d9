"""What only the user's own settings file can allow."""

import pytest

from tlx.config.check import CheckError, allowed_targets
from tlx.config.compose import compose
from tlx.config.settings import Settings, load_settings

REMOTE = "++backbone.kwargs.trust_remote_code=true"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("TLX_SETTINGS", str(path))
    return path


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's module and option file for it."""
    (tmp_path / "mynets.py").write_text(
        "raise SystemExit('imported')\n"
        "def net(*, name: str, width: int = 3, init: str = 'none'): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own" / "backbone").mkdir(parents=True)
    file = tmp_path / "own" / "backbone" / "mynet.yaml"
    file.write_text("_target_: mynets.net\nname: x\n")
    return tmp_path / "own"


def test_nothing_is_allowed_without_a_file(settings):
    assert load_settings() == Settings()
    with pytest.raises(CheckError, match="not allowed"):
        compose(["++optimizer._target_=os.system"])
    with pytest.raises(CheckError, match="trust_remote_code"):
        compose([REMOTE])


def test_own_targets_are_checked_without_importing_them(settings, own):
    with pytest.raises(CheckError, match=r"mynets\.net"):
        compose(["backbone=mynet"], own)
    settings.write_text('allow_targets = ["mynets.net"]\n')
    assert "mynets.net" in allowed_targets()
    assert compose(["backbone=mynet"], own)["backbone"]["width"] == 3
    with pytest.raises(CheckError, match="did you mean 'width'"):
        compose(["backbone=mynet", "backbone.widht=4"], own)


def test_an_allowed_target_that_does_not_exist(settings, own):
    settings.write_text('allow_targets = ["mynets.other", "nowhere.net"]\n')
    for target in ("mynets.other", "nowhere.net"):
        with pytest.raises(CheckError, match="names no function"):
            compose([f"backbone._target_={target}"])


def test_remote_code_can_be_allowed_but_not_by_a_config(settings):
    with pytest.raises(CheckError, match="allow_remote_code"):
        compose([REMOTE, "+allow_remote_code=true"])
    settings.write_text("allow_remote_code = true\n")
    assert compose([REMOTE])["backbone"]["kwargs"] == {"trust_remote_code": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("allow_target = []", "did you mean 'allow_targets'"),
        ("allow_targets = 'os.system'", "list of dotted names"),
        ("allow_environment = 'HOME'", "list of names of variables"),
        ("allow_remote_code = 'yes'", "true or false"),
        ("a = [", "not valid TOML"),
    ],
)
def test_a_wrong_settings_file_is_an_error(settings, text, message):
    settings.write_text(text)
    with pytest.raises(CheckError, match=message):
        load_settings()
