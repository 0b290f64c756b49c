"""Tables that compare vision-language models: backbones, co-training, single tasks, and curves along training."""

from __future__ import annotations

from rf_agent.reporting import paper
from rf_agent.reproduce.measures import (
    AllTasks,
    AverageLength,
    BestAndMean,
    Blank,
    ChainRates,
    Claim,
    Curve,
    Fact,
    FactClaim,
    Row,
    Table,
    TaskRate,
)
from rf_agent.reproduce.plan import Plan
from rf_agent.reproduce.policies import (
    CHAINS,
    FOUR,
    PAPERS,
    THREE,
    VARIANTS,
    Plans,
    chains,
    cotrained,
    ours,
    variant,
)
from rf_agent.reproduce.recipe import KEPT
from rf_agent.reproduce.stages import Stage

LANGUAGE = "What is left of the language"
"""Title of Table 6."""
FIFTHS = tuple(f"{fifth}/{KEPT}" for fifth in range(1, KEPT + 1))


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
                    Fact(plan.language(vlm, "captions"), "CIDEr", 1, 100.0),
                    Fact(plan.language(vlm, "questions"), "accuracy", 1, 100.0),
                    BestAndMean(_curve(plan, policy)),
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
            of_paper=family != "L",  # which it has with instructions alone
        )
        for family in "MGL"
    )
    small, large = (chains(plans, variant, name) for name in ("L-IFT", "L-wide-IFT"))
    claims += (Claim("With all data the smaller model is as good as the larger", small, large, at_least=True),)
    scores = ("CIDEr", "VQA %", "best length", "mean length")
    headers = ("backbone", "instructions", *scores, "average length, last")
    theirs = ("paper's", *(f"paper: {score}" for score in scores))
    return Table(
        "table2",
        "Vision-language models",
        "Table 2",
        (*headers, *theirs),
        tuple(rows),
        claims,
        "Language models of three families in one size, and one 2.5 times as large, each pre-trained from nothing on "
        "the same images: with captions alone, or (-IFT) with questions, too, and with the robot's training "
        "instructions, each answered by the thing that it is about. So models without -IFT have never seen a question, "
        "unlike the paper's. The paper's row beside each is of the same family; M-9B, which stands beside L-wide-IFT "
        "for being the larger one, is an MPT without instructions. CIDEr and VQA are of the pre-trained model, without "
        "examples in the prompt (4-shot in the paper), from which models of this size have not learned to draw (see "
        f"{LANGUAGE}). Best and mean are average lengths of the policies that the run kept, all on the first of the "
        "chains, so that the best may lie below the last on all chains.",
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
            (PAPERS[name], str(paper.TABLE_3[PAPERS[name]])) if PAPERS[name] in paper.TABLE_3 else ("", ""),
        )
        for name in names
    )
    claims = (
        Claim("With little data the larger model is better", stages["L-wide-IFT"], stages["L-IFT"]),
        Claim("With little data pre-training with instructions helps M", stages["M-IFT"], stages["M"]),
        Claim("With little data pre-training with instructions helps G", stages["G-IFT"], stages["G"]),
    )
    headers = ("backbone", *CHAINS, "paper's", "paper")
    notes = (
        "A tenth of each task's demonstrations, for as many steps as all have in other tables: each is seen ten times "
        "as often. The paper trains all variants for the same epochs. M-9B, which stands beside L-wide-IFT for being "
        "the larger one, is an MPT without instructions."
    )
    return Table("table3", "A tenth of the demonstrations", "Table 3", headers, rows, claims, notes)


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
            Row((name, label), (ChainRates(stages),), (str(paper.TABLE_5[name, label]),))
            for name, stages in both.items()
        ]
        text = f"Fine-tuning alone is at least as good as co-training, {label}"
        claims.append(Claim(text, both["fine-tuned"], both["co-trained"], at_least=True))
    headers = ("training", "trained on → tested on", *CHAINS, "paper")
    notes = (
        "Both have the same steps of the same demonstrations; a step of co-training has captions of and questions "
        "about images of random tables besides, and takes about 2.5 times as long."
    )
    return Table("table5", "Co-training", "Table 5", headers, tuple(rows), tuple(claims), notes)


