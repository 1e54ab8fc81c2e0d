from __future__ import annotations

import numpy as np
import pytest
import torch

from search_spaces.datasets import RandomCrop, RandomResizedCrop
from study.data.crops import center_boxes, cut, draw_boxes
from study.data.draws import generator

N = 4000
HEIGHTS, WIDTHS = np.full(N, 256), np.full(N, 400)


def test_the_center_is_where_torchvision_takes_it() -> None:
    from torchvision.transforms.v2 import functional

    for height, width in ((256, 341), (257, 256), (300, 259), (224, 224)):
        photo = torch.arange(3 * height * width, dtype=torch.int64).remainder(251).to(torch.uint8)
        photo = photo.view(3, height, width)
        boxes = center_boxes(np.array([height]), np.array([width]), 224)
        assert torch.equal(cut([photo], boxes, 224)[0], functional.center_crop(photo, [224, 224]))


def test_rectangles_have_the_areas_and_aspects_asked_for() -> None:
    boxes = draw_boxes(HEIGHTS, WIDTHS, 224, RandomResizedCrop(), generator(0))
    top, left, height, width, flip = boxes.T
    areas, aspects = height * width / (256 * 400), width / height
    assert 0.078 < areas.min() < 0.09
    assert 0.8 < areas.max() <= 1.0
    assert 0.74 < aspects.min() < 0.76
    assert 1.32 < aspects.max() < 1.35
    # log aspect is even around 0; a wide photo lets wide rectangles fit more often.
    assert 0 < np.log(aspects).mean() < 0.05
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 256).all()
    assert (left + width <= 400).all()
    assert abs(flip.mean() - 0.5) < 0.04


def test_means_agree_with_torchvisions_own_draws() -> None:
    from torchvision.transforms import RandomResizedCrop as Theirs

    photo = torch.empty(3, 256, 400)
    torch.manual_seed(0)
    theirs = np.array([Theirs.get_params(photo, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(1000)])
    ours = draw_boxes(HEIGHTS, WIDTHS, 224, RandomResizedCrop(), generator(0))[:, :4]
    error = theirs.std(axis=0) / np.sqrt(1000) + ours.std(axis=0) / np.sqrt(N)
    assert (np.abs(theirs.mean(axis=0) - ours.mean(axis=0)) < 3 * error).all()


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 1000, (0, 434, 100, 133)), (1000, 100, (434, 0, 133, 100)), (100, 100, (0, 0, 100, 100))],
)
def test_where_no_try_fits_the_middle_is_taken(height: int, width: int, expected: tuple[int, ...]) -> None:
    # All of a photo far off the aspects allowed: 100 x 4/3 = 133, and (1000 - 133) / 2 is 433.5, cut to 433.
    config = RandomResizedCrop(area=(1.0, 1.0), aspect=(3 / 4, 4 / 3), flip=0.0)
    if height == width:
        config = config.replace(aspect=(1.0, 1.0))
        expected = (0, 0, 100, 100)
    boxes = draw_boxes(np.array([height]), np.array([width]), 50, config, generator(0))
    assert boxes[0].tolist()[2:] == [*expected[2:], 0]
    assert boxes[0].tolist()[:2] == pytest.approx(list(expected[:2]), abs=1)


def test_a_random_crop_is_a_square_anywhere() -> None:
    boxes = draw_boxes(HEIGHTS, WIDTHS, 224, RandomCrop(flip=0.25), generator(0))
    top, left, height, width, flip = boxes.T
    assert set(height) == set(width) == {224}
    assert (top.min(), top.max(), left.min(), left.max()) == (0, 32, 0, 176)
    assert abs(flip.mean() - 0.25) < 0.03


def test_one_stream_gives_one_set_of_boxes_and_another_another() -> None:
    first, again, other = (draw_boxes(HEIGHTS, WIDTHS, 224, RandomResizedCrop(), generator(seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_a_box_is_cut_resized_and_flipped() -> None:
    photo = torch.zeros(3, 40, 60, dtype=torch.uint8)
    photo[0, 10:30, 20:30], photo[2, 10:30, 30:40] = 200, 100  # red on the left, blue on the right
    boxes = np.array([[10, 20, 20, 20, 0], [10, 20, 20, 20, 1], [0, 0, 8, 8, 0]])
    squares = cut([photo, photo, photo], boxes, 8)
    assert squares.dtype == torch.uint8
    assert squares.is_contiguous(memory_format=torch.channels_last)
    assert squares[0, :, 4, 1].tolist() == [200, 0, 0]
    assert squares[0, :, 4, 6].tolist() == [0, 0, 100]
    assert torch.equal(squares[1], squares[0].flip(-1))
    assert squares[2].sum() == 0


def test_resizing_is_antialiased_as_pillow_does_it() -> None:
    from PIL import Image

    draws = torch.rand(3, 90, 70, generator=generator(0))
    photo = (draws * 255).to(torch.uint8)
    (square,) = cut([photo], np.array([[0, 0, 90, 70, 0]]), 16)
    pillow = Image.fromarray(photo.permute(1, 2, 0).numpy()).resize((16, 16), Image.Resampling.BILINEAR)
    difference = square.permute(1, 2, 0).to(torch.int64) - torch.from_numpy(np.array(pillow)).to(torch.int64)
    assert difference.abs().max() <= 1
