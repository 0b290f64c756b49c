"""From evidence to causes, the likeliest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

NAMED = 0.3
"""Likelihood from which a cause is named."""


@dataclass(frozen=True)
class Evidence:
    """Something that was found and points to a cause."""

    kind: str
    """A key of `TITLES`."""
    likelihood: float
    """How likely it makes the cause by itself, from 0 to 1."""
    text: str
    """What was found, as a sentence without its full stop."""
    where: str = ""
    """Where the fault sits: `environment`, `data`, `policy`, or empty if that is not known."""


@dataclass
class Cause:
    """Why a policy may score zero."""

    kind: str
    title: str
    likelihood: float
    where: str
    evidence: list[str] = field(default_factory=list)
    remedy: str = ""


TITLES = {
    "cameras_swapped": "Swapped cameras: the images of two views are exchanged",
    "view_mirrored": "Mirrored view: an image is mirrored or turned over",
    "channels_reversed": "BGR instead of RGB: red and blue are exchanged",
    "images_scaled": "Images scaled to [0, 1] (or of another number format) instead of uint8 from 0 to 255",
    "black": "A black camera: its images are zeros alone",
    "image_normalisation": "Image normalisation: the policy scales pixels otherwise than its family",
    "image_size": "Image size: the policy reads images of another size than its family",
    "renderer": "A different renderer: the same view in other colours or light",
    "camera_moved": "Another camera, scene or start: data and environment show different things",
    "scene": "Another scene than that of the data",
    "action_scale": "Action scale: actions in metres and radians, or other units, instead of shares of a step",
    "action_axis": "Reversed axis: an entry of the actions has the other sign",
    "gripper_sign": "Gripper sign: open and closed are exchanged",
    "replay_fails": "The recorded actions do not succeed in the environment",
    "window": "Wrong window: the policy remembers another number of observation steps than it was trained with",
    "language_model": "Wrong language model: language model or tokenizer are not those the policy was trained with",
    "lm_feature": "lm_feature: the head reads another hidden layer of the language model",
    "wording": "Unknown wordings: the environment asks in words that the policy does not understand",
    "unknown_tasks": "Unknown tasks: the policy was not trained on the tasks of the data",
    "rate": "Another control rate",
    "untrained": "Untrained policy",
    "damaged": "A damaged checkpoint: configuration and weights do not fit together",
    "bad_data": "Damaged demonstrations",
    "unexplained": "The policy does not know these demonstrations, for a reason that was not found",
}

TURN = "look at observations.png (--output), and turn the image back"
REMEDIES: dict[str, dict[str, str]] = {
    "cameras_swapped": {
        "": "exchange the two images, in the environment or in the data",
        "environment": "exchange the two images in the environment, or in a wrapper around it",
        "data": "exchange the two images in the demonstrations, and train again if they were used",
        "policy": "put `views` in the checkpoint's config.json into the order of training",
    },
    "view_mirrored": {
        "": f"{TURN}, in the environment or in the data",
        "environment": f"{TURN} in the environment, or in a wrapper around it",
        "data": f"{TURN} in the demonstrations, and train again if they were used",
    },
    "channels_reversed": {
        "": "reverse the channels, image[..., ::-1], in the environment or in the data",
        "environment": "reverse the channels in the environment, image[..., ::-1], or in a wrapper around it",
        "data": "reverse the channels in the demonstrations, images[..., ::-1], and train again if they were used",
    },
    "images_scaled": {
        "environment": "give uint8 images from 0 to 255: (255 * image).round().astype(np.uint8)",
        "data": "store uint8 images from 0 to 255: (255 * images).round().astype(np.uint8)",
    },
    "black": {
        "": "connect or render that camera; `black_cameras` of our environments does this on purpose",
        "data": "record these demonstrations again: what the camera saw is lost",
    },
    "image_normalisation": {"": "set image.mean and image.std in the checkpoint's config.json as named above"},
    "image_size": {"": "set image.size and image.resample in config.json as named above, unless it was trained so"},
    "renderer": {
        "": "use the renderer of the data (that of CALVIN is EGL, see `rf-agent doctor`), or train on images of this"
    },
    "camera_moved": {"": "look at observations.png (--output); set the scene and the camera's place as in the data"},
    "scene": {"": "give the environment of the data's scene, or a policy that was trained on several scenes"},
    "action_scale": {
        "": "convert the actions as named above, in the environment or in the data",
        "environment": "convert the policy's actions as named above, in a wrapper around the environment",
        "data": "convert the recorded actions as named above, and train again if they were used",
    },
    "action_axis": {"": "change the sign of the entry named above, in the environment or in the data"},
    "gripper_sign": {
        "": "change the gripper's sign, in the environment or in the data",
        "environment": "change the gripper's sign in a wrapper around the environment",
        "data": "change the gripper's sign in the demonstrations, and train again if they were used",
    },
    "replay_fails": {"": "give the environment, and its version, that the data come from; check rate and reset"},
    "window": {
        "": "set head.window in the checkpoint's config.json to that of training; ignore this if it was trained so"
    },
    "language_model": {
        "": "convert the checkpoint again with language model and tokenizer of its family (`rf-agent convert "
        "roboflamingo --language-model DIR`; those of M-3B and M-3B-IFT differ)"
    },
    "lm_feature": {"": "set language.lm_feature in the checkpoint's config.json as named above"},
    "wording": {"": "ask in wordings of the data, or train with more wordings"},
    "unknown_tasks": {"": "give demonstrations of the policy's tasks, or train it on these"},
    "rate": {"": "run the environment at the rate of the data, or convert the demonstrations"},
    "untrained": {"": "train it (`rf-agent train`), or convert trained weights"},
    "damaged": {"": "convert or copy the checkpoint again"},
    "bad_data": {"": "see `rf-agent inspect`, and collect or convert these demonstrations again"},
    "unexplained": {
        "": "train longer or on more of these tasks; convert a published checkpoint again with the language model of "
        "its family, and try it on the data that it was trained on"
    },
}
"""What to do about a cause, by where it sits; the empty place is for all others."""


def rank(evidence: Iterable[Evidence]) -> list[Cause]:
    """The causes that the evidence makes likely enough to name, the likeliest first.

    Pieces of evidence for one cause add up as independent ones do: 1 - (1 - a) (1 - b).
    """
    found: dict[str, Cause] = {}
    strongest: dict[str, float] = {}
    for piece in sorted(evidence, key=lambda one: -one.likelihood):
        cause = found.setdefault(piece.kind, Cause(piece.kind, TITLES[piece.kind], 0.0, ""))
        cause.likelihood = 1 - (1 - cause.likelihood) * (1 - piece.likelihood)
        cause.evidence.append(piece.text)
        if piece.where and not cause.where and piece.likelihood > strongest.get(piece.kind, 0.0):
            cause.where, strongest[piece.kind] = piece.where, piece.likelihood
    for cause in found.values():
        remedies = REMEDIES[cause.kind]
        cause.remedy = remedies.get(cause.where) or remedies.get("", "")
    named = [cause for cause in found.values() if cause.likelihood >= NAMED]
    return sorted(named, key=lambda cause: -cause.likelihood)
