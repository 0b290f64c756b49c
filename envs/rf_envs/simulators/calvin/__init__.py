"""CALVIN's own simulator, the unmodified `calvin_env` package of a clone, behind our interface.

`clone.py` finds it, `imports.py` imports it without what it does not need, `config.py` reads its settings, `repairs.py`
mends what breaks repeatability, `egl.py` tries the renderers, `cameras.py` draws, and `world.py` puts them together.
"""

from rf_envs.simulators.calvin.clone import find_clone
from rf_envs.simulators.calvin.egl import RENDERERS, probe_egl
from rf_envs.simulators.calvin.world import CalvinTable

__all__ = ["RENDERERS", "CalvinTable", "find_clone", "probe_egl"]
