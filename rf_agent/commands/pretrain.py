"""`rf-agent pretrain`: images of random scenes, and a small vision-language model that learns from them."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images
from rf_agent.presets import preset
from rf_agent.progress import RichReporter
from rf_agent.training.pretrain import PretrainConfig, check_type, pretrain
from rf_agent.training.settings import prepare_output


@dataclass(kw_only=True)
class Args(PretrainConfig):
    """Pre-train a small vision-language model on images of the table."""

    images: tuple[Path, ...] = ()
    """Files of scene images (HDF5); OUTPUT/scene_images.hdf5 is rendered first if none is given."""
    image_count: int = 20_000
    """Images to render, in both views."""
    image_size: int | None = None
    """Side of the rendered images in pixels; the policy's image size if not given."""
    env: str = "rf/PlayTableD-v0"
    """Environment that randomizes and describes the scenes."""
    workers: int = os.cpu_count() or 1
    """Processes that render."""


def run(args: Args) -> None:
    """Render what is missing, pre-train, and print the grounding error of each object."""
    prepare_output(args)  # rendering takes long: what can be refused is refused before
    fields = {field.name: getattr(args, field.name) for field in dataclasses.fields(PretrainConfig)}
    check_type(args)
    if not args.images:
        scenes = SceneImageConfig(
            output=args.output / "scene_images.hdf5",
            env=args.env,
            count=args.image_count,
            image_size=args.image_size or preset(args.preset).image.size,
            workers=args.workers,
            seed=args.seed,
        )
        with RichReporter("images") as reporter:
            fields["images"] = (collect_scene_images(scenes, reporter),)
    with RichReporter("pretrain") as reporter:
        report = pretrain(PretrainConfig(**fields), reporter)
        reporter.log(f"Vision-language model: {report.output}")
