"""Where Hydra reads our groups and experiments from."""

import re
from pathlib import Path

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tlx.base import bounds
from tlx.config.places import EXPERIMENT, conf_dir, experiments_dir
from tlx.config.problems import CheckError, Problem


class GroupsSource(ConfigSource):
    """A folder of config groups in which `experiment/NAME` is a whole config, not a group's node.

    tlx's own folder keeps its experiments beside conf/, in experiments/.
    """

    @staticmethod
    def scheme() -> str:
        """The part before `://`."""
        return "tlx"

    def load_config(self, config_path: str) -> ConfigResult:
        """The parsed file."""
        file = self._file(config_path)
        if not file.is_file():
            raise ConfigLoadError(f"Config not found : {file}")
        text = file.read_text(encoding="utf-8")
        config, header = _parse(text, file), self._get_header_dict(text[:512])
        if config_path.startswith(f"{EXPERIMENT}/"):
            header["package"] = "_global_"
        elif "/" in config_path and "defaults" in config:
            entries = OmegaConf.to_container(config.defaults)
            config.defaults = [_from_top(e) for e in entries] if isinstance(entries, list) else []
        return ConfigResult(provider=self.provider, path=str(file), config=config, header=header)

    def is_group(self, config_path: str) -> bool:
        """Whether the path is a folder."""
        return self._place(config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Whether the path is an option's file."""
        return self._file(config_path).is_file()

    def available(self) -> bool:
        """Whether the folder is there."""
        return Path(self.path).is_dir()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Names in a folder."""
        place = self._place(config_path)
        groups = {p.name for p in place.iterdir() if p.is_dir()}
        configs = {p.stem for p in place.glob("*.yaml")}
        if results_filter is ObjectType.GROUP:
            return sorted(groups)
        return sorted(configs if results_filter is ObjectType.CONFIG else groups | configs)

    def _place(self, config_path: str) -> Path:
        head, _, tail = config_path.partition("/")
        if head == EXPERIMENT and Path(self.path) == conf_dir():
            return experiments_dir() / tail
        return Path(self.path) / config_path

    def _file(self, config_path: str) -> Path:
        return self._place(config_path.removesuffix(".yaml") + ".yaml")


def _from_top(entry: object) -> object:
    """`override /task: X` in a group's file, as Hydra wants it: the group of the top level."""
    if not isinstance(entry, dict):
        return entry
    return {
        re.sub(r"^override\s+/([\w/]+)$", r"override /\1@_global_.\1", str(key)): value
        for key, value in entry.items()
    }


def _parse(text: str, file: Path) -> DictConfig | ListConfig:
    try:
        bounds.require_yaml(text, str(file))
        return OmegaConf.create(text) if text.strip() else OmegaConf.create({})
    except (YAMLError, OmegaConfBaseException) as error:
        raise CheckError([Problem(str(file), f"is not valid YAML: {one_line(error)}")]) from error
    except bounds.TooMuch as error:
        raise CheckError([Problem("config", one_line(error))]) from error


def one_line(error: Exception) -> str:
    """An error's text without its line breaks."""
    return " ".join(str(error).split())
