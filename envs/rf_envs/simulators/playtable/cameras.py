"""The two cameras, drawn by PyBullet's TinyRenderer without drawing again what never moves.

The static camera looks at a room of which only the robot and the blocks always move. Colour and depth of the rest are
drawn once and kept, those of the table's doors, switches and lights until one of them changes; each image then draws
the moving bodies alone and merges them by depth. Their shadows come from a small depth map seen from the light, the way
a shadow map works. The gripper camera moves, so it draws all.

Each view lives in a physics client of its own that holds shapes only and follows the simulation, so that drawing never
touches the physics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rf_envs.simulators.base import STATIC_FIELD_OF_VIEW, STATIC_FROM, STATIC_TO, STATIC_UP

STATIC_LENS = (STATIC_FIELD_OF_VIEW, 0.01, 10.0)
GRIPPER_LENS = (75.0, 0.01, 2.0)
"""Field of view (degrees), near and far plane (m): CALVIN's cameras."""

LIGHT_DIRECTION = np.array([0.35, -0.55, 1.0]) / np.linalg.norm([0.35, -0.55, 1.0])
"""Towards the light: behind the robot's shoulder and high, so that shadows fall on the table under the gripper."""
LIGHT_DISTANCE = 8.0
LIGHT_LENS = (13.0, 6.0, 10.5)
SHADOW_MAP = 160
"""Side of the light's depth map in pixels: 1.1 cm of table each."""
SHADOW_BIAS = 0.012
SHADOW_DEPTH = 0.42
"""Share of the light that a full shadow takes away."""
SKY = np.array([226, 232, 238], dtype=np.uint8)


