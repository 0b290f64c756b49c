"""Tensors from several files into one policy, and an account of what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rf_agent.checkpoint import unique_tensors
from rf_agent.weights.files import ConversionError


@dataclass
class Source:
    """Tensors of one file under the names that they have in a policy."""

    path: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """By name in the policy."""
    names: dict[str, str] = field(default_factory=dict)
    """Name in the policy to name in the file."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Name in the file to the reason for which it is not used."""

    def add(self, name: str, tensor: Tensor, original: str) -> None:
        """Put a tensor under its name in the policy; of two copies the first is taken.

        Raises:
            ConversionError: the copies differ.
        """
        if name not in self.tensors:
            self.tensors[name], self.names[name] = tensor, original
            return
        first = self.tensors[name]
        if first.shape != tensor.shape or not torch.equal(first, tensor):
            raise ConversionError(
                f"{self.path} holds {self.names[name]} and {original}, which are the same tensor in the model but "
                "differ here; the file is damaged or of another model."
            )
        self.ignored[original] = f"the same as {self.names[name]}"

    def join(self, other: Source) -> None:
        """Add what another part of the same file holds."""
        self.tensors |= other.tensors
        self.names |= other.names
        self.ignored |= other.ignored


@dataclass
class Report:
    """What became of every tensor of the files, and of every tensor of the policy."""

    used: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name in the policy -> (file, name in the file)."""
    ignored: dict[tuple[str, str], str] = field(default_factory=dict)
    """(File, name in the file) -> reason."""
    missing: list[str] = field(default_factory=list)
    """Names in the policy that no file has; they keep their random initial values."""
    notes: list[str] = field(default_factory=list)
    """What was decided without being written in a file."""

    def lines(self) -> list[str]:
        """The account as text: a line for every file and reason, and what is missing."""
        counts = Counter(path for path, _ in self.used.values())
        lines = [f"{path}: {count} tensors used" for path, count in counts.items()]
        reasons = Counter((path, _kind(reason)) for (path, _), reason in self.ignored.items())
        lines += [f"{path}: {count} tensors ignored: {reason}" for (path, reason), count in reasons.items()]
        lines += self.notes
        if self.missing:
            parts = Counter(".".join(name.split(".")[:2]) for name in self.missing)
            listed = ", ".join(f"{part} ({count} tensors)" for part, count in parts.items())
            lines.append(f"in no file, thus random and to be trained: {listed}")
        return lines


def _kind(reason: str) -> str:
    """A reason without the tensor that it names, so that equal ones can be counted."""
    return "duplicates" if reason.startswith("the same as ") else reason


@torch.no_grad()
def fill(module: nn.Module, sources: Iterable[Source], may_miss: tuple[str, ...]) -> Report:
    """Copy the tensors of `sources` into `module`; later ones replace earlier ones.

    Args:
        module: its state dict's names are those of the sources.
        sources: files, the base first.
        may_miss: beginnings of names that need not be in any file.

    Raises:
        ConversionError: names tensors that are missing, left over, quantised, not finite, or of another shape (with
            both shapes).
    """
    own = unique_tensors(module)
    aliases = set(module.state_dict()) - set(own)
    report = Report()
    given: dict[str, tuple[Source, Tensor]] = {}
    unknown: list[str] = []
    for source in sources:
        report.ignored |= {(source.path, name): reason for name, reason in source.ignored.items()}
        for name, tensor in source.tensors.items():
            original = source.names[name]
            if name in own:
                if name in given:
                    earlier = given[name][0]
                    report.ignored[earlier.path, earlier.names[name]] = "replaced by a later file"
                given[name] = source, tensor
            elif name in aliases:
                report.ignored[source.path, original] = "tied to the token embedding"
            else:
                unknown.append(f"{original} of {source.path}")
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ConversionError(f"the model has no place for {', '.join(unknown[:5])}{more}; it is of another make.")
    problems = [
        f"{source.names[name]} of {source.path} is {tuple(tensor.shape)}, but {tuple(own[name].shape)} is expected"
        for name, (source, tensor) in given.items()
        if tensor.shape != own[name].shape
    ]
    if problems:
        raise ConversionError(
            f"{'; '.join(problems[:5])}{f'; and {len(problems) - 5} more' if len(problems) > 5 else ''}; "
            "these files do not belong together."
        )
    for name, (source, tensor) in given.items():
        fractions = tensor.is_floating_point() and tensor.itemsize > 1
        if own[name].is_floating_point() and not fractions:  # quantised weights mean something else than they say
            raise ConversionError(
                f"{source.names[name]} of {source.path} is {str(tensor.dtype).removeprefix('torch.')}, but fractions "
                "of 16 or 32 bits are expected; give weights that are not quantised."
            )
        if fractions and not torch.isfinite(tensor).all():
            raise ConversionError(
                f"{source.names[name]} of {source.path} has values that are not finite; the training failed, or the "
                "file is damaged."
            )
    report.missing = [name for name in own if name not in given]
    needed = [name for name in report.missing if not name.startswith(may_miss)]
    if needed:
        more = f" and {len(needed) - 5} more" if len(needed) > 5 else ""
        raise ConversionError(
            f"{', '.join(needed[:5])}{more}: in none of the files; give those that belong together, whole."
        )
    for name, (source, tensor) in given.items():
        own[name].copy_(tensor)
        report.used[name] = source.path, source.names[name]
    return report
