"""RT-1 (arXiv:2212.06817), the paper's third baseline: FiLM, TokenLearner, a transformer, and discretised actions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_agent.baselines.config import RT1Config, RT1EncoderConfig
from rf_agent.baselines.model import BaselineModel, BaselinePolicy, Encoder, Sentence
from rf_agent.errors import ConfigError
from rf_agent.nn.heads import PolicyHead
from rf_agent.nn.heads.rt1 import RT1Head

SHARPNESS = 20.0
"""Factor of TokenLearner's maps before training. Drawn as usual they weigh all places about the same: every token
begins as the mean over the view, and hundreds of steps pass before it tells where something is. With this factor one
place of 49 has half of the weight."""


class FiLM(nn.Module):
    """Feature-wise linear modulation (arXiv:1709.07871): scale and shift of each channel, chosen by the instruction.

    It begins as the identity, so that it does not disturb pre-trained features (RT-1, Section 5.1).
    """

    def __init__(self, sentence_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(sentence_dim, 2 * dim)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, sentence: Tensor) -> Tensor:
        """Feature maps (N, d, h, w) and sentence embeddings (N, ds) -> (N, d, h, w)."""
        scale, shift = self.project(sentence)[:, :, None, None].chunk(2, dim=1)  # (N, d, 1, 1) each
        return (1 + scale) * x + shift


class MBConv(nn.Module):
    """EfficientNet's block (arXiv:1905.11946): a wide depthwise convolution with squeeze-and-excitation.

    Group norm takes the place of batch norm, so that a batch equals each frame alone. A block begins as the identity,
    as FiLM does: what a random one adds is larger than the pre-trained features.
    """

    def __init__(self, dim: int, expansion: int) -> None:
        super().__init__()
        wide, narrow = expansion * dim, max(1, dim // 4)
        self.expand = nn.Sequential(nn.Conv2d(dim, wide, 1, bias=False), nn.GroupNorm(1, wide), nn.SiLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.GroupNorm(1, wide), nn.SiLU()
        )
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, narrow, 1), nn.SiLU(), nn.Conv2d(narrow, wide, 1), nn.Sigmoid()
        )
        norm = nn.GroupNorm(1, dim)
        nn.init.zeros_(norm.weight)
        self.project = nn.Sequential(nn.Conv2d(wide, dim, 1, bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, d, h, w) -> (N, d, h, w)."""
        y = self.depthwise(self.expand(x))  # (N, expansion * d, h, w)
        return x + self.project(y * self.excite(y))


class TokenLearner(nn.Module):
    """A few tokens of many places: weighted means, by weights that an MLP gives (TokenLearner 1.1, arXiv:2106.11297).

    Args:
        dim: width of a token. tokens: how many come out. bottleneck: hidden width of the MLP.
    """

    def __init__(self, dim: int, tokens: int, bottleneck: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(dim, bottleneck)
        self.maps = nn.Linear(bottleneck, tokens)
        with torch.no_grad():
            self.maps.weight.mul_(SHARPNESS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, n, d) -> (N, tokens, d)."""
        maps = self.maps(F.gelu(self.hidden(self.norm(x)), approximate="tanh"))  # (N, n, tokens)
        return maps.softmax(dim=1).transpose(1, 2) @ x


class RT1Encoder(Encoder):
    """The image tokenizer: a view's tokens, conditioned on the instruction by FiLM, become a few tokens.

    A 1x1 convolution brings the vision tower's last feature map to `width`; FiLM follows it, and each further MBConv
    block. Every view is tokenised on its own by the same weights; RT-1 has one camera.

    Simplified: RT-1 also puts FiLM into every block of its EfficientNet and trains that, too. The tower is a part of
    its own here, frozen if training begins with `--init`, and the same whatever the instruction is.

    Args:
        views: V. tokens: n, a square grid. dim: dv. sentence_dim: ds.
        config: what comes out of a view, and the layers between.

    Attributes:
        count: tokens of an observation step.

    Raises:
        ConfigError: the tokens of a view are no square grid.
    """

    def __init__(self, views: int, tokens: int, dim: int, sentence_dim: int, config: RT1EncoderConfig) -> None:
        super().__init__()
        self.side = math.isqrt(tokens)
        if self.side**2 != tokens:
            raise ConfigError(
                f"vision.model yields {tokens} tokens a view, but RT-1 convolves a square grid; choose another tower."
            )
        self.count = views * config.tokens
        self.dim = self.count * config.width
        self.reduce = nn.Conv2d(dim, config.width, 1, bias=False)
        self.films = nn.ModuleList(FiLM(sentence_dim, config.width) for _ in range(config.blocks + 1))
        self.blocks = nn.ModuleList(MBConv(config.width, config.expansion) for _ in range(config.blocks))
        self.learner = TokenLearner(config.width, config.tokens, config.bottleneck)

    def forward(self, vision_tokens: Tensor, sentence: Sentence) -> Tensor:
        """Vision tokens (N, V, n, dv), N sentences -> (N, V * tokens * width), the first view's tokens first."""
        n, views = vision_tokens.shape[:2]
        embedding = sentence.embedding.repeat_interleave(views, dim=0)  # (N * V, ds)
        x = vision_tokens.flatten(0, 1).transpose(1, 2).unflatten(2, (self.side, self.side))  # (N * V, dv, h, w)
        x = self.films[0](self.reduce(x), embedding)  # (N * V, width, h, w)
        for block, film in zip(self.blocks, self.films[1:], strict=True):
            x = film(block(x), embedding)
        learned = self.learner(x.flatten(2).transpose(1, 2))  # (N * V, tokens, width)
        return learned.unflatten(0, (n, views)).flatten(1)


class RT1Model(BaselineModel):
    """RT-1's network on a vision tower and a sentence encoder."""

    config: RT1Config
    encoder: RT1Encoder

    def make_encoder(self) -> RT1Encoder:
        tower = self.vision_tower
        views = len(self.config.views)
        return RT1Encoder(views, tower.tokens, tower.dim, self.sentence_encoder.dim, self.config.encoder)

    def make_head(self) -> PolicyHead:
        """RT-1's head sees the tokens of a step one by one; any other reads them as one feature."""
        config = self.config
        if config.head.type != "rt1":
            return super().make_head()
        return RT1Head(self.encoder.dim, config.head, config.action, config.state, self.encoder.count)


class RT1Policy(BaselinePolicy, RT1Model):
    """The agent over RT-1's network."""

    config: RT1Config
    config_class = RT1Config
