import math

import torch

from rf_agent.nn.gripper_frame import ROTATION_UNIT, euler_angles, rotation, to_gripper_frame, to_world_frame


def about(axis, angle):
    """The matrix that turns about an axis of the world."""
    generator = torch.zeros(3, 3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    generator[i, j], generator[j, i] = -angle, angle
    return torch.linalg.matrix_exp(generator)


def test_angles_turn_about_x_then_y_then_z_of_the_world():
    angles = torch.tensor([0.4, -0.7, 2.0])
    expected = about(2, 2.0) @ about(1, -0.7) @ about(0, 0.4)
    torch.testing.assert_close(rotation(angles), expected)
    torch.testing.assert_close(euler_angles(expected), angles)


def test_there_and_back():
    torch.manual_seed(0)
    motion = torch.rand(500, 6) * 2 - 1
    orientation = torch.rand(500, 3) * torch.tensor([2 * math.pi, 2.0, 2 * math.pi]) - torch.tensor(
        [math.pi, 1, math.pi]
    )
    own = to_gripper_frame(motion, orientation)
    torch.testing.assert_close(to_world_frame(own, orientation), motion, atol=2e-4, rtol=0)
    torch.testing.assert_close(own[:, :3].norm(dim=1), motion[:, :3].norm(dim=1))
    assert not torch.allclose(own, motion, atol=0.1)


def test_a_gripper_that_points_down():
    """CALVIN's: turned half about x. It sees up as down and left as right, and turns of the table the other way."""
    down = torch.tensor([math.pi, 0.0, 0.0])
    seen = to_gripper_frame(torch.tensor([0.1, 0.2, 0.3, 0.0, 0.0, 0.5]), down)
    torch.testing.assert_close(seen, torch.tensor([0.1, -0.2, -0.3, 0.0, 0.0, -0.5]), atol=1e-4, rtol=0)


def test_the_turn_leads_to_the_next_orientation():
    orientation, change = torch.tensor([3.1, 0.2, -1.0]), torch.tensor([0.9, -0.4, 0.7])
    own = to_gripper_frame(torch.cat((torch.zeros(3), change)), orientation)[3:]
    after = rotation(orientation) @ rotation(ROTATION_UNIT * own)
    torch.testing.assert_close(after, rotation(orientation + ROTATION_UNIT * change), atol=1e-5, rtol=0)


def test_the_same_motion_of_the_gripper_is_the_same_wherever_it_points():
    """What the frame is for: a motion along the gripper's axis is one number, and the world's is many."""
    orientations = torch.tensor([[math.pi, 0.0, yaw] for yaw in (0.0, 0.8, 2.5)])
    world = torch.cat((rotation(orientations)[..., 0], torch.zeros(3, 3)), dim=1)  # along its own x
    along = torch.tensor([1.0, 0, 0, 0, 0, 0]).expand(3, 6)
    torch.testing.assert_close(to_gripper_frame(world, orientations), along, atol=1e-4, rtol=0)
