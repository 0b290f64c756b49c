"""What a policy remembers of several environments: each has a history of its own."""

import numpy as np
import pytest
from policy_cases import CORPUS, make_observation, make_policy, row


@pytest.mark.parametrize("changed", [0, 1])
def test_a_new_instruction_restarts_the_history_of_its_environment_alone(changed):
    policy = make_policy()
    texts, new = [CORPUS[0], CORPUS[0]], [CORPUS[0], CORPUS[0]]
    new[changed] = CORPUS[1]
    state, states = None, [None, None]
    for t in range(9):  # observed at every second one; the instruction changes between
        observation = make_observation(t, n=2, instruction=texts if t < 5 else new)
        together, state = policy.predict(observation, state)
        for i in range(2):
            alone, states[i] = policy.predict(row(observation, i), states[i])
            np.testing.assert_allclose(together[i], alone, atol=1e-5)
        if t == 5:
            assert state.length[changed] == 1 and state.length[1 - changed] == 3