@dataclass(frozen=True)
class View:
    """View and projection as PyBullet takes them, and the planes that turn its depth buffer into metres."""

    view: tuple[float, ...]
    projection: tuple[float, ...]
    near: float
    far: float

    @classmethod
    def look(cls, client: Any, eye, target, up, lens: tuple[float, float, float]) -> View:
        """A camera at `eye` that looks at `target` through a lens (fov in degrees, near, far)."""
        return cls(
            client.computeViewMatrix(list(eye), list(target), list(up)),
            client.computeProjectionMatrixFOV(lens[0], 1.0, lens[1], lens[2]),
            lens[1],
            lens[2],
        )

    def shoot(self, client: Any, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Colour (size, size, 3) and depth in metres (size, size); `far` where nothing is."""
        _, _, rgba, depth, _ = client.getCameraImage(
            size,
            size,
            self.view,
            self.projection,
            renderer=client.ER_TINY_RENDERER,
            shadow=0,
            lightDirection=(LIGHT_DIRECTION * LIGHT_DISTANCE).tolist(),
            lightAmbientCoeff=0.62,
            lightDiffuseCoeff=0.42,
            lightSpecularCoeff=0.05,
            flags=client.ER_NO_SEGMENTATION_MASK,
        )
        buffer = np.reshape(depth, (size, size)).astype(np.float32)
        metres = self.far * self.near / (self.far - (self.far - self.near) * buffer)
        return np.reshape(rgba, (size, size, 4))[..., :3].astype(np.uint8), metres

    def project(self, points: NDArray[np.float64], size: int):
        """Pixel coordinates (column, row) and distance (m) of world points (n, 3)."""
        view = np.reshape(self.view, (4, 4), order="F")
        projection = np.reshape(self.projection, (4, 4), order="F")
        eye = np.column_stack([points, np.ones(len(points))]) @ view.T
        clip = eye @ projection.T
        ndc = clip[:, :2] / clip[:, 3:]
        return (ndc[:, 0] + 1) / 2 * size - 0.5, (1 - ndc[:, 1]) / 2 * size - 0.5, -eye[:, 2]

    def unproject(self, depth: NDArray[np.float32]) -> NDArray[np.float64]:
        """World points (size * size, 3) of a depth image in metres."""
        size = depth.shape[0]
        view = np.reshape(self.view, (4, 4), order="F")
        projection = np.reshape(self.projection, (4, 4), order="F")
        row, column = np.mgrid[0:size, 0:size] + 0.5
        x = (column / size * 2 - 1) / projection[0, 0] * depth
        y = (1 - row / size * 2) / projection[1, 1] * depth
        eye = np.stack([x, y, -depth, np.ones_like(depth)], axis=-1).reshape(-1, 4)
        return (eye @ np.linalg.inv(view).T)[:, :3]


class Shadows:
    """Which of an image's fixed points lie behind something, seen from the light."""

    def __init__(self, light: View, points: NDArray[np.float64], shape: tuple[int, int]) -> None:
        column, row, distance = light.project(points, SHADOW_MAP)
        self._inside = (column > 0) & (row > 0) & (column < SHADOW_MAP - 2) & (row < SHADOW_MAP - 2)
        column, row = np.where(self._inside, column, 0), np.where(self._inside, row, 0)
        self._corner = row.astype(int) * SHADOW_MAP + column.astype(int)
        self._right, self._down = (column % 1).astype(np.float32), (row % 1).astype(np.float32)
        self._distance = (distance - SHADOW_BIAS).astype(np.float32)
        self._shape = shape

    def shade(self, depth_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """Share of the light that reaches each point, (H, W), with edges softened over one map pixel."""
        flat = depth_map.reshape(-1)
        hit = [
            (flat[self._corner + step] < self._distance).astype(np.float32)
            for step in (0, 1, SHADOW_MAP, SHADOW_MAP + 1)
        ]
        top = hit[0] + (hit[1] - hit[0]) * self._right
        bottom = hit[2] + (hit[3] - hit[2]) * self._right
        covered = (top + (bottom - top) * self._down) * self._inside
        return (1 - SHADOW_DEPTH * covered).reshape(self._shape)


class _Background(NamedTuple):
    """What never moves."""

    color: NDArray[Any]
    """(H, W, 3), before the shadows of what does move."""
    depth: NDArray[np.float32]
    shadows: Shadows


class _Fixtures(NamedTuple):
    """What moves now and then."""

    pixels: NDArray[np.intp]
    """Where they are in front of the background, (n,) of H * W."""
    color: NDArray[np.uint8]
    """Their colour there, (n, 3)."""
    depth: NDArray[np.float32]
    """Of them or the background, whichever is nearer, (H, W)."""


class StaticCamera:
    """The fixed camera: a kept background, kept fixtures, the moving bodies, and their shadows.

    Fixtures are the table's doors, switches and lights, which move now and then. Each of the three has a client.
    """

    def __init__(self, still: Any, fixtures: Any, moving: Any) -> None:
        self._still, self._fixtures, self._moving = still, fixtures, moving
        self._view = View.look(moving, STATIC_FROM, STATIC_TO, STATIC_UP, STATIC_LENS)
        target = np.array([0.0, -0.05, 0.4])
        self._light = View.look(moving, target + LIGHT_DIRECTION * LIGHT_DISTANCE, target, (0, 1, 0), LIGHT_LENS)
        # by size; the depth map is the light's
        self._backgrounds: dict[int, _Background] = {}
        self._kept: dict[int, _Fixtures] = {}
        self._kept_depth_map: NDArray[np.float32] | None = None

    def forget_fixtures(self) -> None:
        """Draw the fixtures anew in the next image: one of them has moved, or a light has changed."""
        self._kept.clear()
        self._kept_depth_map = None

    def render(self, size: int) -> NDArray[np.uint8]:
        """An image (size, size, 3) of the moving client's present state."""
        if size not in self._backgrounds:
            self._backgrounds[size] = self._draw_background(size)
        background = self._backgrounds[size]
        if size not in self._kept:
            self._kept[size] = self._draw_fixtures(size, background)
        fixtures = self._kept[size]
        if self._kept_depth_map is None:
            self._kept_depth_map = self._light.shoot(self._fixtures, SHADOW_MAP)[1]
        color, depth = self._view.shoot(self._moving, size)
        depth_map = np.minimum(self._light.shoot(self._moving, SHADOW_MAP)[1], self._kept_depth_map)
        image = (background.color * background.shadows.shade(depth_map)[..., None]).astype(np.uint8)
        image.reshape(-1, 3)[fixtures.pixels] = fixtures.color
        in_front = depth < fixtures.depth
        image[in_front] = color[in_front]
        return image

    def _draw_background(self, size: int) -> _Background:
        color, depth = self._view.shoot(self._still, size)
        shadows = Shadows(self._light, self._view.unproject(depth), depth.shape)
        light = shadows.shade(self._light.shoot(self._still, SHADOW_MAP)[1])
        color = np.where((depth >= self._view.far * 0.99)[..., None], SKY, color)
        return _Background(color * light[..., None].astype(np.float32), depth, shadows)

    def _draw_fixtures(self, size: int, background: _Background) -> _Fixtures:
        color, depth = self._view.shoot(self._fixtures, size)
        pixels = np.flatnonzero(depth < background.depth)
        return _Fixtures(pixels, color.reshape(-1, 3)[pixels], np.minimum(depth, background.depth))


class GripperCamera:
    """The camera on the hand: everything is drawn."""

    def __init__(self, client: Any, robot: int, link: int) -> None:
        self._client, self._robot, self._link = client, robot, link

    def render(self, size: int) -> NDArray[np.uint8]:
        """An image (size, size, 3) of the client's present state."""
        p = self._client
        position, orientation = p.getLinkState(self._robot, self._link)[:2]
        axes = np.reshape(p.getMatrixFromQuaternion(orientation), (3, 3))
        eye = np.array(position)
        view = View.look(p, eye, eye + axes[:, 1], -axes[:, 2], GRIPPER_LENS)
        color, depth = view.shoot(p, size)
        color[depth >= view.far * 0.99] = SKY
        return color
