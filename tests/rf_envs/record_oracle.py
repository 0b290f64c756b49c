"""Records what CALVIN's own task oracle says about pairs of states of the play table.

    python tests/rf_envs/record_oracle.py --calvin-root PATH

plays on the embedded table in all four scenes, asks the unmodified oracle of a clone of `calvin_env` which of the 34
tasks were done between a state and a later one, and writes a choice of these pairs into ``data/`` for
`test_oracle_agreement`. It needs this package installed, what the oracle needs (scipy, omegaconf), and ten minutes.
The same table and options give the same file. The pairs stay true when the table changes; only a change of CALVIN's
oracle, or a check that is to be tested harder, calls for new ones.

Most pairs are chosen where the verdict turns: two pairs that differ by one step at one end, of which one fulfils a
task and the other does not. There the thresholds are tested hardest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from oracle_pairs import DATA, compact, expand, write_pairs

from rf_envs.benchmark.chains import NUM_CHAINS
from rf_envs.benchmark.tasks import COLORS, TASKS
from rf_envs.chain import ChainEnv
from rf_envs.scenes import SCENES
from rf_envs.table import TableEnv

State = dict[str, Any]
Oracle = Callable[[State, State], set[str]]
NO_IMAGES = {"render_every": 10**6, "image_size": (8, 8)}
PLAYS = ("expert", "clumsy", "random")
STEPS = {"expert": 250, "clumsy": 250, "random": 90}
"""The longest episode of each kind of play."""
AFTER = {"expert": 8, "clumsy": 40, "random": 0}
"""Steps that go on after the task is done: the expert's own, or random ones that may undo it."""
OFTEN = {"stack_block": 5, "unstack_block": 5} | {f"lift_{color}_block_slider": 3 for color in COLORS}
"""Tasks played more often: a block seldom lands on another too fast for the check, and a hand seldom on the shelf."""
CHAIN_STEPS = 700
TASK_FILE = Path("conf", "tasks", "new_playtable_tasks.yaml")
TURNS_PER_TASK = 26
STEADY_PER_TASK = 8
"""Pairs that fulfil a task and whose neighbours do too."""
TURNS_PER_SWEEP = 2
"""A contact that comes and goes makes the verdict turn again and again; only so many of these are candidates."""


@dataclass(eq=False)
class Episode:
    """The states of one episode, and the steps at which a task was given."""

    play: str
    states: list[State] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)

    def add(self, env: TableEnv) -> None:
        """Note the present state of ``env`` as it will be stored, so that it is also judged so."""
        state = compact({"robot_info": env.robot_info, "scene_info": env.scene_info})
        self.states.append(json.loads(json.dumps(state)))


class Candidate(NamedTuple):
    """A pair of steps of an episode."""

    episode: Episode
    start: int
    now: int


Group = tuple[Candidate, ...]
"""Neighbouring pairs, chosen together."""
Kinds = dict[Any, list[Group]]
"""Groups by what they have in common, so that the choice can be even."""


class RandomHand:
    """Random actions, each held for a while so that the hand gets somewhere."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._left = 0

    def act(self) -> np.ndarray:
        if self._left == 0:
            self._action = self._rng.uniform(-1, 1, 7)
            self._left = int(self._rng.integers(3, 15))
        self._left -= 1
        return self._action


class ClumsyExpert:
    """The expert with a trembling hand that now and then opens or closes by mistake."""

    def __init__(self, env: TableEnv, rng: np.random.Generator) -> None:
        self._expert, self._rng = env.expert(), rng
        self._mistaken = 0

    def act(self) -> np.ndarray:
        action = self._expert.act() + np.append(self._rng.normal(0, 0.5, 6), 0)
        if self._mistaken == 0 and self._rng.random() < 0.02:
            self._mistaken = int(self._rng.integers(4, 20))
        if self._mistaken > 0:
            self._mistaken -= 1
            action[6] *= -1
        return action


def play_task(env: TableEnv, task: str, play: str, seed: int) -> Episode:
    """One task, by the expert, by the clumsy expert or at random."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed, options={"task": task})
    hands = {"expert": env.expert(), "clumsy": ClumsyExpert(env, rng), "random": RandomHand(rng)}
    hand, afterwards = hands[play], hands["expert" if play == "expert" else "random"]
    episode = Episode(f"{env.scene} {play}", begins=[0])
    episode.add(env)
    left = STEPS[play]
    while left > 0:
        left -= 1
        *_, info = env.step(hand.act())
        episode.add(env)
        if info["is_success"] and hand is not afterwards:
            hand, left = afterwards, AFTER[play]
    return episode


def play_chain(env: ChainEnv, index: int) -> Episode:
    """One chain, by the expert."""
    *_, info = env.reset(seed=index, options={"chain": index})
    expert = env.expert()
    episode = Episode(f"{env.scene} chain", begins=[0])
    episode.add(env)
    for _ in range(CHAIN_STEPS):
        subtask = info["subtask"]
        *_, terminated, truncated, info = env.step(expert.act())
        episode.add(env)
        if info["subtask"] != subtask:
            episode.begins.append(len(episode.states) - 1)
        if terminated or truncated:
            break
    return episode


def episodes(rounds: int, chains: int, rng: np.random.Generator) -> Iterator[Episode]:
    """In each scene: every task in each kind of play, ``rounds`` times or more, and ``chains`` chains."""
    for scene in SCENES:
        env = TableEnv(scene=scene, **NO_IMAGES)
        for task, play in itertools.product(TASKS, PLAYS):
            for _ in range(rounds * OFTEN.get(task, 1)):
                yield play_task(env, task, play, int(rng.integers(2**31)))
        env.close()
        chain_env = ChainEnv(scene=scene, **NO_IMAGES)
        for _ in range(chains):
            yield play_chain(chain_env, int(rng.integers(NUM_CHAINS)))
        chain_env.close()


