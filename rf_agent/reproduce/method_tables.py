"""Tables that compare methods: rivals, policy heads, ways to train and to act."""

from __future__ import annotations

from rf_agent.reporting import paper
from rf_agent.reproduce.measures import (
    ChainRates,
    Claim,
    Fact,
    Least,
    Row,
    Table,
)
from rf_agent.reproduce.plan import HEADS, RATES, TRIED_RATES, Plan
from rf_agent.reproduce.policies import (
    CHAINS,
    FOUR,
    THREE,
    Plans,
    baseline,
    chains,
    frozen_embeddings,
    ours,
)
from rf_agent.reproduce.stages import Stage

TRIAL_SHARE = 8
"""What part of the steps a trial of a learning rate has: one in so many."""


def reported(method: str, scenes: str, enriched: bool = False) -> str:
    """The paper's numbers in Table 1; where there are two, each with what it was trained on."""
    rows = [row for row in paper.TABLE_1 if (row.method, row.enriched) == (method, enriched)]
    rows = [row for row in rows if row.training.startswith(f"{scenes} ")]
    if len(rows) == 1 and "Full" not in rows[0].training:
        return str(rows[0].scores)
    return ", ".join(f"{row.scores} {row.training.partition(' ')[2]}" for row in rows)


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
        "model. RoboFlamingo's resampler and cross-attention have been pre-trained besides, as in the paper, while "
        "what its rivals put in their place begins with random weights: in few steps that favours it, and Fig. 3 (b) "
        "is about how much. HULC reads the gripper's orientation, the others no pose. In the paper's numbers, Full "
        "says that play without language was learned, too, which is not done here. Rivals read the mean of the words' "
        "embeddings, RoboFlamingo all words.",
    )


def figure_3a(plans: Plans) -> Table:
    """Policy heads."""
    names = {"MLP without history": "fc", "MLP with history": "fc_hist", "GPT": "gpt"}

    def policy(plan: Plan, name: str) -> Stage:
        if name == "LSTM":
            return ours(plan)
        kind = f"roboflamingo-{names[name]}"
        return plan.policy(f"L-IFT-{names[name]}", "--override", *HEADS[kind], rate=RATES[kind])

    stages = {name: chains(plans, policy, name) for name in (*names, "LSTM")}
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
    claims.append(Claim("The LSTM is at least as good as the GPT", stages["LSTM"], stages["GPT"], at_least=True))
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
            rows.append(Row((name, f"{scenes} → D"), (ChainRates(stages),), (str(paper.TABLE_7[name, scenes]),)))
            claims.append(Claim(f"RoboFlamingo is ahead of {name}, {scenes} → D", best, stages))
        cells = (str(paper.TABLE_7["RoboFlamingo", scenes]),)
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
    # images that are encoded anew at each step would be jittered, which those of the other row are not
    everything = ("--trainable", "full", "--train-vision", "--color-jitter", "0")
    full = chains(plans, lambda plan: plan.policy("L-IFT-full", *everything))
    usual = chains(plans, ours)
    rows = (
        Row(("everything learns",), (ChainRates(full),), (str(paper.TABLE_8["everything learns"]),)),
        Row(("RoboFlamingo",), (ChainRates(usual),), (str(paper.TABLE_8["RoboFlamingo"]),)),
    )
    claims = (Claim("Training everything is worse", usual, full),)
    notes = "Both rows have the same steps; with a vision tower that learns, too, they take two to three times as long."
    return Table("table8", "Full fine-tuning", "Table 8", ("training", *CHAINS, "paper"), rows, claims, notes)


def tuning(plans: Plans) -> Table:
    """The learning rate of each method."""
    plan = plans[0]
    steps = max(1, plan.recipe.steps // TRIAL_SHARE)

    def trial(kind: str, rate: str) -> Stage:
        extra = ("--override", *HEADS[kind]) if kind in HEADS else ()
        preset = None if kind in ("roboflamingo", *HEADS) else f"{kind}-tiny"
        return plan.policy(f"tuning-{kind}-{rate}", *extra, preset=preset, steps=steps, rate=rate)

    rows = []
    for kind in RATES:
        runs = tuple(trial(kind, rate) for rate in TRIED_RATES)
        errors = (Fact(run, "pose_error", 4) for run in runs)
        rows.append(Row((kind,), (*errors, Least(runs, "pose_error", TRIED_RATES))))
    return Table(
        "tuning",
        "The learning rate of each method",
        "not in the paper",
        ("method", *(f"pose error at {rate}" for rate in TRIED_RATES), "least"),
        tuple(rows),
        notes="Every method, and each of RoboFlamingo's heads, gets the same three trials, of an eighth of the steps. "
        "The pose error is that of the motion which the policy would make at each observation step of held-out "
        "demonstrations, as a share of the largest one. The other tables train with "
        + ", ".join(f"{rate} ({kind})" for kind, rate in RATES.items())
        + ": the least here as it was measured with the default budget. Trials with another budget do not change that. "
        "Rows that change something else about RoboFlamingo (its backbone, what learns, co-training) train with its "
        "rate and have no trials of their own, which favours the row without a change; without VL pre-training, "
        "resampler and cross-attention learn at the full rate, otherwise at 0.3 of it.",
        one_seed=True,
    )
