"""What the RoboFlamingo paper reports, to stand beside our scores.

Source: Li et al. 2024, "Vision-Language Foundation Models as Effective Robot Imitators" (arXiv:2311.01378), Tables 1
to 9 (Table 4 has examples of instructions, no numbers). All of it was measured in CALVIN's own simulator, in scene D.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SOURCE = "Li et al. 2024, arXiv:2311.01378"
NOTE = (
    f"The paper ({SOURCE}) measured in CALVIN's own simulator, in scene D, with 1000 chains: its numbers are a "
    "landmark, not a like-for-like comparison."
)
"""Stands wherever its numbers stand beside ours."""


@dataclass(frozen=True)
class ChainScores:
    """Shares of chains that got 1 to 5 sub-tasks far, and the average length."""

    rates: tuple[float, float, float, float, float]
    average_length: float

    def __str__(self) -> str:
        return f"{self.average_length:.2f} ({', '.join(f'{100 * rate:.0f}' for rate in self.rates)} %)"


@dataclass(frozen=True)
class ChainRow:
    """A row of Table 1."""

    method: str
    training: str
    rates: tuple[float, float, float, float, float]
    average_length: float
    enriched: bool = False
    """Instructions in the words of GPT-4 rather than CALVIN's own."""

    @property
    def scores(self) -> ChainScores:
        """Its numbers."""
        return ChainScores(self.rates, self.average_length)

    @property
    def name(self) -> str:
        """Method and training data, as one label."""
        return f"{self.method}, {self.training} → D{', enriched' if self.enriched else ''}"


TABLE_1 = (
    ChainRow("MCIL", "ABCD (Full)", (0.373, 0.027, 0.002, 0.000, 0.000), 0.40),
    ChainRow("HULC", "ABCD (Full)", (0.889, 0.733, 0.587, 0.475, 0.383), 3.06),
    ChainRow("HULC", "ABCD (Lang)", (0.892, 0.701, 0.548, 0.420, 0.335), 2.90),
    ChainRow("RT-1", "ABCD (Lang)", (0.844, 0.617, 0.438, 0.323, 0.227), 2.45),
    ChainRow("RoboFlamingo", "ABCD (Lang)", (0.964, 0.896, 0.824, 0.740, 0.660), 4.09),
    ChainRow("MCIL", "ABC (Full)", (0.304, 0.013, 0.002, 0.000, 0.000), 0.31),
    ChainRow("HULC", "ABC (Full)", (0.418, 0.165, 0.057, 0.019, 0.011), 0.67),
    ChainRow("RT-1", "ABC (Lang)", (0.533, 0.222, 0.094, 0.038, 0.013), 0.90),
    ChainRow("RoboFlamingo", "ABC (Lang)", (0.824, 0.619, 0.466, 0.331, 0.235), 2.48),
    ChainRow("HULC", "ABCD (Full)", (0.715, 0.470, 0.308, 0.199, 0.130), 1.82, enriched=True),
    ChainRow("RT-1", "ABCD (Lang)", (0.494, 0.222, 0.086, 0.036, 0.017), 0.86, enriched=True),
    ChainRow("RoboFlamingo", "ABCD (Lang)", (0.720, 0.480, 0.299, 0.211, 0.144), 1.85, enriched=True),
    ChainRow("RoboFlamingo (freeze-emb)", "ABCD (Lang)", (0.737, 0.530, 0.385, 0.275, 0.192), 2.12, enriched=True),
)

TABLE_2 = {
    "M-3B": (77.3, 45.8, 3.94, 3.81),
    "M-3B-IFT": (82.7, 45.7, 4.09, 4.02),
    "G-4B": (81.8, 49.0, 3.67, 3.53),
    "G-4B-IFT": (85.8, 49.0, 3.79, 3.72),
    "L-9B": (74.3, 44.0, 2.79, 2.71),
    "M-9B": (89.0, 54.8, 3.97, 3.87),
}
"""COCO's CIDEr and VQAv2's accuracy before fine-tuning, 4-shot; best average length of five epochs, mean of the last
three."""

