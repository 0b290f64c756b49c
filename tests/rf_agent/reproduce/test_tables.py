"""The tables: what they train and measure, and what they say of it."""

import random
from pathlib import Path

import pytest

from rf_agent import cli
from rf_agent.errors import UserError
from rf_agent.evaluation.metrics import bootstrap_interval
from rf_agent.reporting import paper
from rf_agent.reproduce.costs import IMAGE, estimate
from rf_agent.reproduce.measures import (
    MISSING,
    AverageLength,
    BestAndMean,
    Claim,
    Curve,
    Fact,
    FactClaim,
    Least,
    Measured,
)
from rf_agent.reproduce.page import finished, table_lines
from rf_agent.reproduce.page import page as page_of
from rf_agent.reproduce.plan import RATES, TRIED_RATES, Plan
from rf_agent.reproduce.recipe import KEPT, Recipe
from rf_agent.reproduce.results import Results, average, difference
from rf_agent.reproduce.stages import Stage, in_order
from rf_agent.reproduce.tables import TABLES, make_tables, measured_tables, most_measured

RECIPE = Recipe()
DOCS = Path(__file__).parents[3] / "docs"
EVERY = make_tables(list(TABLES), RECIPE, (0,))


def played(stage: Stage, *completed: int) -> Results:
    results = Results(RECIPE)
    results.add(stage, 60.0, {"completed": list(completed), "tasks": {}})
    return results


def everything(seed: int = 0) -> Results:
    """Results as if all tables had been measured."""
    results, draw = Results(RECIPE, machine={"cores": 2}), random.Random(seed)
    for table in EVERY:
        for stage in in_order(table.stages):
            facts: dict = {}
            if stage.kind == "evaluate":
                (by_task,) = (table for table in EVERY if table.name == "table9")
                tasks = {row.label[0]: {"success": 2, "total": 3} for row in by_task.rows}
                facts = {"completed": [draw.randrange(6) for _ in range(40)], "tasks": tasks}
            elif stage.kind == "evaluate-vl":
                facts = {f"BLEU-{n}": 0.6 - 0.1 * n for n in range(1, 5)}
                facts |= {"ROUGE-L": 0.4, "CIDEr": 0.7, "accuracy": 0.44}
            elif stage.kind == "train":
                facts = {"pose_error": 0.2}
            results.add(stage, 60.0, facts)
    return results


def page(tables, results, comments=None):
    """The page of one reproduction."""
    return page_of([results], [Measured(table, results) for table in tables], comments)


@pytest.fixture(scope="module")
def full():
    return everything()


def test_every_command_is_one_that_the_command_line_takes():
    kinds = {}
    for table in EVERY:
        for stage in in_order(table.stages):
            flags = tuple(word for word in stage.words if word.startswith("--"))
            kinds.setdefault((stage.kind, flags), stage)
    assert len(kinds) > 15
    for stage in kinds.values():
        _, command, *words = stage.command.split()
        args = cli.parse(cli.command_module(command).Args, command, words)
        assert str(args.output) == stage.output


def test_tables_are_begun_in_the_order_that_is_asked_for():
    assert [table.name for table in make_tables(["fig3a", "table1", "fig3a"], RECIPE, (0,))] == ["fig3a", "table1"]


def test_a_folder_is_made_by_one_command():
    commands: dict[str, str] = {}
    for seed in (0, 1):
        for table in make_tables(list(TABLES), RECIPE, (seed,)):
            for stage in in_order(table.stages):
                assert commands.setdefault(stage.folder, stage.command) == stage.command


def test_rows_are_as_wide_as_their_table(full):
    for table in EVERY:
        for results in (Results(RECIPE), full):
            for row in table.rows:
                assert len(row.cells(results)) == len(table.headers), (table.name, row.label)
        assert not any(MISSING in line for line in table_lines(table, full))
        measured = [row for row in table.rows if row.label[0] != "Flamingo of 80B, fine-tuned"]  # in the paper alone
        assert finished(table, full) == (len(measured), len(measured))
        assert finished(table, Results(RECIPE))[0] == 0


