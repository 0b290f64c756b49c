"""Furniture parts: convex prisms that become collision shapes, and OBJ meshes with wood grain in metres.

TinyRenderer pays for triangles and for filled pixels, so a part is a handful of boxes: 12 triangles each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GRAIN_METRES = 0.5
"""Length of table that one wood texture covers."""

BOX_FACES = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))


@dataclass(frozen=True)
class Part:
    """A convex body: `corners` (n, 3) and its faces as loops of corner indices, seen from outside anticlockwise."""

    corners: NDArray[np.float64]
    faces: tuple[tuple[int, ...], ...]
    material: str = "wood"
    grain: str = "x"
    """Axis along which the wood grain runs."""
    box: tuple[NDArray[np.float64], NDArray[np.float64]] | None = field(default=None)
    """Centre and full size, if the part is an axis-parallel box (an exact and cheap collision shape)."""


def box(low, high, material: str = "wood", grain: str = "x") -> Part:
    """The axis-parallel box between two opposite corners."""
    low, high = np.minimum(low, high).astype(float), np.maximum(low, high).astype(float)
    corners = np.array(
        [
            [x, y, z]
            for z in (low[2], high[2])
            for x, y in ((low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1]))
        ]
    )
    return Part(corners, BOX_FACES, material, grain, ((low + high) / 2, high - low))


def prism_x(x0: float, x1: float, profile, material: str = "wood", grain: str = "x") -> Part:
    """A convex (y, z) outline, anticlockwise seen from +x, stretched from `x0` to `x1`."""
    n = len(profile)
    corners = np.array([[x, y, z] for x in (x0, x1) for y, z in profile], dtype=float)
    sides = tuple(((i + 1) % n, (i + 1) % n + n, i + n, i) for i in range(n))
    ends = (tuple(reversed(range(n))), tuple(range(n, 2 * n)))
    return Part(corners, sides + ends, material, grain)


def disc(center, radius: float, height: float, sides: int = 14, material: str = "wood") -> Part:
    """An upright cylinder with `sides` flat sides standing on `center`."""
    angles = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
    corners = np.concatenate([np.column_stack([ring, np.full(sides, z)]) for z in (0.0, height)]) + np.asarray(
        center, dtype=float
    )
    loop = tuple((i, (i + 1) % sides, (i + 1) % sides + sides, i + sides) for i in range(sides))
    ends = (tuple(reversed(range(sides))), tuple(range(sides, 2 * sides)))
    return Part(corners, loop + ends, material)


def sphere(center, radius: float, rings: int = 6, sides: int = 10, material: str = "wood") -> Part:
    """A ball of flat facets around `center`."""
    polar = np.linspace(0, np.pi, rings + 1)[1:-1]
    around = np.arange(sides) * 2 * np.pi / sides
    bands = [
        np.column_stack([np.sin(t) * np.cos(around), np.sin(t) * np.sin(around), np.full(sides, np.cos(t))])
        for t in polar
    ]
    corners = np.concatenate([*bands, [[0, 0, 1], [0, 0, -1]]]) * radius + np.asarray(center, dtype=float)
    top, bottom = len(corners) - 2, len(corners) - 1
    faces: list[tuple[int, ...]] = []
    for j in range(sides):
        k = (j + 1) % sides
        faces.append((top, j, k))
        for band in range(len(bands) - 1):
            a, b = band * sides, (band + 1) * sides
            faces.append((a + j, b + j, b + k, a + k))
        last = (len(bands) - 1) * sides
        faces.append((bottom, last + k, last + j))
    return Part(corners, tuple(faces), material)


def write_obj(path: Path, parts: list[Part], texture: str | None = None, shift: float = 0.37) -> None:
    """Write parts as one OBJ with flat normals and, if `texture` names a PNG beside it, with texture coordinates.

    Each part shows the texture `shift` further along, so that neighbouring boards differ.
    """
    lines: list[str] = []
    if texture is not None:
        path.with_suffix(".mtl").write_text(f"newmtl surface\nKd 1 1 1\nKa 1 1 1\nmap_Kd {texture}\n")
        lines += [f"mtllib {path.with_suffix('.mtl').name}", "usemtl surface"]
    index = 0
    for offset, part in enumerate(parts):
        corners = part.corners
        for face in part.faces:
            points = corners[list(face)]
            normal = np.cross(points[1] - points[0], points[2] - points[0])
            normal /= np.linalg.norm(normal)
            uv = _texture_coordinates(points, normal, part.grain) + shift * offset
            for (x, y, z), (u, v) in zip(points, uv, strict=True):
                lines += [f"v {x:.6f} {y:.6f} {z:.6f}", f"vt {u:.5f} {v:.5f}"]
                lines.append("vn {:.5f} {:.5f} {:.5f}".format(*normal))
            for k in range(1, len(face) - 1):
                lines.append("f " + " ".join(f"{index + i + 1}/{index + i + 1}/{index + i + 1}" for i in (0, k, k + 1)))
            index += len(face)
    path.write_text("\n".join(lines) + "\n")


def _texture_coordinates(points, normal, grain: str) -> NDArray[np.float64]:
    """Project a face along its dominant axis so that the grain keeps its scale in metres."""
    along = "xyz".index(grain)
    across = [axis for axis in np.argsort(np.abs(normal)) if axis != along]
    first = along if np.argmax(np.abs(normal)) != along else across[0]
    second = next(axis for axis in np.argsort(np.abs(normal)) if axis != first)
    return np.stack([points[:, first], points[:, second]], axis=1) / GRAIN_METRES
