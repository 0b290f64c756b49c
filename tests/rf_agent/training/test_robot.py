"""Training on other robots: cameras, actions and states come from the data, and what does not fit is refused."""

import dataclasses
import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from demo_files import make_store

from rf_agent.config import ActionConfig
from rf_agent.demos import Demonstration, write_demonstrations
from rf_agent.demos.files import DemoError
from rf_agent.demos.windows import ChunkSampler, DemoSet
from rf_agent.errors import UserError
from rf_agent.policies import load_policy
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import preset
from rf_agent.training.robot import fitted, open_all
from rf_agent.training.trainer import TrainConfig, train


def make_demo(index, dim=4, cameras=("front", "wrist"), state=3, steps=8):
    rng = np.random.default_rng(index)
    side = index % 2
    images = {name: rng.integers(0, 60, (steps, 24, 24, 3)).astype(np.uint8) for name in cameras}
    images[cameras[0]][..., side] += 150
    actions = rng.uniform(-0.02, 0.02, (steps, dim)).astype(np.float32)
    actions[:, 0] = 30.0 if side else 10.0
    actions[:, -1] = np.where(np.arange(steps) < steps // 2, 0.08, 0.0)
    text = f"go {'right' if side else 'left'}"
    return Demonstration(images, actions, text, text, rng.normal(5, 2, (steps, state)) if state else None)


def write(path, count=6, fps=20, gripper="last", **changes):
    demos = [make_demo(index, **changes) for index in range(count)]
    return write_demonstrations(path, demos, fps, demos[0].actions.shape[1] - 1 if gripper == "last" else gripper)


def config(demos, output, **changes):
    base = {"steps": 4, "batch_size": 3, "sequence_length": 6, "validation_fraction": 0.3, "device": "cpu"}
    demos = demos if isinstance(demos, tuple) else (demos,)
    return TrainConfig(demos=demos, output=output, preset="roboflamingo-test", threads=1, **base | changes)


def observation(cameras=("front", "wrist"), n=None, **others):
    lead = () if n is None else (n,)
    return {name: np.zeros((*lead, 24, 24, 3), np.uint8) for name in cameras} | {"instruction": "go left"} | others


@pytest.mark.parametrize("how", ["min_max", "quantiles"])
def test_a_policy_acts_in_the_units_of_its_robot(tmp_path, how):
    settings = {"steps": 60, "learning_rate": 3e-3, "ema_decay": 0.9, "action_normalization": how}
    report = train(config(write(tmp_path / "d.hdf5"), tmp_path / "run", **settings))
    policy = RoboFlamingoPolicy.from_pretrained(report.output, "cpu")
    assert policy.config.views == ("front", "wrist") and policy.config.fps == 20
    assert (policy.config.action.dim, policy.config.action.gripper) == (4, 3)
    assert policy.config.action.normalization == how
    action = policy.act(observation())
    assert action.shape == (4,) and action.dtype == np.float32
    assert 9 < action[0] < 31 and np.abs(action[1:3]).max() < 0.03 and action[3] in (0.0, np.float32(0.08))
    policy.reset()
    assert policy.predict_action_chunk(observation(n=2)).shape[::2] == (2, 4)
    assert report.scalars["gripper_accuracy"] > 0.5


def test_no_gripper_one_camera_and_a_state(tmp_path):
    path = write(tmp_path / "d.hdf5", cameras=("cam",), gripper=None, dim=2)
    report = train(config(path, tmp_path / "run", override=("head.proprioception=true",)))
    policy = RoboFlamingoPolicy.from_pretrained(report.output, "cpu")
    assert policy.config.action.gripper is None and policy.head.gripper is None
    assert policy.config.state.entries == (0, 1, 2) and 4 < policy.config.state.mean[0] < 6
    with pytest.raises(ValueError, match="no 'state'"):
        policy.act(observation(("cam",)))
    action = policy.act(observation(("cam",), state=np.full(3, 5.0)))
    assert action.shape == (2,) and not np.array_equal(action, policy_act_anew(policy, np.full(3, 9.0)))
    pixels, (tokens, mask) = torch.zeros(1, 3, 1, 3, 32, 32), policy.tokenize(["go left"])
    out = policy.window(pixels, tokens, mask, torch.zeros(1, 3, 3))
    assert out.pose.shape == (1, 3, 3, 2) and out.gripper_logits is None
    batch = {"pixels": pixels, "tokens": tokens, "token_mask": mask, "state": torch.zeros(1, 3, 3)}
    loss, metrics = policy(batch | {"actions": torch.zeros(1, 3, 3, 2), "mask": torch.ones(1, 3).bool()})
    assert torch.isfinite(loss) and set(metrics) == {"pose_loss", "pose_error"}


def policy_act_anew(policy, state):
    policy.reset()
    return policy.act(observation(("cam",), state=state))


def test_a_trained_policy_goes_on_with_the_same_robot_alone(tmp_path):
    start = str(train(config(write(tmp_path / "d.hdf5"), tmp_path / "start")).output)
    again = train(config(write(tmp_path / "e.hdf5", count=4), tmp_path / "again", init=start))
    kept, new = (RoboFlamingoPolicy.from_pretrained(d, "cpu").config for d in (start, again.output))
    assert kept.action == new.action and kept.views == new.views
    for name, changes, message in (
        ("cameras", {"cameras": ("side",)}, r"cameras.hdf5 has no camera 'front' \(it has side\)"),
        ("dim", {"dim": 5}, r"dim.hdf5 has actions of shape \(T, 5\), but the policy acts with \(T, 4\)"),
        (
            "gripper",
            {"gripper": None},
            "gripper.hdf5 has its gripper at entry None of the actions, but the policy at 3",
        ),
        ("fps", {"fps": 10}, "fps.hdf5 has 10 actions a second, but the policy was trained at 20"),
    ):
        path = write(tmp_path / f"{name}.hdf5", **changes)
        with pytest.raises(DemoError, match=message):
            train(config(path, tmp_path / "refused", init=start))
    other = train(config(tmp_path / "dim.hdf5", tmp_path / "other", init=start, init_head=False))
    assert RoboFlamingoPolicy.from_pretrained(other.output, "cpu").config.action.dim == 5
    renamed = write(tmp_path / "renamed.hdf5", cameras=("a", "b"))
    views = train(config(renamed, tmp_path / "renamed", init=start, override=('views=["b","a"]',)))
    assert RoboFlamingoPolicy.from_pretrained(views.output, "cpu").config.views == ("b", "a")
    assert not (tmp_path / "refused").exists()


def test_files_of_different_robots_do_not_mix(tmp_path):
    first = write(tmp_path / "first.hdf5")
    for name, changes, message in (
        ("dim", {"dim": 5}, r"dim.hdf5 has actions of shape \(T, 5\), but .*first.hdf5 has actions of shape \(T, 4\)"),
        (
            "gripper",
            {"gripper": 0},
            "gripper.hdf5 has its gripper at entry 0 .*first.hdf5 has its gripper at entry 3",
        ),
        ("fps", {"fps": 30}, "fps.hdf5 has 30.0 actions a second, but .*first.hdf5 has 20.0"),
        ("cameras", {"cameras": ("x", "y")}, "cameras.hdf5 has the cameras x, y, but .*first.hdf5 has front, wrist"),
    ):
        other = write(tmp_path / f"{name}.hdf5", **changes)
        with pytest.raises(DemoError, match=message) as error:
            train(config((first, other), tmp_path / "run"))
        assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_constant_and_wide_actions(tmp_path):
    demos = [make_demo(index) for index in range(4)]
    for item in demos:
        item.actions[:, 1] = 0.25
    path = write_demonstrations(tmp_path / "constant.hdf5", demos, 20, 3)
    with pytest.raises(DemoError, match=r"constant.hdf5: actions\[:, 1\] is 0.25 in all 32 steps"):
        train(config(path, tmp_path / "run"))
    wide = write(tmp_path / "wide.hdf5")
    with pytest.raises(DemoError, match="wide.hdf5 reach 30, but without normalization"):
        train(config(wide, tmp_path / "run", action_normalization="none"))
    with pytest.raises(DemoError, match="--action-normalization is 'z'"):
        train(config(wide, tmp_path / "run", action_normalization="z"))
    with pytest.raises(DemoError, match="has no state, but the policy reads one"):
        stateless = write(tmp_path / "stateless.hdf5", state=0)
        train(config(stateless, tmp_path / "run", override=("head.proprioception=true",)))


def test_calvins_robot_stays_the_presets(tmp_path):
    config = preset("roboflamingo-tiny")
    assert fitted(config, open_all([make_store(tmp_path / "d.hdf5")]), trained=False) == config


def test_the_state_is_that_of_all_files(tmp_path):
    override = ("head.proprioception=true",)
    first, second = write(tmp_path / "first.hdf5"), tmp_path / "second.hdf5"
    demos = [make_demo(index) for index in range(6)]
    for item in demos:
        item.state += 100
    write_demonstrations(second, demos, 20, 3)
    report = train(config((first, second), tmp_path / "run", override=override))
    assert 50 < RoboFlamingoPolicy.from_pretrained(report.output, "cpu").config.state.mean[0] < 60
    stateless = write(tmp_path / "stateless.hdf5", state=0)
    with pytest.raises(DemoError, match=r"stateless.hdf5 has no state, but the policy reads 'state' of shape \(T, 3\)"):
        train(config((first, stateless), tmp_path / "refused", override=override))
    # one that was trained without a state may learn to read one
    start = str(train(config(first, tmp_path / "start")).output)
    again = train(config(first, tmp_path / "again", init=start, init_head=False, override=override))
    assert RoboFlamingoPolicy.from_pretrained(again.output, "cpu").config.state.entries == (0, 1, 2)


def test_a_head_that_is_drawn_anew_reads_the_state_of_its_own_demonstrations(tmp_path):
    """In the units of the robot that is trained on, not of the one that the policy came from."""
    override = ("head.proprioception=true",)
    start = str(train(config(write(tmp_path / "first.hdf5"), tmp_path / "start", override=override)).output)
    demos = [make_demo(index) for index in range(6)]
    for item in demos:
        item.state = 500 + 100 * item.state
    other = tmp_path / "other.hdf5"
    write_demonstrations(other, demos, 20, 3)

    def more(name, **changes):
        settings = replace(config(other, tmp_path / name, init=start, **changes), preset=None)
        return RoboFlamingoPolicy.from_pretrained(train(settings).output, "cpu").config.state

    assert more("again", init_head=False).mean[0] > 300
    assert more("kept").mean[0] < 10
    assert len(more("fewer", init_head=False, override=("state.entries=[0,1]",)).mean) == 2


def test_a_file_that_is_given_twice_is_refused(tmp_path):
    path = write(tmp_path / "d.hdf5")
    (tmp_path / "again.hdf5").symlink_to(path)
    with pytest.raises(DemoError, match=r"again\.hdf5 is given twice: name every file once"):
        train(config((path, tmp_path / "again.hdf5"), tmp_path / "run"))


def test_files_that_do_not_say_their_rate_are_of_no_rate(tmp_path):
    report = train(config(write(tmp_path / "d.hdf5", fps=None), tmp_path / "run"))
    assert RoboFlamingoPolicy.from_pretrained(report.output, "cpu").config.fps is None


def test_a_run_is_resumed_with_the_same_range_of_actions_alone(tmp_path, monkeypatch):
    path = write(tmp_path / "d.hdf5")
    train(config(path, tmp_path / "run", steps=2))
    demos = [make_demo(index) for index in range(6)]
    demos[0].actions[0, 1] = 5.0
    write_demonstrations(path, demos, 20, 3, overwrite=True)
    with pytest.raises(UserError, match="began with other demonstrations than d.hdf5 has now"):
        train(config(path, tmp_path / "run", steps=4, resume=True))
    history = tmp_path / "run" / "run.json"
    starts = json.loads(history.read_text())
    del starts[0]["data"]["files"][0]["content"]  # which older versions did not write down
    history.write_text(json.dumps(starts))
    with pytest.raises(
        UserError,
        match=r"began with action\.high \(.*\), but now it is \(.*5\.0.*\): resume with the same demonstrations",
    ):
        train(config(path, tmp_path / "run", steps=4, resume=True))


def test_failures_are_left_out(tmp_path):
    demos = [make_demo(index) for index in range(6)]
    demos[2].success = demos[3].success = False
    path = write_demonstrations(tmp_path / "d.hdf5", demos, 20, 3)
    layouts = open_all([path])
    shape = fitted(preset("roboflamingo-test"), layouts, trained=False)
    data = DemoSet(layouts, shape)
    assert len(data.episodes) == 4 and data.failures == 2
    for item in demos:
        item.success = False
    with pytest.raises(DemoError, match="none of the demonstrations in .* succeeded"):
        DemoSet(open_all([write_demonstrations(tmp_path / "none.hdf5", demos, 20, 3)]), shape)


def test_instructions_are_mixed_only_where_they_mean_the_same(tmp_path):
    demos = [make_demo(index) for index in range(6)]
    for item in demos:
        item.task = "go"
    layouts = open_all([write_demonstrations(tmp_path / "d.hdf5", demos, 20, 3)])
    data = DemoSet(layouts, fitted(preset("roboflamingo-test"), layouts, trained=False))
    batch = ChunkSampler(data, range(6), 4, 0.5, mix_instructions=True).draw(40, np.random.default_rng(0))
    rows = batch.frames[np.cumsum(batch.valid.sum(1)) - 1]
    for images, text in zip(data.frames.get(rows.numpy()), batch.instructions, strict=True):
        red, green = images[0, ..., 0].mean(), images[0, ..., 1].mean()
        assert text == ("go right" if green > red else "go left")
    ours = open_all([make_store(tmp_path / "ours.hdf5")])
    data = DemoSet(ours, preset("roboflamingo-test"))
    assert all(len(texts) == 2 for texts in data.instructions(range(6)).values())


def test_a_gripper_of_other_values_needs_normalization(tmp_path):
    demos = [make_demo(index) for index in range(4)]
    for item in demos:
        item.actions[:, :3] /= 40
    path = write_demonstrations(tmp_path / "d.hdf5", demos, 20, 3)
    with pytest.raises(DemoError, match="the gripper's entry 3 .* values such as 0, 0.08"):
        train(config(path, tmp_path / "run", action_normalization="none"))


@pytest.mark.parametrize("wide", [1.0, 2.0])
def test_a_seventh_joint_is_no_gripper(tmp_path, wide):
    """Foreign data do not say their gripper: the preset's is taken only where the actions have two values."""

    def robot(entry):
        demos = [make_demo(index, dim=7) for index in range(4)]
        for item in demos:
            rng = np.random.default_rng(len(item.actions))
            item.actions = rng.uniform(-wide, wide, item.actions.shape).astype(np.float32)
            item.actions[:, 6] = entry(rng, len(item.actions))
        path = write_demonstrations(tmp_path / "d.hdf5", demos, 20, overwrite=True)
        with h5py.File(path, "r+") as file:  # as robomimic's files are
            said = json.loads(file["data"].attrs["env_args"])
            del said["gripper"]
            file["data"].attrs["env_args"] = json.dumps(said)
        return open_all([path])

    unit = wide == 1.0
    joint = robot(lambda rng, steps: rng.uniform(-1, 1, steps))
    start = preset("roboflamingo-test")
    assert start.action.gripper == 6
    found = fitted(start, joint, trained=False).action
    assert (found.gripper, found.normalization) == (None, "none" if unit else "min_max")
    gripper = robot(lambda rng, steps: rng.choice([-1.0, 1.0], steps))
    assert fitted(start, gripper, trained=False).action.gripper == 6
    policy = fitted(start, gripper, trained=False)
    assert fitted(policy, gripper, trained=True).action == policy.action
    # a gripper that stops anywhere, as the first demonstrations said
    anywhere = dataclasses.replace(policy, action=ActionConfig(7, 6, "min_max", (-wide,) * 7, (wide,) * 6 + (0.5,)))
    half = robot(lambda rng, steps: np.linspace(-wide, 0.5, steps))
    assert fitted(anywhere, half, trained=True).action == anywhere.action
    joint = robot(lambda rng, steps: rng.uniform(-1, 1, steps))
    with pytest.raises(DemoError, match="entry 6 of the actions of .*d.hdf5 has more than two values"):
        fitted(policy, joint, trained=True)


def test_what_failed_says_nothing_of_the_actions(tmp_path):
    demos = [make_demo(index) for index in range(6)]
    demos[0].success = False
    demos[0].actions[:, :3] *= 100
    demos[0].state += 1000
    path = write_demonstrations(tmp_path / "d.hdf5", demos, 20, 3)
    start = preset("roboflamingo-test").changed(["head.proprioception=true"])
    found = fitted(start, open_all([path]), trained=False)
    assert max(map(abs, found.action.low + found.action.high)) <= 30 and max(found.state.mean) < 10


@pytest.mark.parametrize("wide", [0.02, 0.6])
def test_small_actions_of_unknown_units_are_scaled_by_their_range(tmp_path, wide):
    """Seven entries in metres lie in [-1, 1], too: only what reaches its bounds is taken for bounded."""

    def robomimic(name, reach):
        rng, path = np.random.default_rng(0), tmp_path / f"{name}.hdf5"
        demos = [make_demo(index, dim=7) for index in range(3)]
        for demo in demos:
            demo.actions[:] = rng.uniform(-reach, reach, demo.actions.shape)
            demo.actions[:, 6] = np.sign(demo.actions[:, 6])
        write_demonstrations(path, demos, 20, 6)
        with h5py.File(path, "a") as file:
            said = json.loads(file["data"].attrs["env_args"])
            file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "state": said["state"]})
        return fitted(preset("roboflamingo-test"), open_all([path]), trained=False).action

    assert (robomimic("small", wide).normalization, robomimic("whole", 1.0).normalization) == ("min_max", "none")