def test_every_numbered_table_and_figure_with_results_is_there():
    sources = {table.source for table in EVERY}
    tables = {f"Table {number}" for number in (1, 2, 3, 5, 6, 7, 8, 9)}
    assert sources >= tables | {"Fig. 3 (a)", "Fig. 3 (b)", "Fig. 3 (c)", "Figs. 5 and 6", "Fig. 8", "Fig. 9"}
    (table_9,) = (table for table in EVERY if table.name == "table9")
    assert len(table_9.rows) == 34 + 1
    (table_1,) = (table for table in EVERY if table.name == "table1")
    shown = " ".join(row.cells(Results(RECIPE))[-1] for row in table_1.rows)
    assert all(f"{row.average_length:.2f}" in shown for row in paper.TABLE_1)


def test_rows_of_a_table_have_one_budget():
    for table in EVERY:
        runs = [stage for row in table.rows for stage in in_order(row.stages) if stage.kind == "train"]
        budgets = {stage.words[stage.words.index("--steps") + 1] for stage in runs}
        assert len(budgets) <= 1, table.name


def test_without_scene_d_nothing_has_seen_it():
    plan = Plan(RECIPE)
    policy = plan.policy("x", scenes="ABC", captions=True)
    assert ("--scenes", "A", "B", "C") == policy.words[policy.words.index("--scenes") :][:4]
    made = {stage.folder: stage for stage in policy.all()}
    vlm = made[policy.words[policy.words.index("--init") + 1].removesuffix("/vlm")]
    for stage in (policy, vlm, made["captions/train"]):
        assert not any("TableD" in word for word in stage.words), stage.command
    assert vlm.words[vlm.words.index("--env") :][:2] == ("--env", "rf/PlayTableRandom-v0")
    # others learn from the same images
    other = plan.vlm("M", instructions=False)
    assert other.needs == (vlm,) and "--env" not in other.words
    assert other.words[other.words.index("--images") :][:2] == ("--images", f"{vlm.folder}/scene_images.hdf5")


def test_seeds_train_anew_on_the_same_data():
    first, second = Plan(RECIPE, 0).policy("x"), Plan(RECIPE, 3).policy("x")
    assert second.folder == first.folder + "_seed3" and first.needs == second.needs
    assert second.words[second.words.index("--seed") + 1] == "3"


def test_all_training_is_in_the_recipes_number_format():
    for table in make_tables(list(TABLES), Recipe(mixed_precision="bf16"), (0,)):
        for stage in in_order(table.stages):
            assert ("--mixed-precision bf16" in stage.command) == (stage.kind in ("train", "pretrain"))


def test_every_method_has_the_same_trials_of_its_rate():
    (tuning,) = (table for table in EVERY if table.name == "tuning")
    assert [row.label[0] for row in tuning.rows] == list(RATES)
    assert all(len(row.stages) == 2 * len(TRIED_RATES) for row in tuning.rows) and set(RATES.values()) <= {*TRIED_RATES}


def test_rates_are_those_of_the_least_error_in_the_published_trials():
    results = Results.load(DOCS / "results" / "reproduce.json")
    (tuning,) = make_tables(["tuning"], results.recipe, (0,))
    found = {row.label[0]: row.cells(results)[-1] for row in tuning.rows}
    tuned = {kind: rate for kind, rate in found.items() if rate != MISSING}
    assert {"roboflamingo", "hulc", "mcil"} <= tuned.keys()
    assert tuned == {kind: RATES[kind] for kind in tuned}


def test_the_least_of_some_runs_is_known_when_all_have_ended():
    runs = tuple(Stage(name, ("train",)) for name in "abc")
    least, results = Least(runs, "pose_error", ("1", "2", "3")), Results(RECIPE)
    for run, error in zip(runs, (0.3, 0.1, 0.2), strict=True):
        assert least.cells(results) == [MISSING]
        results.add(run, 1.0, {"pose_error": error})
    assert least.cells(results) == ["2"]


