"""The embedded play table: PyBullet, the Franka Panda of `pybullet_data`, furniture made here; no download."""

from rf_envs.simulators.playtable.world import PlayTable

__all__ = ["PlayTable"]
