"""`rf-agent pretrain`: pictures of random scenes, and a small vision-language model that learns from them."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images
from rf_agent.presets import preset
from rf_agent.progress import RichReporter
from rf_agent.training.pretrain import PretrainConfig, pretrain
from rf_agent.training.settings import prepare_output


@dataclass(kw_only=True)
class Args(PretrainConfig):
    """Pre-train a small vision-language model on pictures of the table."""

    pictures: tuple[Path, ...] = ()
    """Picture files (HDF5); OUTPUT/pictures.hdf5 is rendered first if none is given."""
    image_count: int = 20_000
    """Pictures to render, in both views."""
    image_size: int | None = None
    """Side of the rendered pictures in pixels; the policy's image size if not given."""
    env: str = "rf/PlayTableD-v0"
    """Environment that scatters and describes the scenes."""
    workers: int = os.cpu_count() or 1
    """Processes that render."""


def run(args: Args) -> None:
    """Render what is missing, pre-train, and print the grounding error of each thing."""
    prepare_output(args)  # rendering takes long: what can be refused is refused before
    fields = {field.name: getattr(args, field.name) for field in dataclasses.fields(PretrainConfig)}
    if not args.pictures:
        pictures = SceneImageConfig(
            output=args.output / "pictures.hdf5",
            env=args.env,
            count=args.image_count,
            image_size=args.image_size or preset(args.preset).image.size,
            workers=args.workers,
            seed=args.seed,
        )
        with RichReporter("pictures") as reporter:
            fields["pictures"] = (collect_scene_images(pictures, reporter),)
    with RichReporter("pretrain") as reporter:
        report = pretrain(PretrainConfig(**fields), reporter)
        reporter.log(f"Vision-language model: {report.output}")
