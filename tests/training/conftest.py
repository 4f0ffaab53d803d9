"""Data that several tests of training read."""

import pytest

import texts


@pytest.fixture(scope="session")
def texts_in_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Overrides of a run on real texts: on their `classes`, on their `language`."""
    return texts.written(tmp_path_factory.mktemp("texts"))
