"""The paper's tables and figures: which policies are compared, by which measurements, with which claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rf_agent.reporting import paper
from rf_agent.reproduce.measures import (
    AllTasks,
    AverageLength,
    BestAndMean,
    ChainRates,
    Claim,
    Curve,
    Fact,
    Row,
    Table,
    TaskRate,
)
from rf_agent.reproduce.plan import KEPT, RATES, TRIED_RATES, Plan
from rf_agent.reproduce.recipe import Recipe
from rf_agent.reproduce.stages import Stage

Plans = Sequence[Plan]
"""The plans of one recipe, one for each seed."""

FOUR = "ABCD"
THREE = "ABC"
CHAINS = ("1", "2", "3", "4", "5", "average length")
FIFTHS = tuple(f"{fifth}/{KEPT}" for fifth in range(1, KEPT + 1))
VARIANTS = {
    "M": ("M", False),
    "M-IFT": ("M", True),
    "G": ("G", False),
    "G-IFT": ("G", True),
    "L": ("L", False),
    "L-IFT": ("L", True),
    "L-wide-IFT": ("L-wide", True),
}
"""Our backbones: family of the language model, and whether it was pre-trained with instructions and questions."""
PAPERS = dict(zip(VARIANTS, ("M-3B", "M-3B-IFT", "G-4B", "G-4B-IFT", "L-9B", "", "M-9B"), strict=True))
"""The paper's backbone that stands beside each."""


# --- policies that several tables share ---


def ours(plan: Plan, scenes: str = FOUR) -> Stage:
    """RoboFlamingo as it is by default, on the L-IFT backbone."""
    return plan.policy("L-IFT", scenes=scenes)


def variant(plan: Plan, name: str, scenes: str = FOUR) -> Stage:
    """RoboFlamingo on one of `VARIANTS`."""
    return plan.policy(name, vlm=plan.vlm(*VARIANTS[name], scenes), scenes=scenes)


def cotrained(plan: Plan, scenes: str = FOUR) -> Stage:
    """RoboFlamingo that learned captions and questions in the same steps."""
    return plan.policy("L-IFT-cotrained", scenes=scenes, captions=True)


def baseline(plan: Plan, kind: str, scenes: str = FOUR) -> Stage:
    """A baseline with its own preset."""
    return plan.policy(kind, preset=f"{kind}-tiny", scenes=scenes)


def frozen_embeddings(plan: Plan) -> Stage:
    """RoboFlamingo whose embeddings of words stay as they are."""
    return plan.policy("L-IFT-freeze-emb", "--trainable", "freeze-emb")


def chains(plans: Plans, policy: Callable[..., Stage], *given: str, enriched: bool = False) -> tuple[Stage, ...]:
    """Evaluations of the policy `policy(plan, *given)` on chains, one a seed."""
    return tuple((plan.enriched if enriched else plan.chains)(policy(plan, *given)) for plan in plans)


def reported(method: str, scenes: str, enriched: bool = False) -> str:
    """The paper's average lengths of Table 1, where there are two with what they were trained on."""
    rows = [row for row in paper.TABLE_1 if (row.method, row.enriched) == (method, enriched)]
    rows = [row for row in rows if row.training.startswith(f"{scenes} ")]
    if len(rows) == 1 and "Full" not in rows[0].training:
        return f"{rows[0].average_length:.2f}"
    return ", ".join(f"{row.average_length:.2f} {row.training.partition(' ')[2]}" for row in rows)


# --- tables ---


