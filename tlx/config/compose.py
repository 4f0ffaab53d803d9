"""From overrides to one plain config: Hydra's groups, our own errors."""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

# importing these two registers the options that Hydra's own defaults name
import hydra._internal.core_plugins.basic_launcher
import hydra._internal.core_plugins.basic_sweeper  # noqa: F401
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.importlib_resources_config_source import (
    ImportlibResourcesConfigSource,
)
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tlx.config import environment, schema
from tlx.config.check import check as find_problems
from tlx.config.check import schema_signature
from tlx.config.identity import derived, normalise
from tlx.config.overrides import first_line, one_budget, parsed, prepared
from tlx.config.places import EXPERIMENT, Library, conf_dir
from tlx.config.problems import CheckError, Problem
from tlx.config.source import GroupsSource, one_line
from tlx.config.suggest import nearest

NO_PARTS_OF_HYDRA = [
    f"~hydra/{part}"
    for part in (
        *("output", "launcher", "sweeper", "help", "hydra_help", "hydra_logging", "job_logging"),
        "env",
    )
]
"""Hydra's own config is taken out of the tree; composing its parts is a third of the time."""
Config = dict[str, object]
Choices = dict[str, object]


def compose(
    overrides: list[str], config_dir: str | Path | None = None, *, check: bool = True
) -> Config:
    """The composed, resolved and normalised config, as plain data.

    Args:
        overrides: `group=option`, `key=value`, `+key=value`, `~key`, as in Hydra; a key that an
            option's file leaves at its default needs no `+`.
        config_dir: the user's own folder of groups, searched after tlx's.
        check: whether names, types and values are checked as well.

    Raises:
        CheckError: something is wrong; it lists everything that can be told at once.
    """
    return Composer(config_dir).compose(overrides, check=check)


class Composer:
    """Composes many configs: Hydra runs once per choice of groups, values are set on its tree.

    Option files that change after they were read are not seen: make a new Composer then.

    Args:
        config_dir: the user's own folder of groups, searched after tlx's.
    """

    def __init__(self, config_dir: str | Path | None = None) -> None:
        self.config_dir = config_dir
        self.library = Library.here(config_dir)
        self._problems = self.library.problems()
        self.loader = _loader(self.library)
        self._trees: dict[tuple[str, ...], tuple[DictConfig, Choices]] = {}
        self._are_groups: dict[str, bool] = {}

    def compose(self, overrides: Sequence[str], *, check: bool = True) -> Config:
        """The composed, resolved and normalised config, as plain data; equal to `compose`'s.

        Raises:
            CheckError: something is wrong; it lists everything that can be told at once.
        """
        kept, problems = self._prepared(overrides)
        try:
            config = normalise(self._composed(kept))
        except CheckError as error:
            raise CheckError([*problems, *error.problems]) from error
        if check:
            problems += find_problems(config)
        if problems:
            raise CheckError(problems)
        return config

    def derived(self, overrides: Sequence[str]) -> Mapping[str, str]:
        """Of each value that the overrides leave to be derived, by its key, where it comes from."""
        return derived(self._composed(self._prepared(overrides)[0]))

    def choices(self, overrides: Sequence[str]) -> Choices:
        """Group to the option that the overrides and the experiment choose; not of list groups.

        Raises:
            CheckError: the overrides' groups do not compose.
        """
        kept, _ = self._prepared(overrides)
        groups = [text for text in kept if self._chooses(parsed(text))]
        try:
            return copy.deepcopy(self._tree(groups)[1])
        except (HydraException, OmegaConfBaseException) as error:
            raise CheckError([_explained(error, self.library)]) from error

    def _prepared(self, overrides: Sequence[str]) -> tuple[list[str], list[Problem]]:
        problems, kept = list(self._problems), []
        for text in overrides:
            line, problem = prepared(text, self.library)
            if problem is not None:
                problems.append(problem)
            elif line is not None:
                kept.append(line)
        return one_budget(kept), problems

    def _chooses(self, override: Override) -> bool:
        """Whether an override chooses an option: the same question as Hydra's `Overrides` asks."""
        key = override.key_or_group
        if key not in self._are_groups:
            self._are_groups[key] = self.loader.repository.group_exists(key)
        return self._are_groups[key] and not isinstance(override.value(), dict)

    def _composed(self, overrides: list[str]) -> Config:
        read = [parsed(text) for text in overrides]
        groups = [text for text, one in zip(overrides, read, strict=True) if self._chooses(one)]
        values = [one for one in read if not self._chooses(one)]
        try:
            tree = copy.deepcopy(self._tree(groups)[0])
            ConfigLoaderImpl._apply_overrides_to_config(values, tree)
            OmegaConf.set_struct(tree, False)
            # so that `${seed}` is there, whoever states it
            for name, parameter in schema_signature("Config").parameters.items():
                if name not in tree:
                    tree[name] = parameter.default
            with environment.guarded():
                plain = OmegaConf.to_container(tree, resolve=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise CheckError([_explained(error, self.library)]) from error
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items() if key != EXPERIMENT}

    def _tree(self, groups: list[str]) -> tuple[DictConfig, Choices]:
        """Hydra's tree for a choice of groups, interpolations and all, and the choices made."""
        key = tuple(groups)
        if key not in self._trees:
            base = version.VersionBase.instance().getbase()
            version.setbase("1.3")
            try:
                with environment.guarded():
                    tree = self.loader.load_configuration(
                        "config", [*groups, *NO_PARTS_OF_HYDRA], RunMode.RUN
                    )
            finally:
                version.VersionBase.instance().version_base = base
            chosen = {str(k): v for k, v in tree.hydra.runtime.choices.items()}
            OmegaConf.set_struct(tree, False)
            tree.pop("hydra")
            OmegaConf.set_struct(tree, True)  # as Hydra leaves it: `_apply_overrides…` counts on it
            self._trees[key] = tree, {k: v for k, v in chosen.items() if "/" not in k}
        return self._trees[key]


