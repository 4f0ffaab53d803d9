"""From overrides to one plain config: Hydra's groups, our own errors."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tlx.config import schema
from tlx.config.check import check as find_problems
from tlx.config.check import schema_signature
from tlx.config.identity import normalise
from tlx.config.places import EXPERIMENT, Library, conf_dir
from tlx.config.problems import CheckError, Problem
from tlx.config.source import Source, one_line
from tlx.config.suggest import listed, nearest

Config = dict[str, Any]


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
    library, problems = _library(config_dir)
    kept: list[str] = []
    for text in overrides:
        line, problem = _prepared(text, library)
        if problem is not None:
            problems.append(problem)
        elif line is not None:
            kept.append(line)
    try:
        config = normalise(_composed(one_budget(kept), library))
    except CheckError as error:
        raise CheckError([*problems, *error.problems]) from error
    if check:
        problems += find_problems(config)
    if problems:
        raise CheckError(problems)
    return config


def one_budget(overrides: list[str]) -> list[str]:
    """Overrides in which a budget in steps takes the place of one in epochs, or the other way.

    >>> one_budget(["++trainer.steps=60"])
    ['++trainer.steps=60', '++trainer.epochs=null']
    """
    given = {text.lstrip("+").partition("=")[0] for text in overrides}
    names = {"trainer.steps", "trainer.epochs"}
    if len(names & given) != 1:
        return overrides
    (other,) = names - given
    return [*overrides, f"++{other}=null"]


def _library(config_dir: str | Path | None) -> tuple[Library, list[Problem]]:
    if config_dir is None:
        return Library(), []
    own = Path(config_dir).expanduser().absolute()
    if not own.is_dir():
        return Library(), [Problem("--config-dir", f"{own} is no folder")]
    library, problems = Library(own), []
    for folder in sorted(p for p in own.iterdir() if p.is_dir() and p.name[0] not in "._"):
        if folder.name not in Library().groups():
            near = nearest(folder.name, Library().groups())
            problems.append(
                Problem(str(folder), f"is no group; there are {listed(Library().groups())}", near)
            )
        problems += [
            Problem(str(files[-1]), f"{folder.name}={option} is tlx's own; give it another name")
            for option, files in library.options(folder.name).items()
            if len(files) > 1
        ]
    return library, problems


def _prepared(text: str, library: Library) -> tuple[str | None, Problem | None]:
    """An override as Hydra should read it, or what is wrong with it."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        key, equals, value = text.partition("=")
        if not equals:
            near = nearest(key, library.groups() | {*schema.NODES, "seed", "name"})
            return None, Problem(text, "is no override; give key=value", near and f"{near}=…")
        quoted = f"'{key}=\"{value}\"'"
        return None, Problem(key, f"{value!r} cannot be read ({_first_line(error)})", quoted)
    key = override.key_or_group
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        return None, Problem(key, "Hydra's own settings are not open; use tlx's keys")
    if override.is_sweep_override():
        return None, Problem(
            key,
            f"{text!r} holds several values; start one run a value, make them the arms of a "
            f"study, or write a list as {key}=[…]",
        )
    if key in library.groups():
        return _choice(override, text, library)
    if override.type is OverrideType.CHANGE and override.package is None:
        return f"++{text}", None
    return text, None


def _choice(override: Override, text: str, library: Library) -> tuple[str | None, Problem | None]:
    group, value = override.key_or_group, override.value()
    options = library.options(group)
    if value is None and group in schema.LIST_GROUPS:
        return f"{group}=[]", None
    names = value if isinstance(value, list) else [value]
    if isinstance(value, list) and group not in schema.LIST_GROUPS:
        return None, Problem(group, f"takes one option, not {value}")
    if isinstance(value, dict):
        return None, Problem(group, "takes the name of an option; set keys one by one")
    for name in names:
        if name is not None and not (
            isinstance(name, str) and name.removesuffix(".yaml") in options
        ):
            near = nearest(str(name), options)
            message = f"{name!r} is no option; there are {listed(options, most=40)}"
            return None, Problem(group, message, near)
    if (
        group in schema.LIST_GROUPS
        and not isinstance(value, list)
        and override.type is OverrideType.CHANGE
    ):
        return f"{group}=[{value}]", None
    return text, None


def _composed(overrides: Iterable[str], library: Library) -> Config:
    for source in (Source, ImportlibResourcesConfigSource, StructuredConfigSource):
        SourcesRegistry.instance().register(source)
    search_path = ConfigSearchPathImpl()
    search_path.append("hydra", "pkg://hydra.conf")
    search_path.append("main", f"tlx://{conf_dir()}")
    if library.own is not None:
        search_path.append("user", f"tlx://{library.own}")
    search_path.append("schema", "structured://")
    base = version.VersionBase.instance().getbase()
    version.setbase("1.3")
    try:
        loader = ConfigLoaderImpl(config_search_path=search_path)
        composed = loader.load_configuration("config", list(overrides), RunMode.RUN)
        OmegaConf.set_struct(composed, False)
        composed.pop("hydra", None)
        # so that `${seed}` is there, whoever states it
        for name, parameter in schema_signature("Config").parameters.items():
            if name not in composed:
                composed[name] = parameter.default
        plain = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise CheckError([_explained(error, library)]) from error
    finally:
        version.VersionBase.instance().version_base = base
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key != EXPERIMENT}


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
        return Problem(name, _first_line(cause), nearest(name, library.groups()))
    if found := re.search(r"Interpolation key '([^']+)' not found", text):
        place = str(getattr(cause, "full_key", None) or "config")
        keys = {"seed", *(f"{g}.name" for g in schema.TARGET_GROUPS)}
        return Problem(place, f"${{{found[1]}}} is no key", nearest(found[1], keys))
    if found := re.search(r"Could not delete from config\. '?([\w.]+)'?", text):
        return Problem(found[1], "is not there to be deleted")
    place = str(getattr(cause, "full_key", None) or "config")
    return Problem(place, one_line(cause))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