def table_1(plans: Plans) -> Table:
    """RoboFlamingo beside its rivals."""
    ahead = {scenes: chains(plans, ours, scenes) for scenes in (FOUR, THREE)}
    rivals = {
        (kind, scenes): chains(plans, baseline, kind, scenes)
        for kind in ("mcil", "hulc", "rt1")
        for scenes in (FOUR, THREE)
    }
    names = {"mcil": "MCIL", "hulc": "HULC", "rt1": "RT-1"}
    rows = []
    for scenes in (FOUR, THREE):
        for kind, name in names.items():
            cells = (reported(name, scenes),)
            rows.append(Row((name, f"{scenes} → D"), (ChainRates(rivals[kind, scenes]),), cells))
        cells = (reported("RoboFlamingo", scenes),)
        rows.append(Row(("RoboFlamingo", f"{scenes} → D"), (ChainRates(ahead[scenes]),), cells))
    enriched = {
        "HULC": chains(plans, baseline, "hulc", enriched=True),
        "RT-1": chains(plans, baseline, "rt1", enriched=True),
        "RoboFlamingo": chains(plans, ours, enriched=True),
        "RoboFlamingo (freeze-emb)": chains(plans, frozen_embeddings, enriched=True),
    }
    rows += [
        Row((name, "ABCD → D, enriched"), (ChainRates(stages),), (reported(name, FOUR, True),))
        for name, stages in enriched.items()
    ]
    claims = [
        Claim(f"RoboFlamingo is ahead of {name}, {scenes} → D", ahead[scenes], rivals[kind, scenes])
        for scenes in (FOUR, THREE)
        for kind, name in names.items()
    ]
    claims += [
        Claim(f"RoboFlamingo is ahead of {name} on enriched instructions", enriched["RoboFlamingo"], enriched[name])
        for name in ("HULC", "RT-1")
    ]
    claims.append(
        Claim(
            "Frozen embeddings are at least as good on enriched instructions",
            enriched["RoboFlamingo (freeze-emb)"],
            enriched["RoboFlamingo"],
            at_least=True,
        )
    )
    return Table(
        "table1",
        "RoboFlamingo and its rivals",
        "Table 1",
        ("method", "trained on → tested on", *CHAINS, "paper"),
        tuple(rows),
        tuple(claims),
        "All methods see the same demonstrations with language, and begin with the same vision tower and language "
        "model. In the paper's numbers, Full says that play without language was learned, too, which is not done here.",
    )


def table_2(plans: Plans) -> Table:
    """Backbones."""
    plan = plans[0]
    rows = []
    for name, (family, instructions) in VARIANTS.items():
        policy, vlm = variant(plan, name), plan.vlm(family, instructions)
        reported = paper.TABLE_2.get(PAPERS[name], ("",) * 4)
        rows.append(
            Row(
                (name, "yes" if instructions else "no"),
                (
                    Fact(plan.language(vlm, "captions", 4), "CIDEr"),
                    Fact(plan.language(vlm, "questions", 4), "accuracy", 1),
                    BestAndMean(plan.curve(policy)),
                    AverageLength(tuple(p.chains(variant(p, name)) for p in plans)),
                ),
                (PAPERS[name], *map(str, reported)),
            )
        )
    claims = tuple(
        Claim(
            f"Pre-training with instructions helps {family}",
            chains(plans, variant, f"{family}-IFT"),
            chains(plans, variant, family),
        )
        for family in "MGL"
    )
    headers = ("backbone", "instructions", "CIDEr", "VQA %", "best", "mean", "average length, last")
    theirs = ("paper's", "CIDEr", "VQA %", "best", "mean")
    return Table(
        "table2",
        "Vision-language models",
        "Table 2",
        (*headers, *theirs),
        tuple(rows),
        claims,
        "Language models of three families in one size, and one 2.5 times as large, each pre-trained from nothing on "
        "the same images, with instructions and questions or without. CIDEr and VQA are of the pre-trained model, "
        "4-shot as in the paper. Best and mean are over the policies that the run kept, on fewer chains.",
    )


def table_3(plans: Plans) -> Table:
    """A tenth of the data."""
    names = [name for name in VARIANTS if name != "L"]

    def small(plan: Plan, name: str) -> Stage:
        return plan.policy(f"{name}-tenth", "--demos-fraction", "0.1", vlm=plan.vlm(*VARIANTS[name]))

    stages = {name: chains(plans, small, name) for name in names}
    rows = tuple(
        Row(
            (name,),
            (ChainRates(stages[name]),),
            (PAPERS[name], f"{paper.TABLE_3[PAPERS[name]]:.2f}") if PAPERS[name] in paper.TABLE_3 else ("", ""),
        )
        for name in names
    )
    claims = (
        Claim("With little data the larger model is better", stages["L-wide-IFT"], stages["L-IFT"]),
        Claim("Pre-training with instructions helps M", stages["M-IFT"], stages["M"]),
        Claim("Pre-training with instructions helps G", stages["G-IFT"], stages["G"]),
    )
    headers = ("backbone", *CHAINS, "paper's", "paper")
    return Table("table3", "A tenth of the demonstrations", "Table 3", headers, rows, claims)


