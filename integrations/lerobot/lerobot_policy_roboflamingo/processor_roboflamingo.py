"""What LeRobot runs before and after the policy: images at the policy's size, tensors on its device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from lerobot.configs import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.processor import (
    ObservationProcessorStep,
    PolicyProcessorPipeline,
    ProcessorStepRegistry,
    make_default_policy_processor_steps,
    make_policy_processor_pipelines,
)
from lerobot.utils.constants import OBS_IMAGE
from torch import Tensor

from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from rf_agent.preprocess import resize


def make_roboflamingo_pre_post_processors(
    config: RoboFlamingoConfig, dataset_stats: dict[str, dict[str, Tensor]] | None = None
) -> tuple[PolicyProcessorPipeline[dict[str, Any], dict[str, Any]], PolicyProcessorPipeline[Tensor, Tensor]]:
    """The pipelines before and after the policy, under the names by which LeRobot looks them up.

    They hold LeRobot's usual steps, which its commands set (names, device, statistics), and one of ours, which makes
    images small before they are copied to a GPU. The steps that normalise leave all numbers as they are.
    """
    steps = make_default_policy_processor_steps(config, dataset_stats)
    image = config.agent_config.image
    before = [
        steps.rename_observations,
        steps.add_batch_dim,
        ResizeImages(image.size, image.resample),
        steps.to_device,
        steps.normalize,
    ]
    return make_policy_processor_pipelines(before, [steps.unnormalize, steps.to_cpu])


@dataclass
@ProcessorStepRegistry.register(name="roboflamingo_resize_images")
class ResizeImages(ObservationProcessorStep):
    """Camera images at the policy's size: (..., 3, H, W) in [0, 1] or uint8 -> uint8 (..., 3, S, S).

    It is the agent's own resize, which does nothing to images that have the size: acting with and without this step is
    the same to the bit.
    """

    size: int
    """Side of the images in pixels (S)."""
    resample: str = "bilinear"
    """How they are resized, see `rf_agent.config.ImageConfig`."""

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The observation with small images."""
        return {
            key: at_size(value, self.size, self.resample) if _is_image(key, value) else value
            for key, value in observation.items()
        }

    def get_config(self) -> dict[str, Any]:
        """What a saved pipeline needs to make this step again."""
        return {"size": self.size, "resample": self.resample}

    def transform_features(
        self, features: dict[PipelineFeatureType, dict[str, PolicyFeature]]
    ) -> dict[PipelineFeatureType, dict[str, PolicyFeature]]:
        """The features with the new sizes."""

        def resized(feature: PolicyFeature) -> PolicyFeature:
            is_image = feature.type is FeatureType.VISUAL
            return replace(feature, shape=(3, self.size, self.size)) if is_image else feature

        return {kind: {key: resized(feature) for key, feature in group.items()} for kind, group in features.items()}


def at_size(images: Tensor, size: int, resample: str) -> Tensor:
    """Images (..., 3, H, W) in [0, 1] or uint8 -> uint8 (..., 3, size, size) on their device.

    LeRobot hands out uint8 images divided by 255, so that rounding brings back every bit.
    """
    if images.dtype != torch.uint8:
        images = (images.float() * 255).round().clamp(0, 255).to(torch.uint8)
    if images.shape[-2:] == (size, size):
        return images
    resized = torch.from_numpy(resize(images.movedim(-3, -1).cpu().numpy(), size, resample))
    return resized.movedim(-1, -3).to(images.device)


def _is_image(key: str, value: Any) -> bool:
    return key.startswith(OBS_IMAGE) and isinstance(value, Tensor) and value.dim() >= 3 and value.shape[-3] == 3
