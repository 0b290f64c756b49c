"""The play table as a URDF, made from a scene's numbers.

Link and joint names, order, joint axes, limits, masses and outer dimensions are CALVIN's; the shapes are ours: each
link is a few convex parts, so that collisions are exact and cheap and the cameras have little to draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np

from rf_envs import scenes
from rf_envs.scenes import Scene
from rf_envs.simulators.playtable.meshes import Part, box, disc, prism_x, sphere, write_obj

COLORS = {
    "metal": (0.23, 0.24, 0.26, 1.0),
    "switch": (0.30, 0.31, 0.33, 1.0),
    "black": (0.05, 0.05, 0.06, 1.0),
    "ring": (0.42, 0.28, 0.16, 1.0),
    "lamp": (1.0, 1.0, 1.0, 1.0),
    "red": (1.0, 0.0, 0.0, 1.0),
    "blue": (0.0, 0.0, 1.0, 1.0),
    "pink": (1.0, 0.0, 1.0, 1.0),
}
DOOR_TILT = np.pi / 3
"""The panel that carries door and switch leans back by 30 degrees: its plane is turned by 60 degrees about x."""
SWITCH_TILT = 5 * np.pi / 6


@dataclass(frozen=True)
class Joint:
    """How a link hangs on the base."""

    name: str
    kind: str
    origin: tuple[float, float, float]
    roll: float = 0.0
    axis: tuple[float, float, float] = (1.0, 0.0, 0.0)
    upper: float = 0.0


@dataclass(frozen=True)
class Link:
    """A link: its parts in its own frame, mass (kg) and joint (None for the base)."""

    name: str
    parts: list[Part]
    mass: float
    joint: Joint | None


def table_links(scene: Scene) -> list[Link]:
    """Base, button, switch, slide, drawer, led, light and plank, in CALVIN's order (so with its link indices)."""
    bx, sx, dx = scene.button_x, scene.switch_x, scene.drawer_x
    return [
        Link("base_link", _base(scene), 0.0, None),
        Link(
            "button_link",
            [disc((0, 0, 0), 0.032, 0.024, material="black")],
            0.1538,
            Joint("base__button", "prismatic", (bx, -0.12, 0.46), 0, (0, 0, -1), scenes.BUTTON_MAX),
        ),
        Link(
            "switch_link",
            _handle(length=0.12, reach=0.064, thickness=0.0205, low=-0.024, high=0.008, material="switch"),
            0.2388,
            Joint(
                "base__switch",
                "prismatic",
                (sx, 0.06093, 0.49489),
                SWITCH_TILT,
                (0, 0, -1),
                scenes.SWITCH_MAX,
            ),
        ),
        Link(
            "slide_link",
            _door(),
            1.5435,
            Joint(
                "base__slide",
                "prismatic",
                (scene.slide_x - 0.14, 0.075, 0.535264),
                DOOR_TILT,
                (-1, 0, 0),
                scene.slide_max,
            ),
        ),
        Link(
            "drawer_link",
            _drawer(),
            4.2313,
            Joint("base__drawer", "prismatic", (dx, 0.0, 0.32), 0, (0, -1, 0), scenes.DRAWER_MAX),
        ),
        Link(
            "led_link",
            [box((-0.08, -0.02, 0), (0.08, 0.02, 0.016), "lamp")],
            0.204,
            Joint("base__led", "fixed", (bx, 0.16, 0.647846)),
        ),
        Link(
            "light_link",
            [sphere((0, 0.028, 0.028), 0.028, material="lamp")],
            0.1739,
            Joint("base__light", "fixed", (sx, 0.132, 0.647848)),
        ),
        Link(
            "plank_link",
            [box((scene.plank_x[0] + 0.1, -0.07, 0), (scene.plank_x[1] + 0.1, 0.07, 0.021))],
            2.8438,
            Joint("base__plank", "fixed", (-0.1, 0.09, 0.42)),
        ),
    ]