@pytest.mark.parametrize("steps", [5, 7, 250, 999, 1001, 3000])
def test_policies_are_asked_for_by_the_steps_at_which_a_run_keeps_them(steps):
    kept = [min(step for step in range(steps + 1) if int(step / steps * KEPT) >= fifth) for fifth in range(1, KEPT + 1)]
    plan = Plan(Recipe(steps=steps))
    names = [stage.words[stage.words.index("--policy") + 1] for stage in plan.curve(plan.policy("x"))]
    assert names == [f"policies/x_ABCD/policies/step_{step:07d}" for step in kept[:-1]] + ["policies/x_ABCD/policy"]


def test_too_few_steps_to_keep_policies_are_refused():
    with pytest.raises(UserError, match="--steps is 4: give 5 or more"):
        Recipe(steps=4)


def test_average_lengths_with_one_seed_and_with_several():
    stages = Stage("a", ("evaluate",)), Stage("b", ("evaluate",))
    results = played(stages[0], 0, 2, 4)
    assert AverageLength(stages[:1]).cells(results)[0].startswith("2.00 [0")
    assert AverageLength(stages).cells(results) == [MISSING]
    results.add(stages[1], 1.0, {"completed": [1, 3, 5], "tasks": {}})
    assert AverageLength(stages).cells(results)[0].endswith("(2.00, 3.00)")
    assert BestAndMean(Curve((*stages, stages[0]), 3)).cells(results) == ["3.00", "2.33"]
    assert Curve(stages, 3).cells(results) == ["2.00", "3.00"]
    results.add(stages[1], 1.0, {"completed": [1, 3, 5, 0, 0, 0], "tasks": {}})  # the last one plays more chains
    missing = Stage("c", ("evaluate",))
    assert Curve((missing, stages[1]), 3).cells(results) == [MISSING, "3.00"]
    assert BestAndMean(Curve((missing, stages[1]), 3)).cells(results) == [MISSING] * 2


def test_a_result_of_another_command_is_none():
    results = played(Stage("a", ("evaluate", "--chains", "3")), 1, 1, 1)
    assert results.facts(Stage("a", ("evaluate", "--chains", "4"))) is None


@pytest.mark.parametrize(
    ("first", "second", "at_least", "says"),
    [
        ([4, 4, 3, 4, 5], [1, 2, 1, 2, 1], False, "**holds** (+2.60 ["),
        ([1, 2, 1, 2, 1], [4, 4, 3, 4, 5], True, "**does not hold** (-2.60 ["),
        ([1, 2, 1, 2, 1], [2, 1, 2, 1, 1], False, "**not decided** (+0.00 ["),
        ([1, 2, 1, 2, 1], [2, 1, 2, 1, 1], True, "**nothing speaks against it** (+0.00 ["),
        ([1, 1, 1, 2, 1], [2, 1, 2, 1, 1], True, "**not decided** (-0.20 ["),
    ],
)
def test_claims_are_judged_by_the_paired_difference(first, second, at_least, says):
    a, b = Stage("a", ("evaluate",)), Stage("b", ("evaluate",))
    claim = Claim("It is better", (a,), (b,), at_least)
    results = played(a, *first * 2)
    assert claim.verdict(results) == "It is better: not measured yet."
    results.add(b, 1.0, {"completed": second * 2, "tasks": {}})
    assert claim.verdict(results).startswith("It is better: ") and says in claim.verdict(results)


