"""Imitation: a policy learns what the expert did, from sequences of steps of which every frame is encoded once."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rf_agent.base_policy import BasePolicy
from rf_agent.demos.instructions import read_instructions
from rf_agent.demos.readers import DemoReader
from rf_agent.demos.readers.chosen import choose
from rf_agent.demos.windows import DemoSet
from rf_agent.errors import UserError
from rf_agent.files import full_disk_explained
from rf_agent.finetuning.lora import MARK
from rf_agent.nn.plan_config import HULCHeadConfig
from rf_agent.policies import load_policy
from rf_agent.policy_config import PolicyConfig
from rf_agent.presets import DEFAULT_PRESET, preset
from rf_agent.progress import Reporter, Silent
from rf_agent.training.batches import Augmentation, Split, lost_workers_explained
from rf_agent.training.building import build_policy, fit_running_statistics, same_head
from rf_agent.training.callbacks import Callback
from rf_agent.training.engine import gathered, kernels, make_accelerator, shard
from rf_agent.training.imitation import Imitation
from rf_agent.training.loop import Loop
from rf_agent.training.optim import parameter_groups
from rf_agent.training.robot import check_overrides, described, fitted, open_all
from rf_agent.training.run_folder import begin, check_leftovers, prepare_output
from rf_agent.training.run_info import RunInfo, check_same_data, contents, demos_facts, write_run_info
from rf_agent.training.scene_cotraining import SceneCoTraining, SceneCoTrainingConfig
from rf_agent.training.settings import LoopConfig, command
from rf_agent.training.snapshots import EvaluationPlan, Snapshots
from rf_agent.training.vl_cotraining import CoTraining, CoTrainingConfig
from rf_agent.workers import usable_cores

GO_ON = "go on with --resume, or start again where there is no checkpoint yet"


@dataclass(kw_only=True)
class TrainConfig(LoopConfig, CoTrainingConfig, SceneCoTrainingConfig):
    """Train a policy by imitation of demonstrations."""

    by_content = ("init", "instructions", "vl_captions", "vl_questions", "vl_annotations")

    demos: tuple[Path, ...]
    """Demonstrations: HDF5 files (ours or robomimic's), folders of CALVIN, LeRobot or Minari."""
    scenes: tuple[str, ...] = ()
    """Train on demonstrations of these scenes alone, such as A B C: those of CALVIN and ours name theirs."""
    demos_fraction: float = 1.0
    """Share of every task's demonstrations to train on, chosen at random by the seed (the paper's Table 3: 0.1)."""
    preset: str | None = None
    """Name of the policy's configuration; with `init`, of its head and loss alone. By default all of it is that of
    `init`, or roboflamingo-tiny without one."""
    override: tuple[str, ...] = ()
    """Changes to that configuration, as KEY=VALUE: head.type=gpt head.hidden=768 fusion=pre."""
    init: str | None = None
    """Checkpoint directory whose vision-language model and head are the start. A head that `preset` or `override` give
    another shape is drawn anew; only the state of the robot can be added to one that has learned."""
    init_head: bool = True
    """Take the head from `init`, too; --no-init-head draws it anew, and may learn the actions of another robot."""
    action_normalization: str = "auto"
    """How actions become numbers in [-1, 1]: none, min_max or quantiles (1 % and 99 %) of the demonstrations; auto is
    none where the environment bounds its actions to [-1, 1], else min_max. A trained head keeps its own."""
    batch_size: int = 16
    """Sequences in a step."""
    sequence_length: int = 16
    """Observation steps of a sequence: each is encoded once, and all windows of the sequence are supervised."""
    vl_pretrained: bool = True
    """Take resampler and cross-attention from `init` too; --no-vl-pretrained draws them anew, so that vision tower and
    language model are pre-trained, but not together (the paper's "no VL pre-training", Fig. 3b)."""
    trainable: str = "default"
    """What learns: default (resampler, cross-attention, embeddings, head), freeze-emb (not the embeddings), head (no
    fine-tuning of the vision-language model), last-N (the last N cross-attention layers, embeddings, head), lora
    (default and adapters in the language model) or full. Without `init`, default is full: nothing is worth keeping."""
    lora_rank: int = 8
    """Rank of the adapters of --trainable lora."""
    train_vision: bool = False
    """The vision tower learns too (the paper freezes it)."""
    train_language: bool = False
    """The language model's own layers learn too (the paper freezes them)."""
    vlm_lr_scale: float = 0.3
    """Learning rate of what `init` has of the vision-language model, as a factor of the head's, which is also that of
    adapters and of what is drawn anew."""
    balance: float = 0.5
    """A task is drawn in proportion to its data to this power: 0 all tasks equally often, 1 all observation steps."""
    mix_instructions: bool = True
    """Give a demonstration any instruction of its task instead of always the one it was recorded with, where the file
    says that a task's instructions mean the same (those of `rf-agent collect` do)."""
    instructions: Path | None = None
    """Further instructions: a JSON file like RoboFlamingo's enrich_lang_annotations.json, {task: [text, ...]}."""
    gradient_checkpointing: int = 0
    """Frames that the language model reads at a time, to save memory: it then computes twice. 0 for all at once."""
    color_jitter: float | None = None
    """Strength of the random changes of light and colour; frames are then encoded anew at each step. By default 0.05
    where they are anyway, 0 where they are encoded once."""
    random_shift: tuple[int, ...] = ()
    """Largest random shift of the images of each view, in pixels at the policy's image size (the paper: 10 4 of 224);
    one number for all views. Frames are then encoded anew at each step."""
    augment_per_frame: bool = False
    """Change each frame by itself, as the reference implementation does, instead of a whole sequence alike."""
    workers: int | None = None
    """Processes that read images ahead; by default half the cores but one where images are read at each step."""
    cache_vision: bool = True
    """Encode every frame only once when the vision tower is frozen and nothing changes images. The result stays in a
    folder `.vision_tokens` beside the run, where the next run on the same data and tower finds it; delete it when no
    further run needs it."""

    keep: int = 0
    """Policies of the last validations that are kept in OUTPUT/policies, beside the last and the best one."""
    evaluation_env: str | None = None
    """Environment in which the policy acts at every validation, such as rf/PlayTableChainD-v0; its scores decide which
    policy is the best, else the validation loss does. In this project's environments it plays training chains, or
    other episodes of tasks than `rf-agent evaluate`, which then measures the best policy where it was not chosen."""
    evaluation_episodes: int = 10
    """Chains, or episodes of each task, of such an evaluation."""

    def augmentation(self, views: Sequence[str]) -> Augmentation:
        """How images are changed, for a policy with these views.

        Raises:
            ValueError: another number of shifts, or a strength below zero.
        """
        if self.color_jitter is not None and not self.color_jitter >= 0:
            raise ValueError(f"color_jitter is {self.color_jitter}: give a number from 0 on")
        shifts = self.random_shift * (len(views) if len(self.random_shift) == 1 else 1)
        if min(shifts, default=0) < 0:
            raise ValueError(f"random_shift is {list(self.random_shift)}: give numbers of pixels from 0 on")
        if shifts and len(shifts) != len(views):
            raise ValueError(
                f"random_shift is {list(self.random_shift)}, but the policy sees {', '.join(views)}: give a number of "
                "pixels for each of these, or one for all"
            )
        return Augmentation(self.color_jitter, shifts, self.augment_per_frame)


@dataclass
class TrainReport:
    """The result of a training run."""

    output: Path
    """Checkpoint directory of the policy."""
    scalars: dict[str, float]
    """The last validation."""


def train(config: TrainConfig, reporter: Reporter | None = None, callbacks: Sequence[Callback] = ()) -> TrainReport:
    """Train a policy; writes `config.output / "policy"`, the curves and the checkpoint that `resume` goes on
    from.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad data or settings, before anything is written.
    """
    accelerator = make_accelerator(config)
    _check_processes(config, accelerator.num_processes)
    reporter = (reporter if accelerator.is_main_process else None) or Silent()
    prepare_output(config, "policy")
    if not config.resume:
        check_leftovers(config.output)
    start = None if config.init is None else load_policy(config.init, "cpu")
    of_state = [change for change in config.override if change.startswith("state.")]
    shape = _shape(config, start).changed(change for change in config.override if change not in of_state)
    readers = choose(open_all(config.demos, reporter), config.scenes, config.demos_fraction, config.seed)
    same_type = start is not None and shape.type == start.config.type  # else there is no head to go on with
    trained = start is not None and same_type and start.config.trained and config.init_head
    fixed = trained or any(change.startswith("views=") for change in config.override)
    shape = fitted(shape, readers, trained, config.action_normalization, fixed, of_state)
    check_overrides(shape, config.override)
    _check_contrast(config, shape, accelerator.num_processes)
    demos = DemoSet(readers, shape)
    policy = _build(config, shape, start, demos).to(accelerator.device)
    policy.checkpoint_gradients(config.gradient_checkpointing, partial(kernels, accelerator))
    reporter.log(described(shape))
    if trained and start is not None and not same_head(policy.head, start.head):
        reporter.log(f"the head is drawn anew: that of {config.init} has another shape")
    if accelerator.num_processes > 1:
        reporter.log(f"{accelerator.num_processes} processes, {'FSDP' if config.fsdp else 'DDP'}")
    for reason, count in _left_out(readers, demos).items():
        reporter.log(f"left out: {count} ({reason})")
    reporter.log(policy.trainable_summary())
    cotraining = CoTraining(config, policy)
    for name, count in cotraining.missing().items():
        reporter.log(
            f"left out: {count} of {count + len(cotraining.data[name].samples)} "
            f"{'images of captions' if name == 'captions' else 'questions'}, as {config.vl_images} lacks their images"
        )
    scene_cotraining = SceneCoTraining(config, policy, config.seed) if config.scene_images else None
    imitation = Imitation(
        policy,
        demos,
        batch_size=config.batch_size,
        sequence_length=config.sequence_length,
        balance=config.balance,
        mix_instructions=config.mix_instructions,
        more_instructions=None if config.instructions is None else read_instructions(config.instructions),
        validation_fraction=config.validation_fraction,
        seed=config.seed,
        split=Split(accelerator.num_processes, accelerator.process_index, config.gradient_accumulation),
        augmentation=config.augmentation(shape.views),
        cache_vision=config.cache_vision,
        workers=config.workers,
        cotraining=cotraining,
        scene_cotraining=scene_cotraining,
    )
    if config.validation_fraction and not len(imitation.validation):
        reporter.log("no validation: there are too few demonstrations to hold any out")
    tasks = tuple(sorted({episode.task for episode in demos.episodes}))
    plan = None
    if config.evaluation_env and accelerator.is_main_process:
        place = str(accelerator.device), max(1, usable_cores() // 2)
        plan = EvaluationPlan(config.evaluation_env, config.evaluation_episodes, *place, tasks)
        if plan.others:
            reporter.log(f"{plan.env} has none of the tasks of the demonstrations: all of its tasks are played")
    # everything that can be refused has been
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        facts = demos_facts(readers, demos) | {"contents": contents(config)}
        if scene_cotraining is not None:
            facts["scene_images"] = scene_cotraining.facts
        started = config.output, command("train", config), config, facts
        with full_disk_explained(config.output, GO_ON):
            if config.resume:
                check_same_data(config.output, facts)  # first, as most of what the shape is comes from the data
                callbacks = [RunInfo(*started), *callbacks]
            begin(config.output, shape, config.resume)
            if not config.resume:
                write_run_info(*started)
    accelerator.wait_for_everyone()
    policy.config.tasks, policy.config.trained = tasks, True
    if config.fsdp:
        blocks = policy.fsdp_blocks()
        frozen_tower = [policy.vision_encoder] if not imitation.objective.vision_learns else []
        shard(imitation.objective, blocks, frozen_tower, accelerator.device)
    elif accelerator.is_main_process:
        card = partial(_card, config, policy.config.type, demos)
        callbacks = [*callbacks, Snapshots(config.output, policy, config.keep, plan, card, reporter)]
    adapters = {id(parameter) for name, parameter in policy.named_parameters() if MARK in name}
    taken = [] if start is None else policy.pretrained_parameters(config.vl_pretrained)
    pretrained = [parameter for parameter in taken if id(parameter) not in adapters]
    known = {id(parameter) for parameter in pretrained}
    others = [parameter for parameter in imitation.objective.parameters() if id(parameter) not in known]
    groups = [
        *parameter_groups(pretrained, config.learning_rate * config.vlm_lr_scale, config.weight_decay),
        *parameter_groups(others, config.learning_rate, config.weight_decay),
    ]
    with full_disk_explained(config.output, GO_ON), lost_workers_explained(), contextlib.closing(imitation):
        imitation.prepare(config.output, reporter)
        loop = Loop(
            config,
            imitation.objective,
            imitation.iterate,
            imitation.evaluate,
            reporter,
            accelerator,
            groups,
            callbacks,
            encoding=lambda: imitation.encoding,
        )
        scalars = loop.run()
    if imitation.skipped:
        reporter.log(f"left out: {imitation.skipped} images of captions and questions that cannot be decoded")
    if config.fsdp:  # modules that were divided cannot become whole again
        weights = gathered(policy.state_dict())
        if accelerator.is_main_process:
            policy = _build(config, shape, start, demos)
            policy.load_state_dict(weights)
            policy.config.tasks, policy.config.trained = tasks, True
    report = TrainReport(config.output / "policy", scalars)
    if accelerator.is_main_process:
        with full_disk_explained(report.output, GO_ON):
            policy.save_pretrained(report.output, card=_card(config, policy.config.type, demos, scalars))
    accelerator.wait_for_everyone()
    return report


def _shape(config: TrainConfig, start: BasePolicy | None) -> PolicyConfig:
    """The configuration before the robot of the demonstrations is known."""
    if start is None:
        return preset(config.preset or DEFAULT_PRESET)
    if config.preset is None:
        return start.config
    own = preset(config.preset)
    if own.type == start.config.type:
        return dataclasses.replace(start.config, head=own.head, loss=own.loss)
    return own.beginning_from(start.config)


def _check_processes(config: TrainConfig, processes: int) -> None:
    """Refuse what several processes cannot do."""
    if config.fsdp and config.gradient_checkpointing:
        raise UserError(
            "--fsdp and --gradient-checkpointing do not go together yet: processes would wait for each other; give a "
            "larger --gradient-accumulation instead"
        )
    if config.fsdp and (config.keep or config.evaluation_env):
        raise UserError("with --fsdp only the last policy is kept: leave out --keep and --evaluation-env")
    parts = processes * config.gradient_accumulation
    texts, scenes = bool(config.vl_captions or config.vl_questions), bool(config.scene_images)
    for used, name in ((texts, "vl_batch_size"), (scenes, "scene_batch_size")):
        if used and getattr(config, name) < parts:
            raise UserError(f"{name} is {getattr(config, name)}, but the step has {parts} parts: give {parts} or more")


def _check_contrast(config: TrainConfig, shape: PolicyConfig, processes: int) -> None:
    """Refuse parts of a step in which a contrastive loss has nothing to compare."""
    parts = processes * config.gradient_accumulation
    if isinstance(shape.head, HULCHeadConfig) and shape.head.contrastive and config.batch_size < 2 * parts:
        raise UserError(
            f"--batch-size is {config.batch_size}, and the step has {parts} parts, but HULC's contrastive loss "
            f"compares the sequences of a part with each other: give {2 * parts} or more, or --override "
            "head.contrastive=0"
        )


def _left_out(readers: Sequence[DemoReader], demos: DemoSet) -> dict[str, int]:
    """What is not trained on, by reason."""
    found = {"did not succeed": demos.failures} if demos.failures else {}
    for reader in readers:
        for reason, count in reader.skipped.items():
            found[reason] = found.get(reason, 0) + count
    return found


def _build(config: TrainConfig, shape: PolicyConfig, start: BasePolicy | None, demos: DemoSet) -> BasePolicy:
    """The policy before its first step."""
    policy = build_policy(
        shape,
        start,
        [episode.instruction for episode in demos.episodes],
        source=str(config.init),
        seed=config.seed,
        init_head=config.init_head,
        vl_pretrained=config.vl_pretrained,
        trainable=config.trainable,
        train_vision=config.train_vision,
        train_language=config.train_language,
        lora_rank=config.lora_rank,
    )
    if start is None:
        fit_running_statistics(policy, demos.frames, demos.rows(demos.split(config.validation_fraction)[0]))
    return policy


def _card(config: TrainConfig, kind: str, demos: DemoSet, scalars: dict[str, float]) -> str:
    tasks = sorted({episode.task for episode in demos.episodes})
    results = "\n".join(f"- {name}: {value:.4g}" for name, value in scalars.items()) or "- none held out"
    return (
        f"# {config.preset or config.output.name}\n\nA policy of type `{kind}` trained by imitation of "
        f"{len(demos.episodes)} demonstrations of {len(tasks)} tasks: {', '.join(tasks)}.\n\n"
        f"    {command('train', config)}\n\nOn held-out demonstrations:\n\n{results}\n\n"
        "Load it with `rf_agent.load_policy(DIR)`, DIR being the folder of this file.\n"
    )
