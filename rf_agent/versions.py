"""What a result was computed with."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence

PACKAGES = ("roboflamingo-agent", "torch", "transformers", "gymnasium", "pybullet", "numpy")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python, of this project and of what it computes with ("absent" where not installed)."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found
