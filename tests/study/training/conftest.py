from pathlib import Path

import pytest
import torch

from study.data.build import LabeledImages, TrialData


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests of a session: drawing the glyphs takes seconds."""
    return tmp_path_factory.getbasetemp() / "dataset-cache"


@pytest.fixture(scope="session")
def data() -> TrialData:
    """Made-up images: one random blot a class, with noise; 6 training, 4 validation, 3 test classes of 6 images."""
    draws = torch.Generator().manual_seed(0)

    def part(classes: int) -> LabeledImages:
        labels = torch.arange(classes).repeat_interleave(6)
        blots = torch.rand(classes, 1, 4, 4, generator=draws).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
        noise = 0.2 * torch.randn(len(labels), 1, 32, 32, generator=draws)
        return LabeledImages((blots[labels] + noise).clamp(0, 1), labels, tuple(map(str, range(classes))))

    return TrialData(part(6), part(4), part(3))
