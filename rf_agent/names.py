"""Short names of policies, as reports and the play page show them."""

from __future__ import annotations

from pathlib import PurePath


def short_name(policy: str) -> str:
    """The last part of a path that says something: training calls every directory `policy`.

    >>> short_name("runs/mine/policy/")
    'mine/policy'

    Args:
        policy: as `--policy`; what is no path stays as it is.
    """
    parts = [part for part in PurePath(policy).parts if part not in ("/", ".", "..")]
    return "/".join(parts[-2:] if parts[-1:] == ["policy"] else parts[-1:]) or policy
