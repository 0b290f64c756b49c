"""Number formats of images, and the corrections that make one image of another."""

from __future__ import annotations

import numpy as np
import pytest

from rf_agent.diagnosis.images import (
    Correction,
    as_size,
    corrections,
    difference,
    histogram_distance,
    matched_tones,
    read_images,
    same_geometry,
)


@pytest.fixture
def scene() -> np.ndarray:
    """Images (4, 24, 24, 3) of a red bar above a green square, which no turning leaves as it is."""
    images = np.full((4, 24, 24, 3), 60, np.uint8)
    images[:, 2:6, 2:20] = (200, 30, 20)
    images[:, 12:18, 4:10] = (20, 180, 30)
    for frame in range(4):
        images[frame, 20, 5 * frame] = 255
    return images


def test_images_of_floats_are_read_by_their_range(scene):
    for values, scaled in (((scene / 255).astype(np.float32), True), (scene / 127.5 - 1, True), (scene * 1.0, False)):
        read, form = read_images(values)
        assert difference(read, scene) < 0.6
        assert form.problem and form.scaled == scaled and not form.lost


def test_images_that_were_cut_to_zero_and_one_are_lost(scene):
    _, form = read_images((scene / 255).astype(np.uint8))
    assert form.lost and form.scaled


def test_images_with_channels_first_are_turned(scene):
    read, form = read_images(np.moveaxis(scene, -1, 1))
    assert np.array_equal(read, scene) and "channels before rows" in form.problem


def test_good_images_are_left_alone(scene):
    read, form = read_images(scene)
    assert read is scene or np.array_equal(read, scene)
    assert form.problem == "" and form.shape == (24, 24, 3)


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match=r"\(5, 7\).*expected"):
        read_images(np.zeros((5, 7)))


def test_every_correction_undoes_itself(scene):
    images = {"a": scene, "b": scene[:, ::-1] // 2}
    for correction in corrections("a", ["a"]):
        turned = {"a": correction(images)}
        assert np.array_equal(correction(turned), scene)


def test_the_simplest_correction_comes_first():
    every = list(corrections("a", ["a", "b"]))
    assert every[0] == Correction("a") and every[0].described("a") == ""
    assert len(every) == 2 * 4 * 2
    complexities = [correction.complexity("a") for correction in every]
    assert complexities == sorted(complexities)
    assert Correction("b", "upside down", True).described("a") == (
        "is that of b and is upside down and has red and blue exchanged"
    )


def test_other_light_keeps_the_geometry_and_another_place_does_not(scene):
    brighter = np.clip(scene * 1.2 + 20, 0, 255).astype(np.uint8)
    assert min(same_geometry(scene, brighter)) > 0.9
    assert difference(scene, matched_tones(brighter, scene)) < 0.2 * difference(scene, brighter)
    assert histogram_distance(scene, brighter) > 20
    moved = np.roll(scene, 9, axis=2)
    assert max(same_geometry(scene, moved)) < 0.5
    assert histogram_distance(scene, moved) == 0


def test_images_are_resized_to_any_size(scene):
    assert as_size(scene, 24, 24) is scene
    assert as_size(scene, 12, 12).shape == (4, 12, 12, 3)
    assert as_size(scene, 12, 30).shape == (4, 12, 30, 3)