def test_the_state_is_read_as_it_is_asked_for(tmp_path):
    path = write(tmp_path / "d.hdf5")
    override = ("head.proprioception=true", "state.entries=[0,2]", "state.angles=[2]")
    state = RoboFlamingoPolicy.from_pretrained(
        train(config(path, tmp_path / "run", override=override)).output
    ).config.state
    assert (state.entries, state.angles, state.normalization, state.binary) == ((0, 2), (2,), "mean_std", None)
    assert len(state.mean) == 3
    with pytest.raises(DemoError, match=r"has the state 'state' of shape \(T, 3\), but the policy reads 'joints'"):
        train(config(path, tmp_path / "other", override=("head.proprioception=true", "state.key=joints")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("fps=50", "the demonstrations say what fps is, 20.0 with"),
        ("action.dim=9", "the demonstrations say what action.dim is, 4 with"),
        ("action.gripper=0", "the demonstrations say what action.gripper is, 3 with"),
    ],
)
def test_changes_against_the_demonstrations_are_refused(tmp_path, change, said):
    with pytest.raises(UserError, match=f"--override {change}: {said}"):
        train(config(write(tmp_path / "d.hdf5"), tmp_path / "run", override=(change,)))
    assert not (tmp_path / "run").exists()


def test_a_gripper_alone_is_no_robot(tmp_path):
    with pytest.raises(DemoError, match="d.hdf5 is its gripper: there is no motion to learn"):
        train(config(write(tmp_path / "d.hdf5", dim=1), tmp_path / "run"))


