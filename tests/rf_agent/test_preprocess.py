import numpy as np
import pytest
import torch
from PIL import Image
from policy_cases import as_bytes, make_observation

from rf_agent import preprocess
from rf_agent.config import ImageConfig
from rf_agent.instructions import instructions


@pytest.mark.filterwarnings("error")
def test_images_that_must_not_be_written_are_resized_without_a_warning():
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    fixed = np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape)
    assert not fixed.flags.writeable and image.flags.writeable
    assert np.array_equal(preprocess.resize(fixed, 16), preprocess.resize(image, 16))
    assert np.array_equal(fixed, image)


def test_resize_keeps_what_fits_and_averages_what_is_larger():
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    assert preprocess.resize(image, 200) is image
    half = preprocess.resize(np.full((5, 200, 100, 3), 77, dtype=np.uint8), 50)
    assert half.shape == (5, 50, 50, 3) and (half == 77).all()
    board = np.indices((200, 200)).sum(0) % 2 * np.uint8(200)  # every other pixel
    assert np.ptp(preprocess.resize(np.repeat(board[..., None], 3, -1).astype(np.uint8), 50)[5:-5]) <= 2


@pytest.mark.parametrize("side", [84, 200])
def test_bicubic_is_pillows(side):
    """As CLIP's own preprocessing; not so bilinear, the default."""
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(image).resize((112, 112), Image.Resampling.BICUBIC))
    batch = preprocess.resize(np.stack([image, image[::-1]])[None], 112, "bicubic")
    assert batch.shape == (1, 2, 112, 112, 3) and np.array_equal(batch[0, 0], wanted)
    assert (np.abs(preprocess.resize(image, 112) - wanted.astype(int)) > 2).mean() > 0.5


def test_stored_at_the_policys_size_is_what_the_policy_sees():
    observation = make_observation(0, n=3)
    small = {k: preprocess.resize(v, 32) for k, v in observation.items() if k.startswith("rgb")}
    views, config = ("rgb_static", "rgb_gripper"), ImageConfig(size=32)
    assert torch.equal(preprocess.pixels(observation, views, config), preprocess.pixels(small, views, config))


def test_image_resized_in_a_batch_or_alone_is_the_same():
    images = make_observation(1, n=4)["rgb_static"]
    assert np.array_equal(preprocess.resize(images, 112)[2], preprocess.resize(images[2], 112))


def test_normalise():
    config = ImageConfig(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    out = preprocess.normalise(torch.full((2, 4, 4, 3), 255, dtype=torch.uint8), config)
    assert out.shape == (2, 3, 4, 4)
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([1.0, 1.0, 0.0]))


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((3, 8, 8), np.uint8)])
def test_wrong_images_are_refused(image):
    with pytest.raises(ValueError, match="uint8"):
        preprocess.resize(image, 4)


@pytest.mark.parametrize(
    "value",
    [
        "öffne",
        ["öffne", "öffne"],
        np.array(["öffne", "öffne"]),
        np.array("öffne"),
        as_bytes("öffne"),
        np.stack([as_bytes("öffne")] * 2),
    ],
)
def test_every_form_of_an_instruction(value):
    assert instructions(value, 2) == ["öffne", "öffne"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x" * 257, "257 bytes"),
        ("", "empty"),
        (np.zeros(256, dtype=np.uint8), "empty"),
        (as_bytes("ö")[1:], "not UTF-8"),
        (["a", "b", "c"], "3 instructions were given for 2"),
        (3, "type int"),
    ],
)
def test_wrong_instructions_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        instructions(value, 2)


def test_missing_and_misshaped_observations_are_named():
    views = ("rgb_static", "rgb_gripper")
    observation = make_observation(0, n=2)
    with pytest.raises(ValueError, match="rgb_gripper"):
        preprocess.batch_size({k: v for k, v in observation.items() if k != "rgb_gripper"}, views)
    with pytest.raises(ValueError, match="shapes"):
        preprocess.batch_size({**observation, "rgb_gripper": observation["rgb_gripper"][:1]}, views)


def test_bicubic_keeps_the_middle_of_what_is_not_square():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :50], image[:, 150:] = 255, 255
    # at its edges interpolation sees what lies beyond, as it does where CLIP resizes before it crops
    assert preprocess.resize(image, 56, "bicubic")[:, 2:-2].max() == 0
    assert preprocess.resize(image.swapaxes(0, 1), 56, "bicubic")[2:-2].max() == 0
