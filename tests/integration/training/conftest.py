from __future__ import annotations

from pathlib import Path

import pytest

from every_recipe import write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and data for every recipe; see `every_recipe`."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder
