"""One demonstration of any robot, and what those of one robot have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.config import INSTRUCTION_BYTES
from rf_agent.demos.files import DemoError


@dataclass(frozen=True)
class Layout:
    """What the demonstrations of one robot have in common."""

    cameras: tuple[str, ...]
    """Names of its camera images in the observation."""
    action_dim: int
    """Entries of an action (D)."""
    gripper: int | None = None
    """The entry of an action that opens or closes a gripper."""
    gripper_known: bool = True
    """Whether the file says so, or that there is none."""
    state: str | None = None
    """Name of its measured state in the observation, if it was recorded."""
    state_dim: int = 0
    """Entries of a state (S)."""
    fps: float | None = None
    """Actions a second."""
    frame_stride: int = 1
    """An image belongs to every n-th action."""
    bounded: bool = False
    """Whether the environment bounds all actions to [-1, 1], with a gripper that opens above zero."""
    paraphrased: bool = False
    """Whether all instructions of a task mean the same, so that training may exchange them."""

    def described(self) -> dict[str, Any]:
        """What a file must store to be read with this layout."""
        gripper = {"gripper": self.gripper} if self.gripper_known else {}
        return {
            "cameras": list(self.cameras),
            "state": self.state,
            **gripper,
            "fps": self.fps,
            "frame_stride": self.frame_stride,
            "bounded": self.bounded,
            "paraphrased": self.paraphrased,
        }


@dataclass
class Demonstration:
    """A task done once. Observations precede their action.

    Examples:
        >>> frames = np.zeros((50, 64, 64, 3), np.uint8)
        >>> actions = np.zeros((50, 4), np.float32)
        >>> demo = Demonstration({"front": frames}, actions, instruction="reach the red ball", task="reach")
    """

    images: dict[str, NDArray[np.uint8]]
    """By camera: (F, H, W, 3) uint8, one image for every action, or for every n-th with `Layout.frame_stride` n."""
    actions: NDArray[np.float32]
    """(T, D) in the environment's own units: what the demonstrator wanted, the labels."""
    instruction: str
    """What the robot was asked, in words."""
    task: str = ""
    """Name of the task, over which training is balanced; the instruction if there is none. Demonstrations of one task
    may have different goals, such as two colours: each keeps its own instruction."""
    state: NDArray[np.float32] | None = None
    """(T, S) measured state of the robot, or None."""
    success: bool = True
    """Whether the task was done in the end."""
    actions_executed: NDArray[np.float32] | None = None
    """(T, D) what was carried out where it differs from the labels, as under disturbances."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Whatever else is known, such as seed and scene: numbers, texts and truth values."""
    start: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Options of the environment's reset that bring its start back, where a seed does not: name to numbers."""

    def __post_init__(self) -> None:
        for key in ("instruction", "task"):
            if isinstance(value := getattr(self, key), str):  # numpy's, too, or with the zeros of an observation
                setattr(self, key, str(value).rstrip("\0"))
        for key in ("actions", "state", "actions_executed"):
            if np.iscomplexobj(getattr(self, key)):
                raise DemoError(f"{key} has complex numbers, expected float32")
        self.actions = np.asarray(self.actions, np.float32)
        self.images = {str(camera): np.asarray(images) for camera, images in self.images.items()}
        self.state = None if self.state is None else np.asarray(self.state, np.float32)
        if self.actions_executed is not None:
            self.actions_executed = np.asarray(self.actions_executed, np.float32)
        self.task = self.task or self.instruction

    def problems(self, layout: Layout) -> list[str]:
        """What keeps it from being stored or learned from, each naming its key; empty if nothing does."""
        frames = -(-len(self.actions) // layout.frame_stride)
        found = self._wrong_texts()
        shapes: list[tuple[str, Any, tuple[int, ...]]] = [
            ("actions", self.actions, (len(self.actions), layout.action_dim))
        ]
        if layout.state is not None:
            shapes.append(("state", self.state, (len(self.actions), layout.state_dim)))
        if self.actions_executed is not None:
            shapes.append(("actions_executed", self.actions_executed, self.actions.shape))
        for key, values, expected in shapes:
            if values is None or np.shape(values) != expected:
                given = "missing" if values is None else f"of shape {np.shape(values)}"
                found.append(f"{key} is {given}, expected {expected}")
            elif not np.isfinite(values).all():
                found.append(f"{key} has NaN or infinite values")
            elif key == "actions" and layout.bounded and values.size and np.abs(values).max() > 1.0 + 1e-6:
                found.append("actions lie outside [-1, 1]")
        for camera in layout.cameras:
            images = self.images.get(camera)
            if images is None:
                found.append(f"images of camera {camera!r} are missing (it has {', '.join(self.images) or 'none'})")
            elif (
                images.dtype != np.uint8
                or images.ndim != 4
                or (len(images), images.shape[3]) != (frames, 3)
                or not all(images.shape[1:3])
            ):
                found.append(
                    f"images[{camera!r}] are {images.dtype} {images.shape}, expected uint8 ({frames}, H, W, 3)"
                )
        if len(self.actions) == 0:
            found.append("it has no action")
        return found

    def _wrong_texts(self) -> list[str]:
        """What is wrong with its texts, attributes and start."""
        found = [wrong] if (wrong := wrong_instruction(self.instruction)) else []
        if not isinstance(self.task, str) or "\0" in self.task:
            found.append(f"the task is {self.task!r}, expected words")
        if not isinstance(self.success, bool | np.bool_ | int | np.integer) or self.success not in (0, 1):
            found.append(f"success is {self.success!r}, expected a truth value")
        found += [
            f"the attribute {key!r} is {value!r}, expected a number, a text or a truth value"
            for key, value in self.attributes.items()
            if not is_storable(value)
        ]
        found += [f"the attribute name {key!r} is no text" for key in self.attributes if not isinstance(key, str)]
        for key, numbers in self.start.items():
            if np.ndim(numbers) < 1 or np.asarray(numbers).dtype.kind not in "fiub" or "/" in key:
                found.append(f"the start has {key!r} {numbers!r}, expected a list of numbers under a name without '/'")
        return found


def is_storable(value: Any) -> bool:
    """Whether an attribute is a number, a text or a truth value that HDF5 and JSON have types for."""
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, np.generic):
        return value.dtype.kind in "biuf"
    return isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**64)


def wrong_instruction(text: Any) -> str:
    """What is wrong with an instruction; empty if nothing is."""
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        return f"the instruction is {text!r}, expected words"
    if len(text.encode()) > INSTRUCTION_BYTES:
        return f"the instruction has more than {INSTRUCTION_BYTES} bytes"
    return ""


def layout_of(demos: list[Demonstration], fps: float | None, gripper: int | None, state: str) -> Layout:
    """The layout that demonstrations have in common.

    Raises:
        DemoError: one of them has another layout, or cannot be used; the message names it.
    """
    if not demos:
        raise DemoError("no demonstrations were given: give at least one")
    if fps is not None and not (isinstance(fps, int | float | np.number) and 0 < fps < math.inf):
        raise DemoError(f"fps is {fps!r}: give the actions a second, or None")
    if gripper is not None and (isinstance(gripper, bool) or not isinstance(gripper, int | np.integer)):
        raise DemoError(f"gripper is {gripper!r}: give the number of an entry of the actions, or None")
    fps, gripper = None if fps is None else float(fps), None if gripper is None else int(gripper)
    first = demos[0]
    if first.actions.ndim != 2:
        raise DemoError(f"demonstration 0: actions is of shape {first.actions.shape}, expected (T, D)")
    dim = first.actions.shape[1]
    if gripper is not None and not 0 <= gripper < dim:
        raise DemoError(f"gripper is {gripper}, but an action has {dim} entries: give one of 0 to {dim - 1}, or None")
    layout = Layout(
        cameras=tuple(first.images),
        action_dim=dim,
        gripper=gripper,
        state=None if first.state is None else state,
        state_dim=0 if first.state is None else int(np.shape(first.state)[-1]),
        fps=fps,
    )
    if not layout.cameras:
        raise DemoError("demonstration 0 has no images: give those of one camera or more")
    if first.state is not None and first.state.ndim != 2:
        raise DemoError(f"demonstration 0: state is of shape {first.state.shape}, expected (T, S)")
    for name in (*layout.cameras, *([state] if layout.state else [])):
        if "/" in name or name in ("", ".", "..", "instruction") or (name == state and name in layout.cameras):
            raise DemoError(f"{name!r} cannot name a camera or the state: give names of their own, without '/'")
    for index, demo in enumerate(demos):
        if found := demo.problems(layout):
            raise DemoError(f"demonstration {index}: {found[0]}")
        if set(demo.images) != set(layout.cameras) or (demo.state is None) != (layout.state is None):
            raise DemoError(
                f"demonstration {index} has cameras {', '.join(demo.images)} and {_state(demo.state)}, but "
                f"demonstration 0 has {', '.join(layout.cameras)} and {_state(first.state)}: give all the same"
            )
    if gripper is not None:
        values = np.unique(np.concatenate([demo.actions[:, gripper] for demo in demos]))
        if len(values) > 2:
            raise DemoError(
                f"entry {gripper} of the actions has {len(values)} different values, but a gripper has two (open and "
                "closed): give another gripper=, or None to regress it"
            )
    return layout


def _state(state: NDArray[np.float32] | None) -> str:
    return "no state" if state is None else f"a state of shape {state.shape}"