def test_a_lead_of_one_seed_of_three_decides_nothing():
    lucky, same = [[2] * 50 + [1] * 50, [0, 1] * 50, [1, 0] * 50], [[0, 1] * 50, [1, 0] * 50, [0, 1] * 50]
    assert not difference(lucky, same).decided and difference(lucky, same).mean == pytest.approx(1 / 3)
    assert difference(lucky[:1], same[:1]).decided  # as nobody can know who has seen one run of each
    steady = difference([[2] * 60 + [1] * 40] * 3, same)
    assert steady.decided and steady.interval[0] < steady.mean < steady.interval[1]
    assert average(lucky)[1][1] - average(lucky)[1][0] > 2 * (average(same)[1][1] - average(same)[1][0])
    assert average(same[:1])[1] == pytest.approx(bootstrap_interval(same[0]))


def test_few_chains_that_differ_decide_nothing():
    few = difference([[1] * 4 + [0] * 96], [[0] * 100])
    assert few.interval[0] > 0 and few.p == pytest.approx(0.125) and not few.decided
    a, b = Stage("a", ("evaluate",)), Stage("b", ("evaluate",))
    results = played(a, *[1] * 4, *[0] * 96)
    results.add(b, 1.0, {"completed": [0] * 100, "tasks": {}})
    assert Claim("It", (a,), (b,)).verdict(results).endswith("the permutation test does not find it, p = 0.12).")


def test_tables_of_one_seed_say_so():
    tables = {table.name: table for table in make_tables(list(TABLES), RECIPE, (3, 4))}
    assert {name for name, table in tables.items() if table.seeds == (3,)} == {
        *("tuning", "table6", "table9", "fig5", "fig8", "fig9")
    }
    for table in tables.values():
        folders = {stage.folder for stage in in_order(table.stages) if stage.kind == "train"}
        assert any("_seed4" in folder for folder in folders) == (table.seeds == (3, 4)), table.name


def test_a_page_has_every_table_with_its_claims_and_commands(full):
    text = page(EVERY, full)
    for table in EVERY:
        assert f"## {table.title}\n" in text
    assert f"{RECIPE.steps:,} steps" in text and "# 1 min\nrf-agent train" in text
    commands = [line for line in text.splitlines() if line.startswith("rf-agent ") and "--output" in line]
    assert len(commands) == len(set(commands)) > 100  # tables share them, the page says each once
    assert text.count("**holds**") + text.count("**does not hold**") + text.count("not decided") > 5
    claims = sum(claim.of_paper for table in EVERY for claim in table.claims)
    assert "Asked besides:\n\n- Pre-training with instructions helps L: " in text
    assert f"{claims} of the paper's {claims} claims can be judged so far." in text
    empty = page(EVERY, Results(RECIPE))
    assert f"0 of the paper's {claims} claims can be judged so far." in empty
    assert "0 of 12 rows are measured" in empty and "not measured yet" in empty and "rf-agent train" not in empty