TABLE_3 = {
    "M-3B": ChainScores((0.047, 0.003, 0.000, 0.000, 0.000), 0.05),
    "M-3B-IFT": ChainScores((0.120, 0.007, 0.000, 0.000, 0.000), 0.13),
    "G-4B": ChainScores((0.420, 0.054, 0.003, 0.000, 0.000), 0.48),
    "G-4B-IFT": ChainScores((0.448, 0.084, 0.014, 0.003, 0.001), 0.55),
    "M-9B": ChainScores((0.547, 0.190, 0.067, 0.020, 0.003), 0.83),
}
"""With 10 % of the data."""

TABLE_5 = {
    ("co-trained", "ABC → D"): ChainScores((0.829, 0.636, 0.453, 0.321, 0.234), 2.47),
    ("fine-tuned", "ABC → D"): ChainScores((0.824, 0.619, 0.466, 0.331, 0.235), 2.48),
    ("co-trained", "ABCD → D"): ChainScores((0.957, 0.858, 0.737, 0.645, 0.561), 3.76),
    ("fine-tuned", "ABCD → D"): ChainScores((0.964, 0.896, 0.824, 0.740, 0.660), 4.09),
    ("co-trained", "ABCD → D, enriched"): ChainScores((0.678, 0.452, 0.294, 0.189, 0.117), 1.73),
    ("fine-tuned", "ABCD → D, enriched"): ChainScores((0.720, 0.480, 0.299, 0.211, 0.144), 1.85),
}
"""With and without co-training on captions and questions."""

TABLE_6 = {
    ("fine-tuned", 0): (0.157, 0.052, 0.018, 0.008, 0.147, 0.005, 4.09),
    ("fine-tuned", 4): (0.168, 0.057, 0.020, 0.008, 0.161, 0.005, 3.87),
    ("pre-trained", 0): (0.580, 0.426, 0.301, 0.209, 0.464, 0.757, 40.92),
    ("pre-trained", 4): (0.612, 0.461, 0.332, 0.234, 0.491, 0.822, 43.86),
    ("co-trained", 0): (0.223, 0.157, 0.106, 0.071, 0.334, 0.346, 36.37),
    ("co-trained", 4): (0.284, 0.204, 0.142, 0.098, 0.364, 0.426, 38.73),
}
"""By model and shots: BLEU-1 to BLEU-4, ROUGE-L and CIDEr on COCO, accuracy in % on VQAv2."""
ORIGINAL_FLAMINGO = (1.381, 82.0)
"""CIDEr and accuracy of the 80B model, fine-tuned, in the last row of Table 6."""

TABLE_7 = {
    ("Voltron (frozen)", "ABC"): ChainScores((0.026, 0.001, 0.000, 0.000, 0.000), 0.03),
    ("Voltron (fine-tuned)", "ABC"): ChainScores((0.569, 0.272, 0.105, 0.038, 0.014), 1.00),
    ("RoboFlamingo", "ABC"): ChainScores((0.824, 0.619, 0.466, 0.331, 0.235), 2.48),
    ("R3M (frozen)", "ABCD"): ChainScores((0.085, 0.005, 0.001, 0.000, 0.000), 0.10),
    ("Voltron (frozen)", "ABCD"): ChainScores((0.101, 0.003, 0.001, 0.000, 0.000), 0.11),
    ("Voltron (fine-tuned)", "ABCD"): ChainScores((0.837, 0.566, 0.352, 0.208, 0.115), 2.08),
    ("RoboFlamingo", "ABCD"): ChainScores((0.964, 0.896, 0.824, 0.740, 0.662), 4.09),
}
"""Over representations made for robots, by training scenes."""

TABLE_8 = {
    "everything learns": ChainScores((0.415, 0.070, 0.009, 0.002, 0.001), 0.50),
    "RoboFlamingo": ChainScores((0.964, 0.896, 0.824, 0.740, 0.660), 4.09),
}
"""Where the whole model is fine-tuned, and where it is not."""

VARIANTS = ("M-3B", "M-3B-IFT", "G-4B", "G-4B-IFT", "L-9B", "M-9B")
MAIN_VARIANT = "M-3B-IFT"
"""The backbone of the paper's main results."""

