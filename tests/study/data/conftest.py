from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests of a session: drawing the glyphs takes seconds."""
    return tmp_path_factory.getbasetemp() / "dataset-cache"