def test_a_start_that_sees_other_images_is_named(tmp_path):
    start = str(train(config(write(tmp_path / "d.hdf5"), tmp_path / "start")).output)
    one = write(tmp_path / "one.hdf5", cameras=("side",))
    with pytest.raises(UserError, match=r"sees 2 cameras \(front, wrist\), but the policy would see 1 \(side\)"):
        train(config(one, tmp_path / "run", init=start, init_head=False))
    with pytest.raises(UserError, match="sees images of 32 pixels, but image.size is 64"):
        train(config(tmp_path / "d.hdf5", tmp_path / "run", init=start, override=("image.size=64",)))


def test_a_run_goes_on_with_its_demonstrations_wherever_they_lie_and_no_others(tmp_path, monkeypatch):
    path = write(tmp_path / "d.hdf5")
    train(config(path, tmp_path / "run", steps=2))
    (tmp_path / "moved").mkdir()
    path = path.rename(tmp_path / "moved" / "e.hdf5")
    monkeypatch.chdir(path.parent)
    for steps, given in ((3, path), (4, path.relative_to(path.parent))):
        assert train(config(given, tmp_path / "run", steps=steps, resume=True)).output.is_dir()
    demos = [make_demo(index) for index in range(6)]
    for count, said in ((7, "began with 6 demonstrations of d.hdf5, but now e.hdf5 has 7"), (6, "began with other")):
        changed = [*demos[:5], *(make_demo(index) for index in (7, 9))][:count]
        write_demonstrations(path, changed, 20, 3, overwrite=True)
        with pytest.raises(UserError, match=said):
            train(config(path, tmp_path / "run", steps=6, resume=True))
    with pytest.raises(UserError, match="began with 1 files of demonstrations, but now there are 2"):
        train(config((path, shutil.copy(path, tmp_path / "copy.hdf5")), tmp_path / "run", steps=6, resume=True))


