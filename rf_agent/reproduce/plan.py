"""The stages that rows of tables are made of: data, vision-language models, policies and evaluations."""

from __future__ import annotations

from rf_agent.reproduce.recipe import KEPT, Recipe
from rf_agent.reproduce.stages import Stage

SCENES = "ABCD"
IMAGE_SIZE = "112"
FAMILIES = {
    "L": "roboflamingo-tiny",
    "M": "roboflamingo-tiny-mpt",
    "G": "roboflamingo-tiny-neox",
    "L-wide": "roboflamingo-tiny-wide",
}
"""Presets by the letter that the paper's Table 2 gives to a family of language models: LLaMA, MPT, GPT-NeoX."""
FIRST_VLM = "L-IFT"
"""The vision-language model whose images all others learn from, too."""
VLM_ENV = "rf/PlayTableRandom-v0"
"""Whose images vision-language models learn from: tables that are none of the four scenes, as the paper's models have
seen pictures of everything but CALVIN."""
RATES = {
    "roboflamingo": "1e-3",
    "mcil": "1e-3",
    "hulc": "1e-3",
    "rt1": "3e-4",
    "r3m": "1e-3",
    "voltron": "3e-4",
    "roboflamingo-fc": "1e-3",
    "roboflamingo-fc_hist": "1e-3",
    "roboflamingo-gpt": "3e-4",
}
"""Learning rates by type of policy, and of RoboFlamingo's other heads: those of the least error in the table `tuning`
as it was measured with the default budget."""
HEADS = {
    "roboflamingo-fc": ("head.type=fc",),
    "roboflamingo-fc_hist": ("head.type=fc_hist", "head.frame_position=true"),
    "roboflamingo-gpt": ("head.type=gpt", "head.layers=2"),
}
"""RoboFlamingo with other heads than its LSTM: what `--override` takes for them."""
TRIED_RATES = ("3e-4", "1e-3", "3e-3")


