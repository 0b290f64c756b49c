"""`rf-agent pretrain`: images of random scenes, and a small vision-language model that learns from them."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images, scene_file
from rf_agent.errors import UserError
from rf_agent.interrupts import sigterm_like_ctrl_c
from rf_agent.progress import RichReporter
from rf_agent.training.pretrain import PretrainConfig, check_settings, own_config, pretrain
from rf_agent.training.run_folder import prepare_output
from rf_agent.unused import refuse_unused
from rf_agent.workers import usable_cores


@dataclass(kw_only=True)
class Args(PretrainConfig):
    """Pre-train a small vision-language model on images of the table."""

    images: tuple[Path, ...] = ()
    """Files of scene images (HDF5); if none is given, OUTPUT/scene_images.hdf5 is rendered first, or a file for each of
    several environments."""
    image_count: int = 20_000
    """Images to render in all, in both views."""
    image_size: int | None = None
    """Side of the rendered images in pixels; the policy's image size if not given."""
    env: tuple[str, ...] = ("rf/PlayTableD-v0",)
    """Environments that randomize and describe the scenes; each gives as many images."""
    env_options: tuple[str, ...] = ()
    """Arguments of the environments as NAME=VALUE, such as renderer=tiny of the real CALVIN."""
    workers: int = usable_cores()
    """Processes that render."""


def run(args: Args) -> None:
    """Render what is missing, pre-train, and print the grounding error of each object."""
    prepare_output(args, "vlm")  # rendering takes long: what can be refused is refused before
    fields = {field.name: getattr(args, field.name) for field in dataclasses.fields(PretrainConfig)}
    if args.images:
        refuse_unused(args, ("env", "env_options", "image_count", "image_size"), "--images are given")
    if args.init is not None:
        refuse_unused(args, ("preset",), "--init is given")
    check_settings(args)
    if not args.images:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("several processes would all render images: give --images, which one of them has rendered")
        with RichReporter("images") as reporter:
            fields["images"] = tuple(collect_scene_images(scenes, reporter) for scenes in _scenes(args))
    with sigterm_like_ctrl_c(), RichReporter("pretrain") as reporter:  # which saves a checkpoint
        report = pretrain(PretrainConfig(**fields), reporter)
        reporter.log(f"Vision-language model: {report.output}")


def _scenes(args: Args) -> list[SceneImageConfig]:
    """What is to be rendered of each environment."""
    envs = list(dict.fromkeys(args.env))
    if not envs or args.image_count < len(envs):
        raise UserError(f"--image-count is {args.image_count} for {len(envs)} environments: give each of them an image")
    size = own_config(args).image.size if args.image_size is None else args.image_size
    return [
        SceneImageConfig(
            output=args.output / (f"{scene_file(env)}.hdf5" if len(envs) > 1 else "scene_images.hdf5"),
            env=env,
            env_options=args.env_options,
            count=args.image_count // len(envs),
            image_size=size,
            workers=args.workers,
            seed=args.seed,
        )
        for env in envs
    ]
