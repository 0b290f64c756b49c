"""`rf-agent collect-vl`: images of the play table with captions and questions, in COCO's and VQAv2's layouts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images
from rf_agent.demos.vision_language.export import check_subset, export_scene_images
from rf_agent.progress import RichReporter
from rf_agent.unused import refuse_unused
from rf_agent.workers import usable_cores


@dataclass(kw_only=True)
class Args:
    """Render random scenes and write them as COCO and VQAv2 do, for co-training and `rf-agent evaluate-vl`."""

    output: Path
    """Folder to write to: images in OUTPUT/SUBSET, and three JSON files named as COCO and VQAv2 name theirs."""
    subset: str = "val"
    """Name that stands in all file names, such as train or val; another subset should have another seed."""
    images: Path | None = None
    """Scene images to convert (HDF5), such as `rf-agent pretrain` rendered; without, they are rendered first."""
    camera: str = "rgb_static"
    """The view that is written: the one that captions and questions are about."""
    env: str = "rf/PlayTableD-v0"
    """Environment that randomizes and describes the scenes."""
    env_options: tuple[str, ...] = ()
    """Arguments of the environment as NAME=VALUE, such as renderer=tiny of the real CALVIN."""
    count: int = 1000
    """Images to render."""
    image_size: int = 112
    """Side of the rendered images in pixels."""
    workers: int = usable_cores()
    """Processes that render."""
    seed: int = 0
    """Seed of the scenes."""


def run(args: Args) -> None:
    """Render what is missing, write the files, and say which."""
    check_subset(args.subset)
    source = args.images
    if source is not None:
        refuse_unused(args, ("env", "env_options", "count", "image_size", "seed"), "--images are given")
    else:
        scenes = SceneImageConfig(
            output=args.output / f"scene_images_{args.subset}.hdf5",
            env=args.env,
            env_options=args.env_options,
            count=args.count,
            image_size=args.image_size,
            workers=args.workers,
            seed=args.seed,
        )
        with RichReporter("scenes") as reporter:
            source = collect_scene_images(scenes, reporter, (args.camera,))
    with RichReporter("files") as reporter:
        for file in export_scene_images(source, args.output, args.camera, args.subset, reporter):
            reporter.log(str(file))