def _base(scene: Scene) -> list[Part]:
    """Legs, apron with the drawer's cavity, table top, slanted panel with the shelf's cavity, back wall."""
    x0, x1 = scene.plank_x
    d0, d1 = scene.drawer_x - 0.2, scene.drawer_x + 0.2
    legs = [
        box((sx * 0.40, sy * 0.148, 0), (sx * 0.44, sy * 0.18, 0.40), grain="z") for sx in (-1, 1) for sy in (-1, 1)
    ]
    apron = [
        box((-0.42, -0.16, 0.30), (d0, 0.16, 0.40)),
        box((d1, -0.16, 0.30), (0.42, 0.16, 0.40)),
        box((d0, 0.06, 0.30), (d1, 0.16, 0.40)),
        box((d0, -0.16, 0.30), (d1, 0.06, 0.3175)),
    ]
    top = [
        box((-0.44, -0.18, 0.40), (0.44, 0.02, 0.44)),
        box((-0.44, 0.02, 0.40), (0.44, 0.18, 0.42)),
    ]
    # the slanted panel rises from (y, z) = (0.02, 0.44) to (0.14, 0.648)
    side = [(0.02, 0.42), (0.16, 0.42), (0.16, 0.647846), (0.14, 0.647846), (0.02, 0.44)]
    lintel_y = 0.02 + (0.628 - 0.44) * 0.12 / 0.207846
    panel = [
        prism_x(-0.44, x0, side),
        prism_x(x1, 0.44, side),
        prism_x(x0, x1, [(lintel_y, 0.628), (0.16, 0.628), (0.16, 0.647846), (0.14, 0.647846)]),
        box((-0.44, 0.16, 0.40), (0.44, 0.18, 0.647846)),
    ]
    ring = [disc((scene.button_x, -0.12, 0.44), 0.04, 0.02, material="ring")]
    return legs + apron + top + panel + ring


def _handle(length: float, reach: float, thickness: float, low: float, high: float, material: str) -> list[Part]:
    """A bar along x held by two feet that stand on the plane y = 0; `low` and `high` bound it along z."""
    half = length / 2
    return [
        box((-half, reach - thickness, low), (half, reach, high), material),
        box((-half, 0, low), (-half + thickness, reach - thickness, high), material),
        box((half - thickness, 0, low), (half, reach - thickness, high), material),
    ]


def _door() -> list[Part]:
    """A board in the plane of the panel (frame: x right, y up the slope, z outwards) with an upright handle."""
    return [
        box((0, -0.11, 0), (0.28, 0.11, 0.02), grain="y"),
        box((0.12, -0.08, 0.0575), (0.16, 0.08, 0.08), "metal"),
        box((0.12, -0.08, 0.02), (0.16, -0.0577, 0.0575), "metal"),
        box((0.12, 0.0577, 0.02), (0.16, 0.08, 0.0575), "metal"),
    ]


def _drawer() -> list[Part]:
    """An open box whose front carries a bar; its frame is parallel to the world, y = 0 is the table's centre line."""
    return [
        box((-0.20, -0.158, 0.0), (0.20, 0.058, 0.021)),
        box((-0.20, -0.158, 0.021), (-0.177, 0.058, 0.0795)),
        box((0.177, -0.158, 0.021), (0.20, 0.058, 0.0795)),
        box((-0.177, 0.038, 0.021), (0.177, 0.058, 0.0795)),
        box((-0.22, -0.18, -0.02), (0.22, -0.158, 0.0795)),
        box((-0.1206, -0.26, 0.0196), (0.1206, -0.238, 0.060), "metal"),
        box((-0.1206, -0.238, 0.0196), (-0.0959, -0.18, 0.060), "metal"),
        box((0.0959, -0.238, 0.0196), (0.1206, -0.18, 0.060), "metal"),
    ]


