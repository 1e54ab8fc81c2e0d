from __future__ import annotations

import torch

from study.losses.running import RunningMean


def test_a_mean_weighs_batches_by_their_counts_and_is_forgotten_once_taken() -> None:
    mean = RunningMean()
    mean.add(torch.tensor(6.0), torch.tensor(3))
    mean.add(torch.tensor(4.0), torch.tensor(1))
    assert mean.take() == 2.5
    assert mean.take() is None


def test_the_mean_of_nothing_is_none() -> None:
    mean = RunningMean()
    mean.add(torch.tensor(0.0), torch.tensor(0))
    assert mean.take() is None


def test_small_values_are_not_lost_among_many() -> None:
    mean = RunningMean()
    mean.add(torch.tensor(2.0**24), torch.tensor(1))
    mean.add(torch.tensor(1.0), torch.tensor(0))
    assert mean.take() == 2.0**24 + 1
