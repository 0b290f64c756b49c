"""What every policy does beside its network: observations and an instruction in, actions out; checkpoints."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from rf_agent import checkpoint, preprocess
from rf_agent.acting.compiled import CompiledStep, Step, eager_step
from rf_agent.acting.state import PolicyState
from rf_agent.checkpoint_files import CheckpointError
from rf_agent.devices import resolve_device, resolve_dtype
from rf_agent.finetuning.lora import folded_tensors
from rf_agent.finetuning.trainable import set_trainable, trainable_summary
from rf_agent.instructions import instructions
from rf_agent.nn.heads import History
from rf_agent.nn.initialization import EmptyInit, cast_uninitialized
from rf_agent.normalization import closed_or_open, unnormalize_actions
from rf_agent.policy_config import ConfigError, PolicyConfig
from rf_agent.policy_model import PolicyModel, TextInputs
from rf_agent.presets import find_checkpoint, preset
from rf_agent.tokenizer import build_tokenizer, encode, image_token, pad, prompt

if TYPE_CHECKING:
    from typing_extensions import Self


class BasePolicy(PolicyModel):
    """An agent: a network with its tokenizer, and what it takes to act.

    No module holds history: it is a value that `predict` takes and returns; `act` keeps that value for its caller.
    A policy belongs to one thread at a time; other threads need copies.

    Subclasses also derive from a network, after this class: `class RoboFlamingoPolicy(BasePolicy, RoboFlamingoModel)`.

    Args:
        config: the whole configuration.
        tokenizer: a `transformers` tokenizer with `<image>` and `<|endofchunk|>`.

    Raises:
        ConfigError: the tokenizer has more tokens than the language model.
    """

    config_class: ClassVar[type[PolicyConfig]]

    def __init__(self, config: PolicyConfig, tokenizer: Any) -> None:
        super().__init__(config, image_token(tokenizer))  # type: ignore[call-arg]  # the network's
        self.tokenizer = tokenizer
        vocabulary = self.language_model.get_input_embeddings().weight.shape[0]
        if len(tokenizer) > vocabulary:
            raise ConfigError(
                f"the tokenizer has {len(tokenizer)} tokens, but language.model.vocab_size is {vocabulary}; "
                "raise it, or build a smaller tokenizer."
            )
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

    @property
    def render_every(self) -> int:
        """Environment steps after which it observes again; images in between need not be drawn."""
        return self.config.head.replan_every

    # --- text ---

    def prompt(self, instruction: str) -> str:
        """What the language model reads for an instruction."""
        return prompt(instruction, self.tokenizer.eos_token)

    @property
    def prompt_tokens(self) -> int:
        """Most tokens of a prompt that it reads."""
        return min(self.config.language.max_tokens, self.longest_text or sys.maxsize)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts of instructions: ids (N, L) and mask (N, L), right-padded, on the policy's device."""
        if len(self._encoded) >= 10_000:  # an endless stream of new texts must not fill the memory
            self._encoded.clear()
        for text in texts:
            if text not in self._encoded:
                self._encoded[text] = self._encode(text)
        tokens, mask = pad([self._encoded[text] for text in texts], self.tokenizer.pad_token_id)
        return tokens.to(self.device), mask.to(self.device)

    def _encode(self, text: str) -> list[int]:
        most = self.prompt_tokens
        tokens = encode(self.tokenizer, [self.prompt(text)], sys.maxsize)[0]
        if len(tokens) <= most:
            return tokens
        warnings.warn(
            f"the instruction {text!r} has {len(tokens)} tokens, of which the policy reads the first {most}: say it in "
            "fewer words",
            stacklevel=2,
        )
        return encode(self.tokenizer, [self.prompt(text)], most)[0]

    # --- acting ---

    def predict(
        self,
        observation: Mapping[str, Any],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, PolicyState]:
        """Actions for a batch of environments: the protocol of Stable-Baselines3.

        Between observation steps the actions of the last chunk are handed out and no image is touched.

        Args:
            observation: the cameras of `config.views` uint8 (n, H, W, 3), `rgb_static` and `rgb_gripper` for CALVIN,
                and `instruction` (see `rf_agent.instructions`); with proprioception the robot's state, too, which
                may be missing with `head.state_dropout`. Or a single observation without the first axis.
            state: what the last call returned for these environments; None at the start.
            episode_start: (n,) true where an episode begins, so that its history restarts.
            deterministic: accepted for the protocol; this policy always is.

        Returns:
            actions float32 (n, D) in the environment's units, or (D,) for a single observation, and the new state. For
            CALVIN that is (n, 7) in [-1, 1], with the gripper exactly -1 or +1.

        Raises:
            ValueError: the observation does not fit the policy, or the state belongs to another number of
                environments.
        """
        memory, single = self._prepare(observation, state, episode_start)
        (due,) = np.nonzero(memory.queued == 0)
        if len(due):
            chunks, memory = self._observe(observation, memory, due, single)
            memory = self._enqueue(memory, due, chunks)
        actions, memory = memory.dequeue()
        return (actions[0] if single else actions), memory

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Actions float32 (n, D), or (D,) for a single observation; the history is kept until `reset`.

        For a loop of one's own: one call a step. `predict` is the same with the history handed in and out.
        """
        actions, self._state = self.predict(observation, self._state)
        return actions

    def predict_action_chunk(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Observe now, and return the whole chunk float32 (n, K, D); `act`'s history goes on from this step.

        For looking at what the network predicts, and for callers who decide themselves how much of it they carry out:
        it is neither repeated nor ensembled. To act as the checkpoint says, use `act`, or `predict_steps`.
        """
        memory, single = self._prepare(observation, self._state, None)
        rows = np.arange(len(memory.length))
        chunks, memory = self._observe(observation, memory, rows, single)
        self._state = memory.without_queue()  # the caller carries the chunk out
        return self._in_units(chunks)

    def predict_steps(
        self,
        observation: Mapping[str, Any],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
    ) -> tuple[np.ndarray, PolicyState]:
        """Observe now, and return the actions of the steps to come: `predict` for callers who keep the queue.

        For servers and others who carry actions out elsewhere: it is the chunk of `predict_action_chunk` with repeats
        and ensembling applied, and with the history handed in and out instead of kept.

        Arguments and errors are those of `predict`.

        Returns:
            actions float32 (n, K * repeat, D) in the environment's units, or (K * repeat, D) for a single observation:
            one a step, of which `predict` carries out the first `config.head.replan_every`; and the new state. With
            ensembling the first one is averaged.
        """
        memory, single = self._prepare(observation, state, episode_start)
        rows, head = np.arange(len(memory.length)), self.config.head
        chunks, memory = self._observe(observation, memory, rows, single)
        if head.ensemble is not None:
            mean, memory = memory.ensemble(rows, chunks, head.ensemble)
            chunks = np.concatenate((mean[:, None], chunks[:, 1:]), axis=1)
        actions = np.repeat(self._in_units(chunks), head.repeat, axis=1)
        return (actions[0] if single else actions), memory._replace(queued=np.zeros_like(memory.queued))

    def set_execution(self, n_action_steps: int = 1, repeat: int = 1, ensemble: float | None = None) -> None:
        """Choose how chunks are carried out (paper, Fig. 3c), without training anew; forgets all history. What is not
        given is not as it was, but as here: one action, once, without an average.

        Args:
            n_action_steps: actions of a chunk that are carried out before the policy observes again.
            repeat: times that each is carried out.
            ensemble: observe at every step and average, see `rf_agent.config.HeadConfig`.

        Raises:
            ConfigError: the values do not fit together or exceed the chunk.
        """
        head = dataclasses.replace(self.config.head, n_action_steps=n_action_steps, repeat=repeat, ensemble=ensemble)
        head.check()
        self.config = dataclasses.replace(self.config, head=head)  # others may hold the old one
        self.reset()

    def compile_acting(self, **options: Any) -> None:
        """Run the network through `torch.compile` when acting, on a GPU as a CUDA graph.

        It pays where launching many small kernels takes longer than they do: on GPUs, and for small policies. The
        first observation step, and every first one with another number of environments, then takes up to minutes.

        Args:
            options: of `torch.compile`, such as `mode`.
        """
        self._step = CompiledStep(**options)

    def reset(self, indices: Iterable[int] | None = None) -> None:
        """Forget the history that `act` keeps: of all environments, or of those at `indices`, or where a mask of all of
        them is true, such as the `dones` of a vector environment.

        Raises:
            ValueError: an index beyond the environments that the policy acts in, or a mask of another number.
        """
        if indices is None or self._state is None:
            self._state = None
            return
        rows = np.atleast_1d(np.asarray(list(indices) if isinstance(indices, Iterable) else indices))
        count = len(self._state.length)
        if rows.dtype == bool:
            if rows.shape != (count,):
                raise ValueError(
                    f"reset got a mask of shape {rows.shape}, but the policy acts in {count} environments."
                )
            rows = np.flatnonzero(rows)
        if rows.size and rows.dtype.kind not in "iu":
            raise ValueError(f"reset({rows.tolist()}) was asked: give the numbers of environments, or a mask.")
        rows = rows.astype(np.int64)
        if rows.size and not (-count <= rows.min() and rows.max() < count):
            raise ValueError(f"reset({rows.tolist()}) was asked, but the policy acts in {count} environments.")
        self._state = self._state.clear(rows)

    def _prepare(
        self,
        observation: Mapping[str, Any],
        state: tuple[np.ndarray, ...] | None,
        episode_start: np.ndarray | None,
    ) -> tuple[PolicyState, bool]:
        """The memory for these observations, restarted where it must be; and whether it is a single one."""
        n, single = preprocess.batch_size(observation, self.config.views)
        if self._reads_state(observation):
            preprocess.check_state(observation, self.config.state, n, single)
        texts = np.array(instructions(observation["instruction"], n), dtype=object)
        head = self.config.head
        overlap = 0 if head.ensemble is None else head.chunk_size
        if state is None:
            blank = self.head.empty_history(n, self.frame_shape).memory.float().cpu().numpy()
            begun = PolicyState.empty(texts, blank, self.config.action.dim, head.replan_every, overlap)
            return begun.restart(texts, episode_start), single  # which checks the latter
        memory = PolicyState(*state)
        if memory.queue.shape[1] != head.replan_every:
            raise ValueError(
                f"the state is of a policy that observes every {memory.queue.shape[1]} steps, and this one "
                f"observes every {head.replan_every}; pass state=None, or call reset() where `act` keeps it. (Change "
                "how a policy acts by `set_execution`, which forgets it, not in its configuration.)"
            )
        theirs = memory.memory.shape[1:], memory.queue.shape[2], memory.blend.shape[1]
        ours = self.head.memory_shape(self.frame_shape), self.config.action.dim, overlap
        for what, given, expected in zip(("history", "actions", "average"), theirs, ours, strict=True):
            if given != expected:
                raise ValueError(
                    f"the state is of another policy, or of this one set to act in another way: its {what} has shape "
                    f"{given}, and this one's {expected}; pass state=None."
                )
        return memory.restart(texts, episode_start), single

    def _reads_state(self, observation: Mapping[str, Any]) -> bool:
        """Whether it reads the robot's state of this observation: with proprioception, unless it may be missing."""
        head = self.config.head
        return head.proprioception and not (head.state_optional and self.config.state.key not in observation)

    @torch.inference_mode()
    def _observe(
        self, observation: Mapping[str, Any], memory: PolicyState, rows: np.ndarray, single: bool
    ) -> tuple[np.ndarray, PolicyState]:
        """Normalised chunks (r, K, D) of the r environments `rows` (a gripper's entry from -1, surely closed, to 1),
        and the memory with this step."""

        def given(key: str) -> np.ndarray:  # (r, ...)
            return np.asarray(observation[key])[None] if single else np.asarray(observation[key])[rows]

        images = {view: given(view) for view in self.config.views}
        pixels = preprocess.pixels(images, self.config.views, self.config.image, self.device)
        tokens, mask = self.tokenize(memory.instructions[rows].tolist())
        robot_state = None
        if self._reads_state(observation):
            robot_state = torch.from_numpy(given(self.config.state.key).astype(np.float32)).to(self.device)
        elif self.config.head.proprioception:  # as a tensor, so that compiled steps and CUDA graphs have one shape
            robot_state = torch.full((len(rows), self.config.state.dim), torch.nan, device=self.device)
        history = History(
            torch.from_numpy(memory.memory[rows]).to(self.device),
            torch.from_numpy(memory.length[rows]).to(self.device),
        )
        with evaluating(self):
            pose, logits, history = self._step(self, pixels, TextInputs(tokens, mask, robot_state), history)
        chunks = pose.float()  # (r, K, A)
        if logits is not None:
            at = self.config.action.gripper
            opens = (logits.float() / 2).tanh()[..., None]
            chunks = torch.cat((chunks[..., :at], opens, chunks[..., at:]), dim=-1)  # (r, K, D)
        remembered = history.memory.float().cpu().numpy(), history.length.cpu().numpy()
        actions = chunks.cpu().numpy()
        if not np.isfinite(actions).all():  # a robot would take them for motions
            raise ValueError(
                "the policy computes actions that are not finite: its weights are damaged, or its number format is too "
                "small for them (float16); load the checkpoint anew, in float32."
            )
        return actions, memory.append(rows, *remembered)

    def _enqueue(self, memory: PolicyState, rows: np.ndarray, chunks: np.ndarray) -> PolicyState:
        """The memory with the actions that the environments `rows` carry out before they observe again."""
        head = self.config.head
        if head.ensemble is not None:
            mean, memory = memory.ensemble(rows, chunks, head.ensemble)
            chunks = mean[:, None]
        return memory.enqueue(rows, np.repeat(self._in_units(chunks[:, : head.n_action_steps]), head.repeat, axis=1))

    def _in_units(self, chunks: np.ndarray) -> np.ndarray:
        """Normalised actions (..., D) in the environment's units, with a gripper that is either open or closed."""
        return unnormalize_actions(closed_or_open(chunks, self.config.action), self.config.action)

    # --- training sets and checkpoints ---

    def begin_from(self, start: BasePolicy, source: str, vl_pretrained: bool = True) -> None:
        """Take what was pre-trained in another policy: all but the head.

        Args:
            start: the other policy, whose tokenizer this one has.
            source: where it comes from, for messages.
            vl_pretrained: whether to take what lies between vision tower and language model, too.

        Raises:
            CheckpointError: its tensors do not fit.
            UserError: it is of a type that this policy cannot begin from.
        """
        raise NotImplementedError

    def set_trainable(
        self, which: str = "default", train_vision: bool = False, train_language: bool = False, lora_rank: int = 8
    ) -> list[str]:
        """Choose what learns; see `rf_agent.finetuning.trainable.set_trainable`."""
        return set_trainable(self, which, train_vision, train_language, lora_rank)

    def trainable_summary(self) -> str:
        """A table of parameters and trainable parameters by part."""
        return trainable_summary(self)

    @classmethod
    def from_preset(
        cls, name: str, corpus: Iterable[str] = (), seed: int | None = None, changes: Iterable[str] = ()
    ) -> Self:
        """An untrained policy.

        Args:
            name: one of `rf_agent.presets.PRESETS`.
            corpus: texts from which its tokenizer is learned.
            seed: of the random weights; the global random state is left as it was. None draws from that state.
            changes: to the preset's configuration, as `KEY=VALUE`: `head.type=gpt` (`PolicyConfig.changed`).
        """
        config = preset(name)
        if not isinstance(config, cls.config_class):
            raise ConfigError(f"the preset {name!r} is of type {config.type!r}, not {cls.config_class.type!r}.")
        return cls.from_config(config.changed(changes), corpus, seed)

    @classmethod
    def from_config(cls, config: PolicyConfig, corpus: Iterable[str] = (), seed: int | None = None) -> Self:
        """An untrained policy; the arguments are those of `from_preset`."""
        if "vocab_size" not in config.language.model:
            raise ConfigError(
                "language.model has no 'vocab_size'; give the most tokens that its tokenizer may have, such as 1024."
            )
        tokenizer = build_tokenizer(corpus, config.language.model["vocab_size"])
        if seed is None:
            return cls(config, tokenizer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config, tokenizer)

    def save_pretrained(self, directory: str | Path, card: str | None = None, dtype: torch.dtype | None = None) -> Path:
        """Write a checkpoint directory, whole or not at all.

        Args:
            directory: where; an older checkpoint there is replaced.
            card: text of its README.md; if not given, that of an older checkpoint there stays.
            dtype: number format of the stored weights, such as torch.float16; that of the policy by default.

        Raises:
            CheckpointError: the directory holds something else, or `dtype` cannot hold a value.
            ConfigError: the configuration was changed, and does not fit together any more.
        """
        self.config.__post_init__()  # it may have been changed in place: what is written must be readable
        weights = folded_tensors(self)
        if dtype is not None:
            stored = {k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}
            if beyond := [k for k, v in stored.items() if v.isinf().any() and not weights[k].isinf().any()]:
                name = str(dtype).removeprefix("torch.")
                raise CheckpointError(f"{', '.join(beyond[:5])} has values that {name} cannot hold; give bfloat16.")
            weights = stored
        return checkpoint.write(directory, self.config, weights, self.tokenizer, card)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        compile: bool = False,
    ) -> Self:
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
        if not isinstance(config, cls.config_class):
            raise CheckpointError(
                f"{directory} is a policy of type {config.type!r}, not {cls.config_class.type!r}: load it with "
                "rf_agent.load_policy, which knows all types."
            )
        tokenizer = checkpoint.read_tokenizer(directory)
        try:
            with EmptyInit():
                policy = cls(config, tokenizer)
        except ConfigError as error:
            raise CheckpointError(f"{directory / checkpoint.CONFIG}: {error}") from error
        cast_uninitialized(policy, number_format)
        checkpoint.load_strictly(policy, checkpoint.read_weights(directory), str(directory / checkpoint.WEIGHTS))
        if compile:
            policy.compile_acting()
        return policy.to(target).eval()


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