def test_each_table_is_of_the_reproduction_that_has_most_of_it(full):
    fig3a, fig3b = make_tables(["fig3a", "fig3b"], RECIPE, (0,))
    some = [stage.folder for stage in in_order(fig3a.stages)]
    first = Results(RECIPE, {folder: full.stages[folder] for folder in some}, {"cores": 2})
    second = Results(RECIPE, {stage.folder: full.stages[stage.folder] for stage in in_order(fig3b.stages)})
    found = {entry.table.name: entry.results for entry in most_measured([first, second])}
    assert found["fig3a"] is first and found["fig3b"] is second
    assert found["fig3c"] is first  # of which both have the same: that of the first
    text = page_of([first, second], most_measured([first, second]))
    assert "`rf-agent reproduce fig3a`.\n" in text
    assert "`rf-agent reproduce fig3b`. In the second reproduction.\n" in text
    commands = text.partition("## Commands\n")[2].partition("In the folder of the second reproduction, with")
    assert "policies/L-IFT-gpt_ABCD" in commands[0] and "policies/L-IFT-gpt_ABCD" not in commands[2]
    assert "policies/L-IFT-no-pretraining_ABCD" in commands[2] and "evaluations/L-IFT_ABCD" in commands[2]
    assert "of 2 reproductions by the same recipe" in text and "reproduction" not in page([fig3a], first).split("##")[2]
    again = text.partition("## Measured more than once\n")[2].partition("\n## ")[0]
    mean, (low, high) = average([full.stages["evaluations/L-IFT_ABCD"]["facts"]["completed"]])
    shown = f"{mean:.2f} [{low:.2f}, {high:.2f}]"
    assert again.count("\n| `") == 1 and f"| `L-IFT_ABCD` | {shown} | {shown} |" in again
    assert "Measured more than once" not in page([fig3a], first)
    # claims come before rows: Table 5 with one claim judged before another with three of six rows
    (table5,) = make_tables(["table5"], RECIPE, (0,))
    rows = [stage.folder for row in table5.rows if row.label[0] == "fine-tuned" for stage in row.stages]
    one = [stage.folder for stage in table5.claims[0].stages]
    those, these = (Results(RECIPE, {folder: full.stages[folder] for folder in folders}) for folders in (rows, one))
    assert {entry.table.name: entry.results for entry in most_measured([those, these])}["table5"] is these
    # where no row is measured in full single numbers count: two of the third, one (RoboFlamingo's end) of the first
    steps = [stage.folder for stage in EVERY[-1].stages if "_step" in stage.folder][:2]
    third = Results(RECIPE, {folder: full.stages[folder] for folder in steps})
    assert {entry.table.name: entry.results for entry in most_measured([first, third])}["fig9"] is third