class Plan:
    """Makes the stages of one recipe and one seed. The same stage is equal wherever it is asked for.

    Args:
        recipe: the budget.
        seed: of training; data, pre-training and evaluation are the same for all seeds.
    """

    def __init__(self, recipe: Recipe, seed: int = 0) -> None:
        self.recipe, self.seed = recipe, seed
        precision = recipe.mixed_precision
        self._precision = () if precision == "auto" else ("--mixed-precision", precision)

    # --- data ---

    def demos(self) -> tuple[Stage, Stage]:
        """Demonstrations from resets and in chains, of all scenes."""
        scenes = [[f"rf/PlayTable{kind}{scene}-v0" for scene in SCENES] for kind in ("", "Chain")]
        size = ("--image-size", IMAGE_SIZE)
        count = ("--episodes-per-task", str(self.recipe.episodes_per_task), "--seed", "101")
        chains = ("--chains", str(self.recipe.chains_per_scene), "--seed", "102")
        return (
            Stage("demos/tasks", ("collect", "--env", *scenes[0], *count, *size), file="demos.hdf5"),
            Stage("demos/chains", ("collect", "--env", *scenes[1], *chains, *size), file="demos.hdf5"),
        )

    def captions(self, subset: str) -> Stage:
        """Images with captions and questions, in COCO's and VQAv2's layouts: `train` or `val`."""
        count, seed, env = (
            (self.recipe.vl_images, "201", VLM_ENV) if subset == "train" else (224, "202", "rf/PlayTableD-v0")
        )
        words = ("collect-vl", "--subset", subset, "--env", env, "--count", str(count))
        return Stage(f"captions/{subset}", (*words, "--seed", seed))

    # --- models ---

    def vlm(self, family: str = "L", instructions: bool = True) -> Stage:
        """A pre-trained vision-language model; all learn from the images that the first renders."""
        folder, first = (f"vlms/{name}" for name in (f"{family}{'-IFT' if instructions else ''}", FIRST_VLM))
        words = ["pretrain", "--preset", FAMILIES[family]]
        if folder == first:
            words += ["--env", VLM_ENV, "--image-count", str(self.recipe.images)]
        else:
            words += ["--images", f"{first}/scene_images.hdf5"]
        words += ["--batch-size", "32", "--learning-rate", "1.5e-3"]
        words += ["--steps", str(self.recipe.pretrain_steps), *self._precision]
        if not instructions:
            words.append("--no-instructions")
        return Stage(folder, tuple(words), () if folder == first else (self.vlm(),))

    def policy(
        self,
        name: str,
        *extra: str,
        vlm: Stage | None = None,
        scenes: str = SCENES,
        preset: str | None = None,
        steps: int | None = None,
        rate: str | None = None,
        captions: bool = False,
    ) -> Stage:
        """A policy trained by imitation.

        Args:
            name: of its folder, without scenes and seed.
            extra: further words of the command.
            vlm: what it begins with; the first one if not given.
            scenes: those of the demonstrations.
            preset: of a baseline; RoboFlamingo if not given.
            steps: of the recipe if not given.
            rate: learning rate; that of its type if not given.
            captions: whether it co-trains on captions and questions.
        """
        vlm = vlm or self.vlm()
        demos = self.demos()
        words = ["train", "--demos", *(stage.output for stage in demos), "--init", f"{vlm.folder}/vlm"]
        needs = [*demos, vlm]
        if scenes != SCENES:
            words += ["--scenes", *scenes]
        if preset is not None:
            words += ["--preset", preset]
        kind = (preset or "roboflamingo").removesuffix("-tiny")
        words += ["--steps", str(steps or self.recipe.steps), "--batch-size", str(self.recipe.batch_size)]
        words += ["--learning-rate", rate or RATES[kind]]
        words += ["--evaluations", str(KEPT), "--keep", str(KEPT), "--seed", str(self.seed)]
        words += [*self._precision, *extra]
        if captions:
            data = self.captions("train")
            needs.append(data)
            words += [
                *("--vl-images", f"{data.folder}/train", "--vl-captions", f"{data.folder}/captions_train.json"),
                *("--vl-questions", f"{data.folder}/v2_OpenEnded_mscoco_train_questions.json"),
                *("--vl-annotations", f"{data.folder}/v2_mscoco_train_annotations.json"),
                *("--vl-prompts", "pretrain"),
            ]
        seed = f"_seed{self.seed}" if self.seed else ""
        return Stage(f"policies/{name}_{scenes}{seed}", tuple(words), tuple(needs))

    # --- measurements ---

    def chains(self, policy: Stage, *extra: str, suffix: str = "", checkpoint: str = "policy") -> Stage:
        """The policy plays chains in scene D."""
        count = self.recipe.evaluation_chains if checkpoint == "policy" else self.recipe.curve_chains
        words = ("evaluate", "--env", "rf/PlayTableChainD-v0", "--policy", f"{policy.folder}/{checkpoint}")
        return Stage(
            f"evaluations/{policy.folder.removeprefix('policies/')}{suffix}",
            (*words, "--chains", str(count), *extra),
            (policy,),
        )

    def enriched(self, policy: Stage) -> Stage:
        """The policy plays chains in scene D with enriched instructions."""
        return self.chains(policy, "--env-options", "instructions=enriched", suffix="_enriched")

    def curve(self, policy: Stage) -> tuple[Stage, ...]:
        """The policy plays chains in scene D as it was after each fifth of its steps; after the last as `chains`."""
        return (*(self._at(policy, fifth) for fifth in range(1, KEPT)), self.chains(policy))

    def _at(self, policy: Stage, fifth: int) -> Stage:
        step = -(-self.recipe.steps * fifth // KEPT)  # the first one beyond that share, as the trainer keeps it
        return self.chains(policy, suffix=f"_step{step}", checkpoint=f"policies/step_{step:07d}")

    def tasks(self, policy: Stage) -> Stage:
        """The policy does each task from resets in scene D."""
        words = ("evaluate", "--env", "rf/PlayTableD-v0", "--policy", f"{policy.folder}/policy")
        count = ("--episodes-per-task", str(self.recipe.episodes_of_task))
        return Stage(f"evaluations/{policy.folder.removeprefix('policies/')}_tasks", (*words, *count), (policy,))

    def language(self, model: Stage, what: str, shots: int = 0) -> Stage:
        """Captions or questions (`what`) about held-out images, by a vision-language model or a policy."""
        data = self.captions("val")
        checkpoint = f"{model.folder}/{'vlm' if model.kind == 'pretrain' else 'policy'}"
        words = ["evaluate-vl", "--policy", checkpoint, "--images", f"{data.folder}/val", "--prompts", "pretrain"]
        if what == "captions":
            words += ["--captions", f"{data.folder}/captions_val.json", "--count", "200"]
        else:
            words += [
                *("--questions", f"{data.folder}/v2_OpenEnded_mscoco_val_questions.json"),
                *("--annotations", f"{data.folder}/v2_mscoco_val_annotations.json", "--count", "1000"),
            ]
        if shots:
            words += ["--shots", str(shots)]
        name = model.folder.replace("/", "_") + (f"_{shots}shot" if shots else "")
        return Stage(f"evaluations/{name}_{what}", tuple(words), (model, data))