def figure_3a(plans: Plans) -> Table:
    """Policy heads."""
    heads = {
        "MLP without history": ("fc", ("head.type=fc",)),
        "MLP with history": ("fc_hist", ("head.type=fc_hist", "head.frame_position=true")),
        "GPT": ("gpt", ("head.type=gpt", "head.layers=2")),
    }

    def policy(plan: Plan, name: str) -> Stage:
        if name == "LSTM":
            return ours(plan)
        folder, override = heads[name]
        return plan.policy(f"L-IFT-{folder}", "--override", *override)

    stages = {name: chains(plans, policy, name) for name in (*heads, "LSTM")}
    claims = [
        Claim(f"{better} is ahead of the {worse}", stages[better], stages[worse])
        for better in ("LSTM", "GPT")
        for worse in ("MLP without history", "MLP with history")
    ]
    claims.append(
        Claim(
            "The MLP with history is ahead of the one without",
            stages["MLP with history"],
            stages["MLP without history"],
        )
    )
    rows = tuple(Row((name,), (ChainRates(found),)) for name, found in stages.items())
    notes = "The paper gives this comparison as a figure, without numbers."
    return Table("fig3a", "Policy heads", "Fig. 3 (a)", ("head", *CHAINS), rows, tuple(claims), notes)


def figure_3b(plans: Plans) -> Table:
    """What vision-language pre-training and fine-tuning are worth."""
    kinds = {
        "no VL pre-training": ("no-pretraining", ("--no-vl-pretrained",)),
        "no VL fine-tuning": ("no-fine-tuning", ("--trainable", "head")),
    }

    def policy(plan: Plan, name: str) -> Stage:
        folder, extra = kinds[name]
        return plan.policy(f"L-IFT-{folder}", *extra)

    stages = {name: chains(plans, policy, name) for name in kinds}
    full = chains(plans, ours)
    claims = tuple(Claim(f"{name.removeprefix('no ')} matters", full, found) for name, found in stages.items())
    rows = tuple(Row((name,), (ChainRates(found),)) for name, found in (stages | {"RoboFlamingo": full}).items())
    notes = (
        "Without VL pre-training, resampler and cross-attention are drawn anew, while vision tower and language model "
        "are kept; without VL fine-tuning the head alone learns. The paper gives a figure, without numbers."
    )
    return Table("fig3b", "Training paradigms", "Fig. 3 (b)", ("training", *CHAINS), rows, claims, notes)


def figure_3c(plans: Plans) -> Table:
    """Open loop."""

    def retrained(plan: Plan) -> Stage:
        return plan.policy("L-IFT-open-loop", "--override", "head.chunk_size=9", "head.n_action_steps=9")

    closed = chains(plans, ours)
    repeated = tuple(plan.chains(ours(plan), "--repeat", "3", suffix="_repeat3") for plan in plans)
    trained = chains(plans, retrained)
    rows = (
        Row(("closed loop: observes at every third step",), (ChainRates(closed),)),
        Row(("open loop, without retraining: each action is done three times",), (ChainRates(repeated),)),
        Row(("open loop, retrained: nine actions at once",), (ChainRates(trained),)),
    )
    claims = (
        Claim("Open loop without retraining costs success", closed, repeated),
        Claim("Retraining makes good for part of it", trained, repeated),
    )
    notes = "Both open loops observe at every ninth step. The paper gives a figure, without numbers."
    return Table("fig3c", "Open-loop control", "Fig. 3 (c)", ("control", *CHAINS), rows, claims, notes)


