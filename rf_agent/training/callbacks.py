"""What may be called while a policy trains."""

from __future__ import annotations

from typing import Any


class Callback:
    """Override what you need, and give instances to `train(config, callbacks=[...])`.

    With several processes each has its own callbacks, called at the same steps.

    Examples:
        >>> class Print(Callback):
        ...     def on_step(self, step, metrics):
        ...         print(step, float(metrics["loss"]))
    """

    def on_start(self, step: int) -> None:
        """Before the first step; `step` is above zero where a run is resumed."""

    def on_step(self, step: int, metrics: dict[str, Any]) -> None:
        """After every optimisation step.

        Args:
            step: steps done.
            metrics: `loss`, `gradient_norm` and the objective's scalars, tensors over the whole step.
        """

    def on_validation(self, step: int, scalars: dict[str, float]) -> dict[str, float] | None:
        """After every validation; the model holds the averaged weights.

        Args:
            step: steps done.
            scalars: on held-out data.

        Returns:
            More scalars, which are logged with the others, or None.
        """
        return None