@pytest.mark.parametrize("kind", ["r3m", "rt1", "hulc"])
def test_a_baseline_begins_from_any_policy_and_has_the_robot_of_the_demonstrations(tmp_path, kind):
    path = write(tmp_path / "d.hdf5")
    start = str(train(config(path, tmp_path / "start")).output)
    without_pose = ("head.gripper_frame=false", "head.proprioception=false")
    settings = config(path, tmp_path / "run", init=start, sequence_length=8)
    settings.override = without_pose if kind == "hulc" else ()
    settings.preset = f"{kind}-tiny"
    found, had = (load_policy(folder, "cpu").config for folder in (train(settings).output, start))
    assert found.type == kind and (found.views, found.action, found.fps) == (had.views, had.action, had.fps)
    assert found.action.normalization == "min_max"


def test_a_trained_policy_refuses_actions_that_it_cannot_do(tmp_path):
    start = preset("roboflamingo-test")  # acts in [-1, 1], its gripper is -1 or 1
    cameras = ("rgb_static", "rgb_gripper")
    wide = write(tmp_path / "wide.hdf5", dim=7, fps=30, cameras=cameras)
    with pytest.raises(DemoError, match="wide.hdf5 reach 30, .*: give --no-init-head to learn other actions"):
        fitted(start, open_all([wide]), trained=True)
    demos = [make_demo(index, dim=7, cameras=cameras) for index in range(4)]
    for demo in demos:
        demo.actions[:, :6] = np.clip(demo.actions[:, :6], -1, 1)
    values = write_demonstrations(tmp_path / "values.hdf5", demos, 30, 6)
    with pytest.raises(DemoError, match="gripper's entry 6 .* has values such as 0, 0.08.*--no-init-head"):
        fitted(start, open_all([values]), trained=True)
    for normalization in ("min_max", "quantiles"):
        with pytest.raises(DemoError, match=f"is {normalization}, but the policy has learned with none"):
            fitted(start, open_all([values]), trained=True, normalization=normalization)