def write_table(scene: Scene, folder: Path) -> Path:
    """Write the table's URDF and meshes into `folder` (where the textures are) and return the URDF's path."""
    robot = xml.Element("robot", name=f"play_table_{scene.name}")
    for link in table_links(scene):
        wood = scene.wood[1] if link.name in ("slide_link", "drawer_link") else scene.wood[0]
        _add_link(robot, link, folder, wood)
    path = folder / "table.urdf"
    xml.ElementTree(robot).write(path)
    return path


def write_block(scene: Scene, color: str, folder: Path) -> Path:
    """Write a block's URDF: a box of 1 kg whose long side is its x axis."""
    size = f"{scene.block_length(color)} {scenes.BLOCK_WIDTH} {scenes.BLOCK_WIDTH}"
    robot = xml.Element("robot", name=f"block_{color}")
    element = xml.SubElement(robot, "link", name="base_link")
    contact = xml.SubElement(element, "contact")
    xml.SubElement(contact, "lateral_friction", value="0.7")
    xml.SubElement(contact, "spinning_friction", value="0.001")
    add_inertial(element, 1.0)
    for tag in ("visual", "collision"):
        body = xml.SubElement(element, tag)
        xml.SubElement(xml.SubElement(body, "geometry"), "box", size=size)
        if tag == "visual":
            _add_color(body, color)
    path = folder / f"block_{color}.urdf"
    xml.ElementTree(robot).write(path)
    return path


def _add_link(robot: xml.Element, link: Link, folder: Path, wood: str) -> None:
    element = xml.SubElement(robot, "link", name=link.name)
    add_inertial(element, link.mass)
    for material in dict.fromkeys(part.material for part in link.parts):
        parts = [part for part in link.parts if part.material == material]
        mesh = folder / f"{link.name}_{material}.obj"
        write_obj(mesh, parts, f"{wood}.png" if material == "wood" else None)
        visual = xml.SubElement(element, "visual")
        xml.SubElement(xml.SubElement(visual, "geometry"), "mesh", filename=mesh.name)
        _add_color(visual, material)
    for number, part in enumerate(link.parts):
        collision = xml.SubElement(element, "collision")
        if part.box is not None:
            center, size = part.box
            xml.SubElement(collision, "origin", xyz=_text(center), rpy="0 0 0")
            xml.SubElement(xml.SubElement(collision, "geometry"), "box", size=_text(size))
        else:
            mesh = folder / f"{link.name}_hull{number}.obj"
            write_obj(mesh, [part])
            xml.SubElement(xml.SubElement(collision, "geometry"), "mesh", filename=mesh.name)
    if link.joint is not None:
        _add_joint(robot, link.name, link.joint)


def _add_joint(robot: xml.Element, child: str, joint: Joint) -> None:
    element = xml.SubElement(robot, "joint", name=joint.name, type=joint.kind)
    xml.SubElement(element, "origin", xyz=_text(joint.origin), rpy=f"{joint.roll} 0 0")
    xml.SubElement(element, "parent", link="base_link")
    xml.SubElement(element, "child", link=child)
    xml.SubElement(element, "axis", xyz=_text(joint.axis))
    xml.SubElement(element, "limit", lower="0", upper=str(joint.upper), effort="0", velocity="0")


def add_inertial(element: xml.Element, mass: float) -> None:
    """Give a link its mass (kg)."""
    inertial = xml.SubElement(element, "inertial")
    xml.SubElement(inertial, "mass", value=str(mass))
    # the loader derives the real inertia from the collision shapes, as it does for CALVIN's table
    xml.SubElement(inertial, "inertia", ixx="1", ixy="0", ixz="0", iyy="1", iyz="0", izz="1")


def _add_color(visual: xml.Element, material: str) -> None:
    element = xml.SubElement(visual, "material", name=material)
    xml.SubElement(element, "color", rgba=_text(COLORS.get(material, (1, 1, 1, 1))))


def _text(numbers) -> str:
    return " ".join(f"{number:.7g}" for number in numbers)
