"""Environment variables in a config: read only where the person's own settings allow it."""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.resolvers import oc

from tlx.base.settings_file import settings_path
from tlx.config.settings import load_settings

HARMLESS = ("HOME", "USER", "LOGNAME", "TMPDIR", "SCRATCH", "WORK")
"""Variables that a config may name anyway: where this person's files are."""
READER = "oc.env"


class NotAllowed(ValueError):
    """A config names a variable that the person's settings do not allow."""


@contextmanager
def guarded() -> Iterator[None]:
    """Has `${oc.env:NAME}` refuse what is not allowed, while configs are composed (a mutator).

    What is read would be frozen in the run's folder, and sent to loggers: a shared experiment could
    ask for any secret of the person who trains it.
    """
    before = BaseContainer._resolvers[READER]
    allowed = (*HARMLESS, *sorted(load_settings().allow_environment))

    def read(key: str, *default: object) -> object:
        if not any(fnmatchcase(key, pattern) for pattern in allowed):
            raise NotAllowed(
                f"${{oc.env:{key}}} is refused: what it holds would be written and logged; "
                f'allow_environment = ["{key}"] in {settings_path()} permits it, and without '
                f"that there are {', '.join(HARMLESS)}"
            )
        return oc.env(key, *default)

    OmegaConf.register_new_resolver(READER, read, replace=True)
    try:
        yield
    finally:
        BaseContainer._resolvers[READER] = before
