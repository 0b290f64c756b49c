"""Published weights (OpenFlamingo, RoboFlamingo, CLIP, language models, R3M, Voltron) to policies.

policy, report = from_roboflamingo("RoboFlamingo.pth", "mpt-1b-redpajama-200b-dolly/", "ViT-L-14.pt", "checkpoint.pt")
policy.save_pretrained("m-3b-ift/")
"""

from rf_agent.weights.files import ConversionError
from rf_agent.weights.live import from_live_openflamingo
from rf_agent.weights.openflamingo import from_openflamingo
from rf_agent.weights.r3m import from_r3m
from rf_agent.weights.report import Report
from rf_agent.weights.roboflamingo import from_roboflamingo
from rf_agent.weights.voltron import from_voltron

__all__ = [
    "ConversionError",
    "Report",
    "from_live_openflamingo",
    "from_openflamingo",
    "from_r3m",
    "from_roboflamingo",
    "from_voltron",
]
