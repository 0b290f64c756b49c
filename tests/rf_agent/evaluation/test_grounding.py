"""What counts as following the colour word."""

from rf_agent.evaluation.grounding import Trial, totals

LIFT = "lift_{}_block_table"


def test_totals_of_a_policy_that_listens_and_of_one_that_does_not():
    listens = Trial(LIFT, {"red": "red", "blue": "blue", "pink": "pink"})
    deaf = Trial(LIFT, {"red": "blue", "blue": "blue", "pink": "blue"})
    still = Trial(LIFT, {"red": None, "blue": None, "pink": None})
    swapped = Trial(LIFT, {"red": "blue", "blue": "red", "pink": None})
    assert totals([listens]) == {"named": (3, 3), "changed": (3, 3)}
    assert totals([deaf]) == {"named": (1, 3), "changed": (0, 3)}
    assert totals([still]) == {"named": (0, 3), "changed": (0, 3)}
    assert totals([swapped]) == {"named": (0, 3), "changed": (1, 3)}
    assert totals([listens, deaf, still, swapped]) == {"named": (4, 12), "changed": (4, 12)}
