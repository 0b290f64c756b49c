"""The errors a user can mend, and the imports that may be missing."""

from __future__ import annotations

import importlib
from types import ModuleType


class UserError(Exception):
    """Something the user can mend. Its text is one sentence: what was given, expected, and what to do."""


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used; the message names the key and what it should be."""


class MissingPackageError(UserError, ImportError):
    """An optional package is not installed; the message names the command that installs it."""


def require(module: str, purpose: str, install: str) -> ModuleType:
    """Import an optional module, or say which command installs it.

    Args:
        module: dotted name of the module, such as `"h5py"`.
        purpose: what needs it, the subject of the sentence, such as `"writing videos"`.
        install: argument of `pip install` that brings it.

    Raises:
        MissingPackageError: the module (and not something that it imports) is missing.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        message = f"{purpose} needs the package {module!r}: install it with `pip install {install}`"
        raise MissingPackageError(message) from error
