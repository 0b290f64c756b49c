"""RoboFlamingoPolicy: observations and an instruction in, actions out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rf_agent import checkpoint, preprocess
from rf_agent.config import ConfigError, RoboFlamingoConfig
from rf_agent.memory import PolicyState
from rf_agent.nn.flamingo import Flamingo
from rf_agent.nn.heads import History, build_head, max_pool
from rf_agent.presets import find_checkpoint, preset
from rf_agent.tokenizer import build_tokenizer, encode, image_token, pad, prompt
from rf_agent.trainable import set_trainable, trainable_summary
from rf_agent.training.losses import action_loss

DEFAULT_CARD = """# A RoboFlamingo policy

Load it with `RoboFlamingoPolicy.from_pretrained(<this directory>)`.
"""


class WindowOutput(NamedTuple):
    """Predictions at every look of a window."""

    pose: Tensor
    """(B, T, K, 6) in [-1, 1]."""
    gripper_logits: Tensor
    """(B, T, K), above zero opens."""


class RoboFlamingoPolicy(nn.Module):
    """A vision-language model with a policy head (RoboFlamingo, arXiv:2311.01378).

    Shapes: B sequences, T looks, V views, K actions per chunk, E of them executed, L text tokens, d feature
    width. No module holds history: it is a value that `predict` takes and returns; `act` keeps that value for
    its caller.

    Args:
        config: the whole configuration.
        tokenizer: a `transformers` tokenizer with `<image>` and `<|endofchunk|>`.

    Raises:
        ConfigError: the tokenizer has more tokens than the language model.
    """

    def __init__(self, config: RoboFlamingoConfig, tokenizer: Any) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.vlm = Flamingo(config, image_token(tokenizer))
        vocabulary = self.vlm.lang_encoder.get_input_embeddings().weight.shape[0]
        if len(tokenizer) > vocabulary:
            raise ConfigError(
                f"the tokenizer has {len(tokenizer)} tokens, but language.model.vocab_size is {vocabulary}; "
                "raise it, or build a smaller tokenizer."
            )
        self.head = build_head(self.vlm.dim, config.head)
        self._encoded: dict[str, list[int]] = {}  # instruction -> token ids
        self._state: PolicyState | None = None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    # --- from pixels to actions: the one path, for training and acting ---

    def encode_vision(self, pixels: Tensor) -> Tensor:
        """The vision tower alone: pixels (N, V, 3, S, S) normalised -> vision tokens (N, V, n, dv)."""
        return self.vlm.encode_vision(pixels)

    def features(self, vision_tokens: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """What the head sees of a frame and a text.

        Args:
            vision_tokens: (N, V, n, dv) from `encode_vision`.
            tokens: (N * R, L) ids of R consecutive texts per frame (R = 1 for acting), right-padded.
            mask: (N * R, L) true for real tokens.

        Returns:
            (N * R, d): the language model's last hidden states, max-pooled over the real tokens.
        """
        return max_pool(self.vlm.hidden(self.vlm.media(vision_tokens), tokens), mask)

    def window(self, pixels: Tensor, tokens: Tensor, token_mask: Tensor) -> WindowOutput:
        """Actions at every look of a window, as if the history began with its first look.

        Args:
            pixels: (B, T, V, 3, S, S) normalised.
            tokens, token_mask: (B, L).
        """
        return self._act_on(self.encode_vision(pixels.flatten(0, 1)), tokens, token_mask)

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Imitation loss of a batch, and metrics.

        Args:
            batch: `pixels` (B, T, V, 3, S, S) or `vision_tokens` (B, T, V, n, dv), `tokens` and `token_mask`
                (B, L), `actions` (B, T, K, 7), `mask` (B, T) true for looks that count.
        """
        if "vision_tokens" in batch:
            vision_tokens = batch["vision_tokens"].flatten(0, 1)
        else:
            vision_tokens = self.encode_vision(batch["pixels"].flatten(0, 1))
        out = self._act_on(vision_tokens, batch["tokens"], batch["token_mask"])
        return action_loss(out.pose, out.gripper_logits, batch["actions"], batch["mask"], self.config.loss)

    def _act_on(self, vision_tokens: Tensor, tokens: Tensor, mask: Tensor) -> WindowOutput:
        """vision tokens (B * T, V, n, dv), text (B, L) -> actions at every look."""
        b = len(tokens)
        t = len(vision_tokens) // b
        tokens, mask = tokens.repeat_interleave(t, dim=0), mask.repeat_interleave(t, dim=0)
        features = self.features(vision_tokens, tokens, mask).unflatten(0, (b, t))  # (B, T, d)
        return WindowOutput(*self.head.window(features))

    # --- text ---

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts of instructions: ids (N, L) and mask (N, L), right-padded, on the policy's device."""
        for text in texts:
            if text not in self._encoded:
                if len(self._encoded) >= 10_000:  # an endless stream of new texts must not fill the memory
                    self._encoded.clear()
                end = self.tokenizer.eos_token
                self._encoded[text] = encode(self.tokenizer, [prompt(text, end)])[0]
        tokens, mask = pad([self._encoded[text] for text in texts], self.tokenizer.pad_token_id)
        return tokens.to(self.device), mask.to(self.device)

    # --- acting ---

    def predict(
        self,
        observation: Mapping[str, Any],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, PolicyState]:
        """Actions for a batch of environments: the protocol of Stable-Baselines3.

        Between looks the actions of the last chunk are handed out and no image is touched.

        Args:
            observation: `rgb_static`, `rgb_gripper` uint8 (n, H, W, 3) and `instruction` (see
                `preprocess.instructions`); or a single observation without the first axis.
            state: what the last call returned for these environments; None at the start.
            episode_start: (n,) true where an episode begins, so that its history restarts.
            deterministic: accepted for the protocol; this policy always is.

        Returns:
            actions float32 (n, 7) in [-1, 1] (gripper exactly -1 or +1), or (7,) for a single observation;
            and the new state.

        Raises:
            ValueError: the observation does not fit the policy, or the state belongs to another number of
                environments.
        """
        memory, single = self._told(observation, state, episode_start)
        (look,) = np.nonzero(memory.queued == 0)
        if len(look):
            chunks, features, length = self._look(observation, memory, look, single)
            memory = memory.looked(look, features, length, chunks[:, : self.config.head.execute])
        actions, memory = memory.popped()
        return (actions[0] if single else actions), memory

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Actions float32 (n, 7), or (7,) for a single observation; the history is kept until `reset`."""
        actions, self._state = self.predict(observation, self._state)
        return actions

    def predict_action_chunk(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Look now, and return the whole chunk float32 (n, K, 7); `act`'s history goes on with this look."""
        memory, single = self._told(observation, self._state, None)
        rows = np.arange(len(memory.length))
        chunks, features, length = self._look(observation, memory, rows, single)
        memory = memory.looked(rows, features, length, chunks[:, : self.config.head.execute])
        self._state = memory._replace(queued=np.zeros_like(memory.queued))  # the caller executes the chunk
        return chunks

    def reset(self, indices: Iterable[int] | None = None) -> None:
        """Forget the history that `act` keeps: of all environments, or of those at `indices`.

        Raises:
            ValueError: an index beyond the environments that the policy acts in.
        """
        if indices is None or self._state is None:
            self._state = None
            return
        rows = np.fromiter(indices, dtype=np.int64)
        count = len(self._state.length)
        if rows.size and not (-count <= rows.min() and rows.max() < count):
            raise ValueError(f"reset({rows.tolist()}) was asked, but the policy acts in {count} environments.")
        self._state = self._state.cleared(rows)

    def _told(
        self,
        observation: Mapping[str, Any],
        state: tuple[np.ndarray, ...] | None,
        episode_start: np.ndarray | None,
    ) -> tuple[PolicyState, bool]:
        """The memory for these observations, restarted where it must be; and whether it is a single one."""
        n, single = preprocess.batch_size(observation, self.config.views)
        texts = np.array(preprocess.instructions(observation["instruction"], n), dtype=object)
        if state is None:
            head = self.config.head
            return PolicyState.blank(texts, head.window, self.vlm.dim, head.execute), single
        return PolicyState(*state).told(texts, episode_start), single

    @torch.inference_mode()
    def _look(
        self, observation: Mapping[str, Any], memory: PolicyState, rows: np.ndarray, single: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Chunks (r, K, 7) of the r environments `rows`; their features (r, W, d) and lengths (r,) with this look."""
        images = {
            view: np.asarray(observation[view])[None] if single else np.asarray(observation[view])[rows]
            for view in self.config.views
        }
        pixels = preprocess.pixels(images, self.config.views, self.config.image, self.device)
        tokens, mask = self.tokenize(memory.instructions[rows].tolist())
        history = History(
            torch.from_numpy(memory.features[rows]).to(self.device),
            torch.from_numpy(memory.length[rows]).to(self.device),
        )
        with evaluating(self):
            feature = self.features(self.encode_vision(pixels), tokens, mask)  # (r, d)
            pose, logits, history = self.head.step(feature, history)
        gripper = torch.where(logits > 0, 1.0, -1.0)[..., None]
        chunks = torch.cat((pose.float(), gripper), dim=-1)  # (r, K, 7)
        return chunks.cpu().numpy(), history.features.float().cpu().numpy(), history.length.cpu().numpy()

    # --- training sets and checkpoints ---

    def set_trainable(self, train_vision: bool = False, train_language: bool = False) -> list[str]:
        """Choose what learns; see `rf_agent.trainable.set_trainable`."""
        return set_trainable(self, train_vision, train_language)

    def trainable_summary(self) -> str:
        """A table of parameters and trainable parameters by part."""
        return trainable_summary(self)

    @classmethod
    def from_preset(cls, name: str, corpus: Iterable[str] = (), seed: int | None = None) -> RoboFlamingoPolicy:
        """An untrained policy.

        Args:
            name: one of `rf_agent.presets.PRESETS`.
            corpus: texts from which its tokenizer is learned.
            seed: of the random weights; the global random state is left as it was.
        """
        config = preset(name)
        tokenizer = build_tokenizer(corpus, config.language.model["vocab_size"])
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            return cls(config, tokenizer)

    def save_pretrained(self, directory: str | Path, card: str | None = None, dtype: torch.dtype | None = None) -> Path:
        """Write a checkpoint directory, whole or not at all.

        Args:
            directory: where; an older checkpoint there is replaced.
            card: text of its README.md.
            dtype: number format of the stored weights, such as torch.float16; that of the policy by default.

        Raises:
            CheckpointError: the directory holds something else.
        """
        weights = checkpoint.unique_tensors(self)
        if dtype is not None:
            weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}
        return checkpoint.write(directory, self.config, weights, self.tokenizer, card or DEFAULT_CARD)

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str | torch.device = "auto") -> RoboFlamingoPolicy:
        """A trained policy, ready to act.

        Args:
            name: a checkpoint directory, or the name of a policy that comes with the package
                (`roboflamingo-tiny`).
            device: "auto" takes a GPU where there is one.

        Raises:
            CheckpointError: no such policy, or files or tensors are missing, unexpected or mis-shaped.
        """
        directory = find_checkpoint(name)
        config = checkpoint.read_config(directory)
        policy = cls(config, checkpoint.read_tokenizer(directory))
        checkpoint.load_strictly(policy, checkpoint.read_weights(directory), str(directory / checkpoint.WEIGHTS))
        return policy.to(resolve_device(device)).eval()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards every part is in the mode that it had."""
    modes = [(part, part.training) for part in module.modules()] if module.training else []
    if modes:
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def resolve_device(device: str | torch.device) -> torch.device:
    """`device` as torch knows it; "auto" is a GPU where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)
