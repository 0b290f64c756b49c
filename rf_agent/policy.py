"""RoboFlamingoPolicy: observations and an instruction in, actions out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rf_agent import checkpoint, preprocess
from rf_agent.config import ConfigError, RoboFlamingoConfig
from rf_agent.devices import resolve_device, resolve_dtype
from rf_agent.lora import folded_tensors
from rf_agent.memory import PolicyState
from rf_agent.nn import looks
from rf_agent.nn.blank import Blank, cast_unfilled
from rf_agent.nn.flamingo import Flamingo
from rf_agent.nn.heads import History, build_head
from rf_agent.nn.looks import Told
from rf_agent.presets import find_checkpoint, preset
from rf_agent.stepping import CompiledStep, Step, eager_step
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
    its caller. A policy belongs to one thread at a time; other threads need copies.

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
        self.head = build_head(self.vlm.feature_dim, config.head, self.vlm.vision_encoder.dim)
        self._encoded: dict[str, list[int]] = {}  # instruction -> token ids
        self._state: PolicyState | None = None
        self._step: Step = eager_step

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the parameters; what `predict` takes and returns is float32."""
        return next(self.head.parameters()).dtype

    # --- from pixels to actions: the one path, for training and acting ---

    def encode_vision(self, pixels: Tensor) -> Tensor:
        """The vision tower alone: pixels (N, V, 3, S, S) normalised -> vision tokens (N, V, n, dv)."""
        return self.vlm.encode_vision(pixels)

    def features(
        self, vision_tokens: Tensor, tokens: Tensor, mask: Tensor, robot: Tensor | None = None, padding: bool = False
    ) -> Tensor:
        """What the head remembers of a look at a frame (or at several, oldest first) with a text in mind.

        Args:
            vision_tokens: (N, V, n, dv) or (N, F, V, n, dv) from `encode_vision`.
            tokens: (N, L) ids, right-padded.
            mask: (N, L) true for real tokens.
            robot: (N, 15) robot_obs, for heads with proprioception.
            padding: pool over padding too.

        Returns:
            (N, f): the hidden states that `language.lm_feature` names, pooled by the head.
        """
        frames = vision_tokens if vision_tokens.dim() == 5 else vision_tokens[:, None]
        if frames.shape[1] > self.head.frames:
            raise ValueError(
                f"a look at {frames.shape[1]} frames was given, but the policy sees at most {self.head.frames} at once."
            )
        kept = looks.keep(self.vlm, self.head, frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return looks.read(self.vlm, self.head, kept, Told(tokens, mask, robot, padding))

    def run_features(
        self, vision_tokens: Tensor, valid: Tensor, tokens: Tensor, mask: Tensor, robot: Tensor | None = None
    ) -> Tensor:
        """Features of every look of some runs of frames, as training supervises them: each frame is encoded once.

        Args:
            vision_tokens: (M, V, n, dv), one for each valid look, run by run.
            valid: (B, T) true for the looks there are, M of them, at the beginning of each run.
            tokens, mask: (B, L).
            robot: (M, 15) robot_obs, for heads with proprioception.

        Returns:
            (B, T, f), zero where there is no look.
        """
        counts, padding = valid.sum(dim=1), self.config.head.pool_padding
        told = Told(tokens.repeat_interleave(counts, dim=0), mask.repeat_interleave(counts, dim=0), robot, padding)
        return looks.read_runs(self.vlm, self.head, vision_tokens, valid, told)

    def window(self, pixels: Tensor, tokens: Tensor, token_mask: Tensor, robot: Tensor | None = None) -> WindowOutput:
        """Actions at every look of a window, as if the history began with its first look.

        Heads that see all frames of the window at once (`fc_hist`) act at the last alone: T is 1 in what they return.

        Args:
            pixels: (B, T, V, 3, S, S) normalised.
            tokens, token_mask: (B, L).
            robot: (B, T, 15) robot_obs, for heads with proprioception.
        """
        vision_tokens = self.encode_vision(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        return self._act_on(vision_tokens, tokens, token_mask, robot)

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Imitation loss of a batch, and metrics.

        Args:
            batch: `pixels` (B, T, V, 3, S, S) or `vision_tokens` (B, T, V, n, dv), `tokens` and `token_mask`
                (B, L), `actions` (B, T, K, 7), `mask` (B, T) true for looks that count, and `robot_obs` (B, T, 15)
                for heads with proprioception. Where `window` acts at the last look alone, that one counts.
        """
        if "vision_tokens" in batch:
            vision_tokens = batch["vision_tokens"]
        else:
            vision_tokens = self.encode_vision(batch["pixels"].flatten(0, 1)).unflatten(0, batch["pixels"].shape[:2])
        out = self._act_on(vision_tokens, batch["tokens"], batch["token_mask"], batch.get("robot_obs"))
        acted = out.pose.shape[1]
        actions, mask = batch["actions"][:, -acted:], batch["mask"][:, -acted:]
        return action_loss(out.pose, out.gripper_logits, actions, mask, self.config.loss)

    def _act_on(self, vision_tokens: Tensor, tokens: Tensor, mask: Tensor, robot: Tensor | None) -> WindowOutput:
        """vision tokens (B, T, V, n, dv), text (B, L) -> actions at every look, or at the last."""
        if self.head.frames > 1:
            now = None if robot is None else robot[:, -1]
            features = self.features(vision_tokens, tokens, mask, now, self.config.head.pool_padding)[:, None]
        else:
            valid = torch.ones(vision_tokens.shape[:2], dtype=torch.bool, device=vision_tokens.device)
            robot = None if robot is None else robot.flatten(0, 1)
            features = self.run_features(vision_tokens.flatten(0, 1), valid, tokens, mask, robot)
        return WindowOutput(*self.head.window(features))

    # --- text ---

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts of instructions: ids (N, L) and mask (N, L), right-padded, on the policy's device."""
        if len(self._encoded) >= 10_000:  # an endless stream of new texts must not fill the memory
            self._encoded.clear()
        for text in texts:
            if text not in self._encoded:
                end = self.tokenizer.eos_token
                self._encoded[text] = encode(self.tokenizer, [prompt(text, end)], self.config.language.max_tokens)[0]
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
            chunks, memory = self._look(observation, memory, look, single)
            memory = self._plan(memory, look, chunks)
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
        chunks, memory = self._look(observation, memory, rows, single)
        self._state = memory.unplanned()  # the caller carries the chunk out
        return _closed(chunks)

    def set_execution(self, execute: int = 1, repeat: int = 1, ensemble: float | None = None) -> None:
        """Choose how chunks are carried out (paper, Fig. 3c), without training anew; forgets all history.

        Args:
            execute: actions of a chunk that are carried out before the policy looks again.
            repeat: times that each is carried out.
            ensemble: look at every step and average, see `rf_agent.config.HeadConfig`.

        Raises:
            ConfigError: the values do not fit together or exceed the chunk.
        """
        head = dataclasses.replace(self.config.head, execute=execute, repeat=repeat, ensemble=ensemble)
        head.check()
        self.config = dataclasses.replace(self.config, head=head)  # others may hold the old one
        self.reset()

    def compile_acting(self, **options: Any) -> None:
        """Run the network through `torch.compile` when acting, on a GPU as a CUDA graph.

        It pays where launching many small kernels takes longer than they do: on GPUs, and for small policies. The
        first look, and every first one with another number of environments, then takes up to minutes.

        Args:
            options: of `torch.compile`, such as `mode`.
        """
        self._step = CompiledStep(**options)

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
        if self.config.head.proprioception:
            preprocess.check_robot_obs(observation, n, single)
        texts = np.array(preprocess.instructions(observation["instruction"], n), dtype=object)
        if state is None:
            head = self.config.head
            blank = self.head.empty_history(n, looks.kept_shape(self.vlm, self.head)).memory.float().cpu().numpy()
            overlap = 0 if head.ensemble is None else head.chunk
            return PolicyState.blank(texts, blank, head.look_every, overlap), single
        memory = PolicyState(*state)
        if memory.queue.shape[1] != self.config.head.look_every:
            raise ValueError(
                f"the state is of a policy that looks every {memory.queue.shape[1]} steps, and this one looks every "
                f"{self.config.head.look_every}; pass state=None."
            )
        return memory.told(texts, episode_start), single

    @torch.inference_mode()
    def _look(
        self, observation: Mapping[str, Any], memory: PolicyState, rows: np.ndarray, single: bool
    ) -> tuple[np.ndarray, PolicyState]:
        """Chunks (r, K, 7) of the r environments `rows` (the gripper's entry from -1, surely closed, to 1), and the
        memory with this look."""

        def given(key: str) -> np.ndarray:  # (r, ...)
            return np.asarray(observation[key])[None] if single else np.asarray(observation[key])[rows]

        images = {view: given(view) for view in self.config.views}
        pixels = preprocess.pixels(images, self.config.views, self.config.image, self.device)
        tokens, mask = self.tokenize(memory.instructions[rows].tolist())
        robot = None
        if self.config.head.proprioception:
            robot = torch.from_numpy(given("robot_obs").astype(np.float32)).to(self.device)
        history = History(
            torch.from_numpy(memory.memory[rows]).to(self.device),
            torch.from_numpy(memory.length[rows]).to(self.device),
        )
        with evaluating(self):
            pose, logits, history = self._step(self.vlm, self.head, pixels, Told(tokens, mask, robot), history)
        chunks = torch.cat((pose.float(), (logits.float() / 2).tanh()[..., None]), dim=-1)  # (r, K, 7)
        remembered = history.memory.float().cpu().numpy(), history.length.cpu().numpy()
        return chunks.cpu().numpy(), memory.looked(rows, *remembered)

    def _plan(self, memory: PolicyState, rows: np.ndarray, chunks: np.ndarray) -> PolicyState:
        """The memory with the actions that the environments `rows` carry out before they look again."""
        head = self.config.head
        if head.ensemble is not None:
            mean, memory = memory.averaged(rows, chunks, head.ensemble)
            chunks = mean[:, None]
        return memory.planned(rows, np.repeat(_closed(chunks[:, : head.execute]), head.repeat, axis=1))

    # --- training sets and checkpoints ---

    def set_trainable(
        self, which: str = "default", train_vision: bool = False, train_language: bool = False, lora_rank: int = 8
    ) -> list[str]:
        """Choose what learns; see `rf_agent.trainable.set_trainable`."""
        return set_trainable(self, which, train_vision, train_language, lora_rank)

    def trainable_summary(self) -> str:
        """A table of parameters and trainable parameters by part."""
        return trainable_summary(self)

    @classmethod
    def from_preset(
        cls, name: str, corpus: Iterable[str] = (), seed: int | None = None, changes: Iterable[str] = ()
    ) -> RoboFlamingoPolicy:
        """An untrained policy.

        Args:
            name: one of `rf_agent.presets.PRESETS`.
            corpus: texts from which its tokenizer is learned.
            seed: of the random weights; the global random state is left as it was.
            changes: to the preset's configuration, as `KEY=VALUE`: `head.type=gpt` (`RoboFlamingoConfig.changed`).
        """
        config = preset(name).changed(changes)
        tokenizer = build_tokenizer(corpus, config.language.model["vocab_size"])
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            return cls(config, tokenizer)

    @classmethod
    def from_open_flamingo(cls, model: Any, tokenizer: Any, **options: Any) -> RoboFlamingoPolicy:
        """A policy with the weights of a live model of the package `open_flamingo` (2.0.1), its head yet untrained.

        Args:
            model, tokenizer: as `open_flamingo.create_model_and_transforms` returns them.
            options: such as `head`; see `rf_agent.weights.live.from_live_openflamingo`.

        Raises:
            ConversionError: it is no such model.
        """
        from rf_agent.weights.live import from_live_openflamingo

        return from_live_openflamingo(model, tokenizer, **options)[0]

    def save_pretrained(self, directory: str | Path, card: str | None = None, dtype: torch.dtype | None = None) -> Path:
        """Write a checkpoint directory, whole or not at all.

        Args:
            directory: where; an older checkpoint there is replaced.
            card: text of its README.md.
            dtype: number format of the stored weights, such as torch.float16; that of the policy by default.

        Raises:
            CheckpointError: the directory holds something else.
        """
        weights = folded_tensors(self)
        if dtype is not None:
            weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}
        return checkpoint.write(directory, self.config, weights, self.tokenizer, card or DEFAULT_CARD)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        compile: bool = False,
    ) -> RoboFlamingoPolicy:
        """A trained policy, ready to act.

        Args:
            name: a checkpoint directory, or the name of a policy that comes with the package
                (`roboflamingo-tiny`).
            device: "auto" takes a GPU where there is one.
            dtype: number format of the parameters: "bfloat16" halves their memory and is faster where the processor
                has it. Observations, actions and what `predict` returns stay float32.
            compile: see `compile_acting`.

        Raises:
            CheckpointError: no such policy, or files or tensors are missing, unexpected or mis-shaped.
            DeviceError: no such device or number format.
        """
        target, number_format = resolve_device(device), resolve_dtype(dtype)
        directory = find_checkpoint(name)
        config = checkpoint.read_config(directory)
        tokenizer = checkpoint.read_tokenizer(directory)
        with Blank():
            policy = cls(config, tokenizer)
        cast_unfilled(policy, number_format)
        checkpoint.load_strictly(policy, checkpoint.read_weights(directory), str(directory / checkpoint.WEIGHTS))
        if compile:
            policy.compile_acting()
        return policy.to(target).eval()


def _closed(chunks: np.ndarray) -> np.ndarray:
    """Actions (..., 7) whose gripper is either open, 1, or closed, -1."""
    gripper = np.where(chunks[..., 6:] > 0, np.float32(1), np.float32(-1))
    return np.concatenate((chunks[..., :6], gripper), axis=-1)


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
