import torch

from search_spaces.datasets import Distort
from study.data.augment import distort
from study.data.draws import generator

ALL = Distort(elastic=0.06, contrast_low=0.4, background=0.35, noise=0.12)
NOTHING = Distort(rotation_degrees=0, scale=0, shear=0, shift=0)


def bars(n: int) -> torch.Tensor:
    """Images with one vertical bar of full ink."""
    images = torch.zeros(n, 1, 32, 32)
    images[:, :, 8:24, 14:18] = 1.0
    return images


def test_shape_and_range_stay_and_the_input_is_left_alone() -> None:
    images = bars(7)
    distorted = distort(images, ALL, generator(0))
    assert distorted.shape == images.shape
    assert distorted.dtype == torch.float32
    assert 0.0 <= distorted.min() < distorted.max() <= 1.0
    assert (images == bars(7)).all()


def test_one_stream_gives_one_distortion_and_another_another() -> None:
    assert (distort(bars(4), ALL, generator(0)) == distort(bars(4), ALL, generator(0))).all()
    assert (distort(bars(4), ALL, generator(0)) != distort(bars(4), ALL, generator(1))).any()


def test_each_image_gets_its_own_draws() -> None:
    distorted = distort(bars(4), Distort(), generator(0)).flatten(1)
    assert torch.cdist(distorted, distorted).fill_diagonal_(1.0).min() > 0.1


def test_all_widths_zero_leave_an_image_as_it_is() -> None:
    torch.testing.assert_close(distort(bars(2), NOTHING, generator(0)), bars(2), atol=1e-5, rtol=0)


def test_rotation_turns_the_bar_by_no_more_than_its_width() -> None:
    turned = distort(bars(64), NOTHING.replace(rotation_degrees=10.0), generator(0))[:, 0]
    y, x = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(32.0) - 15.5, indexing="ij")
    mass = turned.sum(dim=(1, 2))
    xy, xx, yy = ((turned * moment).sum(dim=(1, 2)) / mass for moment in (x * y, x * x, y * y))
    degrees = torch.rad2deg(0.5 * torch.atan2(2 * xy, yy - xx))  # of the main axis against the vertical
    assert degrees.abs().max() < 11
    assert degrees.std() > 4  # uniform on +-10 has 5.8
    assert abs(degrees.mean()) < 3


def test_shift_moves_by_its_share_of_the_image() -> None:
    moved = distort(bars(64), NOTHING.replace(shift=0.125), generator(0))[:, 0]
    centers = (moved.sum(dim=1) * (torch.arange(32.0) - 15.5)).sum(dim=1) / moved.sum(dim=(1, 2))
    assert 3.0 < centers.abs().max() <= 4.01  # .125 of 32 pixels


def test_contrast_and_noise_have_the_strength_asked_for() -> None:
    faded = distort(bars(64), NOTHING.replace(contrast_low=0.4), generator(0)).amax(dim=(1, 2, 3))
    assert 0.4 <= faded.min() < 0.5
    assert 0.9 < faded.max() <= 1.0
    gray = torch.full((8, 1, 32, 32), 0.5)
    inside = distort(gray, NOTHING.replace(noise=0.1), generator(0))[:, :, 2:-2, 2:-2]
    assert abs(inside.std().item() - 0.1) < 0.01


def test_the_background_never_covers_ink() -> None:
    images = bars(16)
    behind = distort(images, NOTHING.replace(background=0.35), generator(0))
    assert (behind >= distort(images, NOTHING, generator(0))).all()
    assert 0.1 < behind[:, :, :4].max() <= 0.45  # bicubic interpolation overshoots a little