def sweeps(episode: Episode, rng: np.random.Generator) -> Iterator[list[Candidate]]:
    """Rows of neighbouring pairs: all later steps against one start, all starts against one later step."""
    last = len(episode.states) - 1
    for start in {*episode.begins, int(rng.integers(last))} - {last}:
        end = min([begin for begin in episode.begins if begin > start], default=last)
        yield [Candidate(episode, start, now) for now in range(start + 1, min(end + 60, last) + 1)]
    for now in {last, 1 + int(rng.integers(last)), *episode.begins} - {0}:
        yield [Candidate(episode, start, now) for start in range(max(0, now - 250), now)]


def touching(pair: Candidate) -> list[Any]:
    """What the blocks touch at either step of ``pair``."""
    states = (pair.episode.states[step] for step in (pair.start, pair.now))
    return [block["contacts"] for state in states for block in state["scene_info"]["movable_objects"].values()]


class Choice:
    """Judges candidates and chooses among them."""

    def __init__(self, oracle: Oracle, rng: np.random.Generator) -> None:
        self._oracle, self._rng = oracle, rng
        self._verdicts: dict[Candidate, set[str]] = {}
        # by task and kind, or by kind alone
        self._turns: dict[str, Kinds] = defaultdict(lambda: defaultdict(list))
        self._steady: dict[str, Kinds] = defaultdict(lambda: defaultdict(list))
        self._any: Kinds = defaultdict(list)

    def offer(self, sweep: list[Candidate]) -> None:
        """Judge a row of neighbouring pairs and note where verdicts turn."""
        turns: Counter[str] = Counter()
        for one, other in itertools.pairwise(sweep):
            before, after = self.verdict(one), self.verdict(other)
            for task in sorted(before ^ after):
                turns[task] += 1
                if turns[task] <= TURNS_PER_SWEEP:
                    # with unchanged contacts it must have been a length, an angle or a speed that turned it
                    kind = one.now == other.now, task in before, touching(one) == touching(other)
                    self._turns[task][kind].append((one, other))
            for task in sorted(before & after):
                self._steady[task][one.episode.play].append((one,))
        for number in self._rng.integers(len(sweep), size=3):
            self._any[sweep[number].episode.play].append((sweep[number],))

    def verdict(self, pair: Candidate) -> set[str]:
        """The tasks that the oracle calls done."""
        if pair not in self._verdicts:
            states = pair.episode.states
            self._verdicts[pair] = self._oracle(expand(states[pair.start]), expand(states[pair.now]))
        return self._verdicts[pair]

    def choose(self, number: int) -> list[Candidate]:
        """``number`` different pairs: turns and steady ones for each task, and any to fill up."""
        chosen: dict[Candidate, None] = {}
        for task in TASKS:
            self._take(chosen, self._turns[task], TURNS_PER_TASK)
            self._take(chosen, self._steady[task], STEADY_PER_TASK)
        self._take(chosen, self._any, number - len(chosen))
        return list(chosen)

    def _take(self, chosen: dict[Candidate, None], kinds: Kinds, wanted: int) -> None:
        """Add ``wanted`` new groups, in turn from each kind."""
        shuffled = [[groups[number] for number in self._rng.permutation(len(groups))] for groups in kinds.values()]
        in_turn = (group for row in itertools.zip_longest(*shuffled) for group in row if group)
        new = (group for group in in_turn if any(pair not in chosen for pair in group))
        for group in itertools.islice(new, wanted):
            chosen.update(dict.fromkeys(group))


def calvin_oracle(root: Path) -> Oracle:
    """The oracle of a clone of `calvin_env`, with the 34 tasks as that clone defines them."""
    sys.path.insert(0, str(root))
    from calvin_env.envs.tasks import Tasks
    from omegaconf import OmegaConf

    return Tasks(OmegaConf.load(root / TASK_FILE).tasks).get_task_info


def report(pairs: list[tuple[State, State, str, set[str]]]) -> None:
    """Print how often each task and each kind of play occurs."""
    done = Counter(task for *_, tasks in pairs for task in tasks)
    for task in TASKS:
        print(f"{task:26} done in {done[task]:4} of {len(pairs)}")
    for play, count in sorted(Counter(play for *_, play, _ in pairs).items()):
        print(f"{play:26} {count:4} pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calvin-root", type=Path, required=True, help="a clone of calvin_env")
    parser.add_argument("--output", type=Path, default=DATA)
    parser.add_argument("--pairs", type=int, default=2400)
    parser.add_argument("--rounds", type=int, default=1, help="episodes per scene, task and kind of play")
    parser.add_argument("--chains", type=int, default=4, help="chains per scene")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not (arguments.calvin_root / TASK_FILE).is_file():
        parser.error(
            f"{arguments.calvin_root} has no {TASK_FILE}; expected a clone of https://github.com/mees/calvin_env."
        )

    rng = np.random.default_rng(arguments.seed)
    choice = Choice(calvin_oracle(arguments.calvin_root), rng)
    for episode in episodes(arguments.rounds, arguments.chains, rng):
        for sweep in sweeps(episode, rng):
            choice.offer(sweep)
    chosen = choice.choose(arguments.pairs)
    pairs = [(p.episode.states[p.start], p.episode.states[p.now], p.episode.play, choice.verdict(p)) for p in chosen]
    write_pairs(pairs, arguments.output)
    report(pairs)


if __name__ == "__main__":
    main()
