from pathlib import Path

import pytest
import torch

from search_spaces.datasets import Digits, Split
from search_spaces.losses import Softmax
from search_spaces.trial_config import Measure, TrialConfig
from study.data import digits
from study.data.build import DataError, load_trial_data

TRIAL = TrialConfig(
    dataset=Digits(images_per_class=5),
    split=Split(order="label", train_classes=4, val_classes=3, test_classes=2),
    loss=Softmax(),
    epochs=1,
)


def test_parts_hold_their_classes_with_labels_from_zero(tmp_path: Path) -> None:
    data = load_trial_data(TRIAL, tmp_path, tmp_path)
    assert data.val is not None
    assert data.test is not None
    assert [part.names for part in (data.train, data.val, data.test)] == [tuple("0123"), tuple("567"), tuple("89")]
    for part in (data.train, data.val, data.test):
        assert part.labels.bincount().tolist() == [5] * len(part.names)
        assert part.images.shape == (5 * len(part.names), 1, 32, 32)
        assert part.images.dtype == torch.float32
        assert 0.0 <= part.images.min() < 0.5 < part.images.max() <= 1.0


def test_labels_name_the_right_images(tmp_path: Path) -> None:
    data = load_trial_data(TRIAL, tmp_path, tmp_path)
    whole = digits.load(Digits(images_per_class=5))
    assert data.test is not None
    expected = torch.from_numpy(whole.pixels[whole.labels == 9]).unsqueeze(1) / 255
    assert torch.equal(data.test.images[data.test.labels == 1], expected)


def test_a_trial_that_does_not_measure_test_classes_does_not_get_them(tmp_path: Path) -> None:
    search = TRIAL.replace(measure=Measure(test=False))
    assert load_trial_data(search, tmp_path, tmp_path).test is None


def test_without_validation_classes_there_is_no_val(tmp_path: Path) -> None:
    split = Split(train_classes=4, val_classes=0, test_classes=2)
    assert load_trial_data(TRIAL.replace(split=split), tmp_path, tmp_path).val is None


def test_a_second_trial_of_one_process_shares_the_tensors(tmp_path: Path) -> None:
    first = load_trial_data(TRIAL, tmp_path, tmp_path)
    assert load_trial_data(TRIAL.replace(epochs=7), tmp_path, tmp_path) is first


def test_too_few_classes_are_an_error_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="= 11, but digits has 10"):
        load_trial_data(TRIAL.replace(split=Split(train_classes=5, val_classes=3, test_classes=3)), tmp_path, tmp_path)