def test_results_of_two_recipes_make_no_page(tmp_path, capfd):
    for name, recipe in (("a", RECIPE), ("b", Recipe(steps=600))):
        (tmp_path / name).mkdir()
        Results(recipe).save(tmp_path / name)
    files = [str(tmp_path / name / "results.json") for name in "ab"]
    for given, said in (
        (files, f"{files[1]} is of another recipe (--steps 600) than {files[0]} (the usual budget)"),
        (files[:1] * 6, "--results names 6 files: give 5 at most"),
        ([files[0], str(tmp_path / "none.json")], "there is no "),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(["reproduce", "--results", *given, "--page", str(tmp_path / "p.md")])
        assert stop.value.code == 1 and said in capfd.readouterr().err and not (tmp_path / "p.md").exists()


def test_the_published_page_is_what_the_published_results_say(tmp_path):
    made = tmp_path / "results.md"
    with pytest.raises(SystemExit, match="0"):
        given = [
            "--results",
            *(str(DOCS / "results" / name) for name in ("reproduce.json", "reproduce-2.json")),
            "--comments",
            str(DOCS / "results" / "comments.json"),
        ]
        cli.main(["reproduce", *given, "--page", str(made)])
    assert made.read_text() == (DOCS / "results.md").read_text()


def test_seeds_are_those_that_a_table_was_measured_with():
    results, both = everything(), {}
    names = ("fig3a", "fig3b")
    for table in make_tables(["fig3a"], RECIPE, (2,)):
        for stage in in_order(table.stages):
            results.add(
                stage, 60.0, {"completed": [3] * 40, "tasks": {}} if stage.kind == "evaluate" else {"pose_error": 0.2}
            )
    both = {table.name: table for table in measured_tables(results) if table.name in names}
    assert [both[name].seeds for name in names] == [(0, 2), (0,)]
    others = Results(RECIPE, {folder: entry for folder, entry in results.stages.items() if "seed2" in folder})
    others.stages |= {folder: entry for folder, entry in results.stages.items() if folder.startswith(("demos", "vlms"))}
    (alone,) = (table for table in measured_tables(others) if table.name == "fig3a")
    assert alone.seeds == (2,) and finished(alone, others) == (4, 4)
    text = page(list(both.values()), results)
    assert "`rf-agent reproduce fig3a --seeds 0 2`" in text and "`rf-agent reproduce fig3b`" in text
    assert MISSING not in "".join(line for table in both.values() for line in table_lines(table, results))


def test_the_page_says_how_its_budget_is_asked_for_and_what_we_think(full):
    other = Results(Recipe(steps=600, mixed_precision="bf16"), full.stages, full.machine)
    assert "`rf-agent reproduce table1 --steps 600 --mixed-precision bf16`" in page(measured_tables(other), other)
    text = page(EVERY, full, {"VL pre-training matters": "A sentence of ours."})
    (line,) = (line for line in text.splitlines() if line.startswith("- VL pre-training matters"))
    assert line.endswith("A sentence of ours.")


def test_comments_of_what_nobody_claims_are_refused(tmp_path, capfd):
    full_results = everything()
    full_results.save(tmp_path)
    comments = tmp_path / "comments.json"
    words = ["reproduce", "--results", str(tmp_path / "results.json"), "--page", str(tmp_path / "p.md")]
    for content, said in (
        ('{"Cats are better": "No."}', "speaks of 'Cats are better', which no table"),
        ("[", "no JSON"),
    ):
        comments.write_text(content)
        with pytest.raises(SystemExit):
            cli.main([*words, "--comments", str(comments)])
        assert said in capfd.readouterr().err
    comments.write_text('{"VL pre-training matters": "A sentence of ours."}')
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--comments", str(comments)])
    assert stop.value.code == 0 and "A sentence of ours." in (tmp_path / "p.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--page", "p.md", "--output", "typo"], "typo holds no results.json to make a page of: name a table"),
        (["fig3a", "--comments", "c.json"], "--comments is for a page: give --page FILE with it"),
    ],
)
def test_a_page_of_nothing_is_refused(tmp_path, monkeypatch, capfd, words, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", *words])
    assert stop.value.code == 1 and said in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_claims_without_intervals_say_both_numbers():
    first, second = Stage("a", ("evaluate-vl",)), Stage("b", ("evaluate-vl",))
    claim = FactClaim("It keeps more", Fact(first, "CIDEr"), Fact(second, "CIDEr"))
    results = Results(RECIPE)
    results.add(first, 1.0, {"CIDEr": 0.5})
    assert claim.verdict(results) == "It keeps more: not measured yet."
    results.add(second, 1.0, {"CIDEr": 0.25})
    assert (
        claim.verdict(results)
        == "It keeps more: **so it is** (0.500 against 0.250, one run each, without an interval)."
    )
    assert FactClaim("It", claim.worse, claim.better).verdict(results).startswith("It: **it is not so**")
    assert FactClaim("It", claim.worse, claim.worse).verdict(results).startswith("It: **no difference**")
    shares = [Fact(stage, "CIDEr", 1, 100.0) for stage in (first, second)]
    assert FactClaim("It", *shares).verdict(results).startswith("It: **so it is** (50.0 against 25.0,")
    results.add(second, 1.0, {"CIDEr": 0.4996})  # what is compared is not what is shown
    assert FactClaim("It", *shares).verdict(results).startswith("It: **so it is** (50.0 against 50.0,")


def test_estimates_know_what_takes_long():
    plan = Plan(RECIPE)
    usual, full = plan.policy("x"), plan.policy("y", "--train-vision")
    assert estimate(full, RECIPE) == pytest.approx(2.3 * estimate(usual, RECIPE)) and estimate(usual, RECIPE) > 0
    vlms = plan.vlm(), plan.vlm("G")
    assert estimate(vlms[0], RECIPE) - estimate(vlms[1], RECIPE) == pytest.approx(IMAGE * RECIPE.images)
    (table8,) = (table for table in EVERY if table.name == "table8")
    steps = {
        stage.words[stage.words.index("--steps") + 1] for stage in in_order(table8.stages) if stage.words[0] == "train"
    }
    assert steps == {str(RECIPE.steps)}
    assert all(estimate(stage, RECIPE) > 0 for table in EVERY for stage in in_order(table.stages))
