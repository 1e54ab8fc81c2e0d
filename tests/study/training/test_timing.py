from pathlib import Path

import pytest

from search_spaces.datasets import Batches, Digits, Split
from search_spaces.losses import NormalizedSoftmax
from search_spaces.schedules import ConstantScale
from search_spaces.trial_config import Measure, TrialConfig
from study.data.build import TrialData
from study.records import EpochResult
from study.training import timing
from study.training.train import Measured

TRIAL = TrialConfig(
    dataset=Digits(),
    split=Split(train_classes=6, val_classes=4, test_classes=3),
    loss=NormalizedSoftmax(scale=ConstantScale(value=8.0)),
    batches=Batches(size=3),
    epochs=1,
)


class Clock:
    """Stands for a Trainer whose first epoch takes long and whose second takes 1 s to train and 2 s to measure."""

    def __init__(self, trial: TrialConfig, seed: int, data: TrialData) -> None:
        self.epochs_done, self._epochs = 0, trial.epochs
        Clock.data = data

    def run_epoch(self) -> Measured:
        self.epochs_done += 1
        assert self.epochs_done <= self._epochs
        times = {1: (100.0, 100.0), 2: (1.0, 2.0)}[self.epochs_done]
        return Measured(EpochResult(epochs_done=self.epochs_done, metrics={}, train_s=times[0], eval_s=times[1]))


@pytest.mark.parametrize(
    ("accuracy", "seconds"),
    [
        # Training: 18 of 36 images were taken (three classes, as a batch has three images).
        # Measured: 12 of 24 and 12 of 18 images (two classes hold the ten that are wanted).
        (False, 1 * 36 / 18 + 2 * (24 + 18) / (12 + 12)),
        (True, 1 * 36 / 18 + 2 * (24 + 18 + 36) / (12 + 12 + 18)),
    ],
)
def test_a_sample_is_scaled_to_all_images(
    accuracy: bool, seconds: float, data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SAMPLE_IMAGES", 10)
    monkeypatch.setattr(timing, "Trainer", Clock)
    monkeypatch.setattr(timing, "load_trial_data", lambda *_: data)
    trial = TRIAL.replace(measure=Measure(train_accuracy=accuracy))
    assert timing.seconds_per_epoch(trial, Path(), Path()) == pytest.approx(seconds)
    assert Clock.data.train.labels.tolist() == [label for label in range(3) for _ in range(6)]
    assert Clock.data.train.names == data.train.names


def test_a_real_trial_is_timed(data: TrialData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "load_trial_data", lambda *_: data)
    assert timing.seconds_per_epoch(TRIAL, Path(), Path()) > 0