def table_6(plans: Plans) -> Table:
    """What is left of captions and questions."""
    plan = plans[0]
    models = {"fine-tuned": ours(plan), "pre-trained": plan.vlm(), "co-trained": cotrained(plan)}
    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")
    rows = []
    for name, model in models.items():
        for shots in (0, 4):
            captions = plan.language(model, "captions", shots)
            measures = (
                *(Fact(captions, score) for score in names),
                Fact(plan.language(model, "questions", shots), "accuracy", 1, 100.0),
            )
            rows.append(Row((name, f"{shots}-shot"), measures, tuple(map(str, paper.TABLE_6[name, shots]))))
    cider, accuracy = paper.ORIGINAL_FLAMINGO
    blank = Blank(len(names) + 1)
    reported = (*("",) * (len(names) - 1), str(cider), str(accuracy))
    rows.append(Row(("Flamingo of 80B, fine-tuned", ""), (blank,), reported))

    def score(model: str, kind: str) -> Fact:
        name, digits, scale = ("CIDEr", 3, 1.0) if kind == "captions" else ("accuracy", 1, 100.0)
        return Fact(plan.language(models[model], kind), name, digits, scale)

    claims = [
        FactClaim(
            f"Co-training keeps what fine-tuning forgets of {kind}",
            score("co-trained", kind),
            score("fine-tuned", kind),
        )
        for kind in ("captions", "questions")
    ]
    scores = (*names, "VQA %")
    return Table(
        "table6",
        LANGUAGE,
        "Table 6",
        ("model", "shots", *scores, *(f"paper: {score}" for score in scores)),
        tuple(rows),
        tuple(claims),
        "Captions of and questions about rendered scenes here, COCO and VQAv2 in the paper: images of random tables in "
        "pre-training and co-training, of scene D in this test. METEOR and SPICE are left out: they need Java. A model "
        "of this size has learned from single images without examples in the prompt; four of them, each with its "
        "image, rather distract it, so the sentences below are about 0 shots.",
        one_seed=True,
    )


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
    return Table("table9", "Success of each task", "Table 9", headers, tuple(rows), notes=notes, one_seed=True)


def _curve(plan: Plan, policy: Stage) -> Curve:
    return Curve(plan.curve(policy), plan.recipe.curve_chains)


def curves(
    name: str, title: str, source: str, policies: dict[str, Stage], plan: Plan, claims: tuple[Claim, ...] = ()
) -> Table:
    """Average length along training."""
    rows = tuple(Row((label,), (_curve(plan, policy),)) for label, policy in policies.items())
    notes = (
        "Average lengths after each fifth of a run, which takes the place of the paper's epochs, over the first of the "
        "chains. Sentences about the end are about all chains. The paper gives a figure, without numbers."
    )
    return Table(name, title, source, ("policy", *FIFTHS), rows, claims, notes, one_seed=True)


def figures_5_6(plans: Plans) -> Table:
    """Co-training along training."""
    plan = plans[0]
    policies = {
        f"{name}, {scenes} → D": policy(plan, scenes)
        for scenes in (THREE, FOUR)
        for name, policy in (("co-trained", cotrained), ("fine-tuned", ours))
    }
    claims = []
    for scenes in (THREE, FOUR):
        both, alone = (plan.curve(policy(plan, scenes)) for policy in (cotrained, ours))
        claims += [
            Claim(f"Co-trained is ahead after a fifth of the steps, {scenes} → D", both[:1], alone[:1]),
            Claim(f"Fine-tuned alone is ahead at the end, {scenes} → D", alone[-1:], both[-1:]),
        ]
    return curves("fig5", "Co-training along training", "Figs. 5 and 6", policies, plan, tuple(claims))


def figure_8(plans: Plans) -> Table:
    """Backbones along training, ABC to D."""
    policies = {name: variant(plans[0], name, THREE) for name in VARIANTS}
    return curves("fig8", "Vision-language models along training, ABC → D", "Fig. 8", policies, plans[0])


def figure_9(plans: Plans) -> Table:
    """Backbones along training, ABCD to D."""
    policies = {name: variant(plans[0], name) for name in VARIANTS}
    return curves("fig9", "Vision-language models along training, ABCD → D", "Fig. 9", policies, plans[0])