TABLE_9: dict[str, tuple[float, float, float, float, float, float]] = {
    "rotate_blue_block_right": (0.947, 0.893, 0.729, 0.770, 0.493, 0.882),
    "move_slider_right": (0.996, 0.993, 0.996, 0.992, 0.987, 0.996),
    "lift_red_block_slider": (0.890, 0.970, 0.967, 0.858, 0.856, 0.927),
    "place_in_slider": (0.904, 0.828, 0.582, 0.911, 0.874, 0.910),
    "turn_off_lightbulb": (0.972, 1.000, 0.992, 0.956, 0.927, 0.964),
    "turn_off_led": (0.988, 1.000, 1.000, 0.994, 0.970, 0.981),
    "push_into_drawer": (0.777, 0.821, 0.731, 0.770, 0.705, 0.703),
    "lift_blue_block_drawer": (1.000, 0.950, 1.000, 1.000, 0.917, 0.737),
    "close_drawer": (1.000, 1.000, 1.000, 1.000, 0.986, 0.995),
    "lift_pink_block_slider": (0.940, 0.971, 0.944, 0.862, 0.861, 0.918),
    "lift_pink_block_table": (0.859, 0.851, 0.905, 0.892, 0.543, 0.899),
    "move_slider_left": (0.996, 0.996, 1.000, 1.000, 0.970, 0.996),
    "open_drawer": (0.976, 0.997, 0.997, 0.982, 0.980, 0.997),
    "turn_on_lightbulb": (0.988, 0.994, 1.000, 0.988, 0.949, 0.988),
    "rotate_blue_block_left": (0.923, 0.939, 0.820, 0.925, 0.636, 0.848),
    "push_blue_block_left": (0.746, 0.955, 0.841, 0.836, 0.677, 0.909),
    "rotate_red_block_right": (0.926, 0.972, 0.853, 0.905, 0.591, 0.959),
    "turn_on_led": (0.988, 0.988, 0.994, 0.976, 0.985, 0.994),
    "push_pink_block_right": (0.652, 0.754, 0.833, 0.651, 0.627, 0.750),
    "push_red_block_left": (0.949, 0.920, 0.849, 0.949, 0.562, 0.908),
    "lift_blue_block_table": (0.891, 0.956, 0.925, 0.927, 0.611, 0.931),
    "place_in_drawer": (0.988, 0.989, 0.988, 0.975, 0.971, 0.976),
    "rotate_red_block_left": (0.970, 0.908, 0.950, 0.953, 0.677, 0.952),
    "push_pink_block_left": (0.947, 0.920, 0.915, 0.973, 0.747, 0.933),
    "stack_block": (0.612, 0.641, 0.608, 0.595, 0.569, 0.604),
    "lift_blue_block_slider": (0.847, 0.963, 0.908, 0.826, 0.769, 0.869),
    "push_red_block_right": (0.657, 0.732, 0.797, 0.451, 0.457, 0.653),
    "lift_red_block_table": (0.948, 0.939, 0.942, 0.975, 0.606, 0.989),
    "lift_pink_block_drawer": (0.857, 0.800, 0.929, 0.714, 0.778, 0.923),
    "rotate_pink_block_right": (0.917, 0.896, 0.714, 0.794, 0.478, 0.789),
    "unstack_block": (1.000, 0.982, 0.957, 0.980, 0.946, 0.979),
    "rotate_pink_block_left": (0.929, 0.839, 0.906, 0.818, 0.698, 0.927),
    "push_blue_block_right": (0.479, 0.597, 0.471, 0.478, 0.400, 0.594),
    "lift_red_block_drawer": (0.947, 1.000, 1.000, 1.000, 0.769, 0.933),
}
"""Success rate per task, a column for each of `VARIANTS`. The task's name is CALVIN's."""


def are_calvins(tasks: Iterable[str]) -> bool:
    """Whether all tasks are CALVIN's, so that the paper's numbers mean the same tasks."""
    tasks = list(tasks)
    return bool(tasks) and all(task in TABLE_9 for task in tasks)


def task_rate(task: str) -> float:
    """Table 9's success rate of a task in the paper's main variant."""
    return TABLE_9[task][VARIANTS.index(MAIN_VARIANT)]


def chain_rows(enriched: bool) -> list[ChainRow]:
    """Table 1's rows with the same kind of instructions."""
    return [row for row in TABLE_1 if row.enriched is enriched]


def reference_row(enriched: bool) -> ChainRow:
    """Table 1's row of RoboFlamingo trained on all scenes, what a plot shows for comparison."""
    return next(row for row in chain_rows(enriched) if row.method == "RoboFlamingo" and "ABCD" in row.training)