def table_5(plans: Plans) -> Table:
    """Co-training on captions and questions."""
    settings = {"ABC → D": (THREE, False), "ABCD → D": (FOUR, False), "ABCD → D, enriched": (FOUR, True)}
    rows, claims = [], []
    for label, (scenes, enriched) in settings.items():
        both = {
            "co-trained": chains(plans, cotrained, scenes, enriched=enriched),
            "fine-tuned": chains(plans, ours, scenes, enriched=enriched),
        }
        rows += [
            Row((name, label), (ChainRates(stages),), (f"{paper.TABLE_5[name, label]:.2f}",))
            for name, stages in both.items()
        ]
        text = f"Fine-tuning alone is at least as good as co-training, {label}"
        claims.append(Claim(text, both["fine-tuned"], both["co-trained"], at_least=True))
    headers = ("training", "trained on → tested on", *CHAINS, "paper")
    return Table("table5", "Co-training", "Table 5", headers, tuple(rows), tuple(claims))


def table_6(plans: Plans) -> Table:
    """What is left of captions and questions."""
    plan = plans[0]
    models = {"fine-tuned": ours(plan), "pre-trained": plan.vlm(), "co-trained": cotrained(plan)}
    names = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr")
    rows = []
    for name, model in models.items():
        for shots in (0, 4):
            captions = plan.language(model, "captions", shots)
            measures = (
                *(Fact(captions, score) for score in names),
                Fact(plan.language(model, "questions", shots), "accuracy", 1),
            )
            rows.append(Row((name, f"{shots}-shot"), measures, tuple(map(str, paper.TABLE_6[name, shots]))))
    headers = ("model", "shots", "BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr", "VQA %")
    return Table(
        "table6",
        "What is left of the language",
        "Table 6",
        (*headers, "paper: BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr", "VQA %"),
        tuple(rows),
        notes="Captions of and questions about rendered scenes here, COCO and VQAv2 in the paper. METEOR and SPICE are "
        "left out: they need Java.",
    )


def table_7(plans: Plans) -> Table:
    """Representations made for robots."""
    kinds = {
        "R3M (frozen)": ("r3m", "head"),
        "Voltron (frozen)": ("voltron", "head"),
        "Voltron (fine-tuned)": ("voltron", "default"),
    }

    def policy(plan: Plan, name: str, scenes: str) -> Stage:
        kind, trainable = kinds[name]
        folder = f"{kind}-{'frozen' if trainable == 'head' else 'tuned'}"
        return plan.policy(folder, "--trainable", trainable, preset=f"{kind}-tiny", scenes=scenes)

    rows, claims = [], []
    for scenes in (THREE, FOUR):
        best = chains(plans, ours, scenes)
        for name in kinds:
            if (name, scenes) not in paper.TABLE_7:
                continue
            stages = chains(plans, policy, name, scenes)
            rows.append(Row((name, f"{scenes} → D"), (ChainRates(stages),), (f"{paper.TABLE_7[name, scenes]:.2f}",)))
            claims.append(Claim(f"RoboFlamingo is ahead of {name}, {scenes} → D", best, stages))
        cells = (f"{paper.TABLE_7['RoboFlamingo', scenes]:.2f}",)
        rows.append(Row(("RoboFlamingo", f"{scenes} → D"), (ChainRates(best),), cells))
    return Table(
        "table7",
        "Representations made for robots",
        "Table 7",
        ("representation", "trained on → tested on", *CHAINS, "paper"),
        tuple(rows),
        tuple(claims),
        "Published weights are not at hand here: the tiny R3M is the vision tower of our own vision-language model, "
        "pooled, and the tiny Voltron a transformer on it that begins with random weights, so that frozen it is a "
        "random one. `rf-agent convert r3m` and `convert voltron` read the published weights.",
    )


def table_8(plans: Plans) -> Table:
    """Training everything."""
    steps = plans[0].recipe.short_steps
    full = chains(plans, lambda plan: plan.policy("L-IFT-full", "--trainable", "full", "--train-vision", steps=steps))
    usual = chains(plans, lambda plan: plan.policy("L-IFT-short", steps=steps))
    rows = (
        Row(("everything learns",), (ChainRates(full),), (f"{paper.TABLE_8['everything learns']:.2f}",)),
        Row(("RoboFlamingo",), (ChainRates(usual),), (f"{paper.TABLE_8['RoboFlamingo']:.2f}",)),
    )
    claims = (Claim("Training everything is worse", usual, full),)
    notes = (
        "Both rows have fewer steps than other tables, as a step that trains the vision tower takes many times as long."
    )
    return Table("table8", "Full fine-tuning", "Table 8", ("training", *CHAINS, "paper"), rows, claims, notes)