def _loader(library: Library) -> ConfigLoaderImpl:
    for source in (GroupsSource, ImportlibResourcesConfigSource, StructuredConfigSource):
        SourcesRegistry.instance().register(source)
    search_path = ConfigSearchPathImpl()
    search_path.append("hydra", "pkg://hydra.conf")
    search_path.append("main", f"tlx://{conf_dir()}")
    for folder in library.own:
        search_path.append("user", f"tlx://{folder}")
    search_path.append("schema", "structured://")
    return ConfigLoaderImpl(config_search_path=search_path)


def _explained(error: Exception, library: Library) -> Problem:
    """An error of Hydra or OmegaConf as one problem, with the nearest right name."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    text = str(cause) or str(error)
    if found := re.search(r"In '([^']+)': Could not find '([^']+)'", text):
        group, _, option = found[2].rpartition("/")
        near = nearest(option, library.options(group)) if group else None
        return Problem(group or found[1], f"{option!r} is no option, in {found[1]}", near)
    if found := re.search(r"Could not override '([^']+)'", text):
        name = found[1].partition("@")[0]
        return Problem(name, first_line(cause), nearest(name, library.groups() - {name}))
    if found := re.search(r"Interpolation key '([^']+)' not found", text):
        place = str(getattr(cause, "full_key", None) or "config")
        keys = {"seed", *(f"{g}.name" for g in schema.TARGET_GROUPS)}
        return Problem(place, f"${{{found[1]}}} is no key", nearest(found[1], keys))
    if found := re.search(r"Could not delete from config\. '?([\w.]+)'?", text):
        return Problem(found[1], "is not there to be deleted")
    place = str(getattr(cause, "full_key", None) or "config")
    if found := re.search(r"NotAllowed raised [^:]*: (.*?)( full_key: \S+.*)?$", one_line(cause)):
        return Problem(place, found[1])
    return Problem(place, one_line(cause))
