"""Random changes of images: the shift of the reference, in whole pixels; and how long a change lasts."""

import numpy as np
import torch
from torch.nn import functional as F

from rf_agent.demos.augment import draw_colors, draw_offsets, jitter_colors, shift


def reference_shift(images, pad, drawn):
    """As the reference shifts: the border repeated by `pad`, then sampled on a grid moved by `drawn` in [0, 2 pad].

    Args:
        images: (N, C, S, S).
        pad: pixels.
        drawn: (N, 2) moves (x, y).
    """
    n, _, size, _ = images.shape
    padded, whole = F.pad(images, (pad,) * 4, "replicate"), size + 2 * pad
    line = torch.linspace(-1 + 1 / whole, 1 - 1 / whole, whole)[:size].expand(size, size)
    grid = torch.stack((line, line.T), dim=-1).expand(n, size, size, 2) + drawn[:, None, None] * 2 / whole
    return F.grid_sample(padded, grid, padding_mode="zeros", align_corners=False)


def test_the_shift_is_that_of_the_reference():
    torch.manual_seed(0)
    pixels = torch.randn(6, 2, 3, 30, 30)
    pads = 10, 4
    offsets = torch.stack([torch.randint(-pad, pad + 1, (6, 2)) for pad in pads], dim=1)  # (6, V, 2)
    offsets[0], offsets[1] = torch.tensor([[-10, 10], [4, -4]]), 0
    moved = shift(pixels, offsets)
    for view, pad in enumerate(pads):
        expected = reference_shift(pixels[:, view], pad, (offsets[:, view] + pad).flip(-1))
        torch.testing.assert_close(moved[:, view], expected, atol=1e-4, rtol=0)
    assert torch.equal(moved[1], pixels[1])
    assert set(moved.unique().tolist()) <= set(pixels.unique().tolist())  # whole pixels: nothing is interpolated


def test_all_shifts_up_to_the_largest_are_drawn_for_each_view_by_itself():
    drawn = draw_offsets([1] * 4000, (10, 4), np.random.default_rng(0))
    assert drawn.shape == (4000, 2, 2)
    for view, largest in enumerate((10, 4)):
        for axis in range(2):
            values, counts = np.unique(drawn[:, view, axis], return_counts=True)
            assert values.tolist() == list(range(-largest, largest + 1))
            assert counts.min() > 0.6 * counts.mean()
    assert abs(np.corrcoef(drawn.reshape(4000, 4).T) - np.eye(4)).max() < 0.1


def test_a_sequence_is_changed_alike():
    rng = np.random.default_rng(0)
    for drawn in (draw_offsets([3, 1, 4], (10, 4), rng), draw_colors([3, 1, 4], 2, rng)):
        first, second, third = np.split(drawn, [3, 4])
        assert (first == first[0]).all() and (third == third[0]).all()
        assert not (first[0] == second[0]).all() and not (second[0] == third[0]).all()


def test_colors_change_as_their_numbers_say():
    pixels = torch.randn(1, 1, 3, 4, 4)
    numbers = torch.tensor([[[1.0, -1.0, 3.0, 0.0, -3.0]]])  # contrast, brightness, tint
    changed = jitter_colors(pixels, 0.1, numbers)
    expected = pixels * 1.1 - 0.1 + torch.tensor([0.1, 0.0, -0.1])[:, None, None]
    torch.testing.assert_close(changed, expected)
    assert torch.equal(jitter_colors(pixels, 0.0), pixels)