def table_9(plans: Plans) -> Table:
    """Success of each task."""
    plan = plans[0]
    names = [name for name in VARIANTS if PAPERS[name]] + ["L-IFT"]
    stages = {name: plan.tasks(variant(plan, name)) for name in names}
    rows = [
        Row(
            (task,),
            tuple(TaskRate(stages[name], task) for name in names),
            tuple(f"{100 * rate:.0f}" for rate in reported),
        )
        for task, reported in sorted(paper.TABLE_9.items())
    ]
    rows.append(Row(("all",), tuple(AllTasks(stages[name]) for name in names), ("",) * len(paper.VARIANTS)))
    headers = ("task", *names, *(f"paper: {name}, %" for name in paper.VARIANTS))
    notes = "Here from resets, few episodes each; in the paper 100 each, where the task comes in a chain."
    return Table("table9", "Success of each task", "Table 9", headers, tuple(rows), notes=notes)


def curves(name: str, title: str, source: str, policies: dict[str, Stage], plan: Plan) -> Table:
    """Average length along training."""
    rows = tuple(Row((label,), (Curve(plan.curve(policy)),)) for label, policy in policies.items())
    notes = "Fifths of a run take the place of the paper's epochs. The paper gives a figure, without numbers."
    return Table(name, title, source, ("policy", *FIFTHS), rows, notes=notes)


def figures_5_6(plans: Plans) -> Table:
    """Co-training along training."""
    plan = plans[0]
    policies = {
        f"{name}, {scenes} → D": policy(plan, scenes)
        for scenes in (THREE, FOUR)
        for name, policy in (("co-trained", cotrained), ("fine-tuned", ours))
    }
    return curves("fig5", "Co-training along training", "Figs. 5 and 6", policies, plan)


def figure_8(plans: Plans) -> Table:
    """Backbones along training, ABC to D."""
    policies = {name: variant(plans[0], name, THREE) for name in VARIANTS}
    return curves("fig8", "Vision-language models along training, ABC → D", "Fig. 8", policies, plans[0])


def figure_9(plans: Plans) -> Table:
    """Backbones along training, ABCD to D."""
    policies = {name: variant(plans[0], name) for name in VARIANTS}
    return curves("fig9", "Vision-language models along training, ABCD → D", "Fig. 9", policies, plans[0])


def tuning(plans: Plans) -> Table:
    """The learning rate of each method."""
    plan = plans[0]
    rows = []
    for kind in RATES:
        preset = None if kind == "roboflamingo" else f"{kind}-tiny"
        steps = max(1, plan.recipe.steps // 4)
        runs = [plan.policy(f"tuning-{kind}-{rate}", preset=preset, steps=steps, rate=rate) for rate in TRIED_RATES]
        rows.append(Row((kind,), tuple(Fact(run, "loss", 4) for run in runs), (RATES[kind],)))
    return Table(
        "tuning",
        "The learning rate of each method",
        "not in the paper",
        ("method", *(f"loss at {rate}" for rate in TRIED_RATES), "chosen"),
        tuple(rows),
        notes="Every method gets the same three trials, of a quarter of the steps. Losses are each method's own, on "
        "held-out demonstrations, and compare only within a row.",
    )


TABLES: dict[str, Callable[[Plans], Table]] = {
    "tuning": tuning,
    "table1": table_1,
    "table2": table_2,
    "table3": table_3,
    "fig3a": figure_3a,
    "fig3b": figure_3b,
    "fig3c": figure_3c,
    "table5": table_5,
    "table6": table_6,
    "table7": table_7,
    "table8": table_8,
    "table9": table_9,
    "fig5": figures_5_6,
    "fig8": figure_8,
    "fig9": figure_9,
}
"""Tables by the names that the command takes. Table 4 of the paper has no numbers, but examples of instructions."""


def make_tables(names: Sequence[str], recipe: Recipe, seeds: Sequence[int]) -> list[Table]:
    """Tables of a recipe, in the order of `TABLES`."""
    plans = [Plan(recipe, seed) for seed in seeds]
    return [make(plans) for name, make in TABLES.items() if name in names]
