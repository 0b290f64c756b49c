"""The optimisation loop that pre-training and imitation share: schedule, averaging, curves, checkpoints,
resuming."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rf_agent.errors import UserError
from rf_agent.progress import Reporter
from rf_agent.training.curves import Curves
from rf_agent.training.optim import EMA, parameter_groups, schedule, set_learning_rate
from rf_agent.training.settings import CHECKPOINT, LoopConfig

LOG_EVERY = 20  # steps
# What may differ between a run and its continuation; everything else would make it another run.
RUNTIME = {"output", "steps", "minutes", "resume", "evaluations", "checkpoint_minutes", "device", "threads"}


class Loop:
    """One optimisation run.

    Args:
        config: settings.
        model: everything that is trained (its frozen parameters are neither optimised nor saved in
            checkpoints).
        objective: draws a batch with the generator it is given, knowing the share of the run that is over, and
            returns loss and scalars. All its randomness must come from that generator or from torch's global one:
            both are restored by `resume`.
        evaluate: scalars on held-out data; called with the averaged weights.
        reporter: where progress goes.
        groups: parameter groups of the optimizer (see `optim.parameter_groups`); all of the model's by
            default.
    """

    def __init__(
        self,
        config: LoopConfig,
        model: nn.Module,
        objective: Callable[[np.random.Generator, float], tuple[Tensor, dict[str, Any]]],
        evaluate: Callable[[], dict[str, float]],
        reporter: Reporter,
        groups: list[dict[str, Any]] | None = None,
    ):
        self.config, self.model, self.reporter = config, model, reporter
        self.objective, self.evaluate = objective, evaluate
        self.steps = config.steps or (None if config.minutes else 20_000)
        self.optimizer = torch.optim.AdamW(
            groups or parameter_groups(model.parameters(), config.learning_rate, config.weight_decay),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self.ema = EMA(model, config.ema_decay) if config.ema_decay else None
        self.rng = np.random.default_rng(config.seed)
        self.step, self.evaluated, self.elapsed = 0, 0, 0.0
        self.device = next(model.parameters()).device
        half = torch.bfloat16 if self.device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
        # On CPUs half precision brought nothing; measured by the sketch that this project started from.
        self._autocast = torch.autocast(self.device.type, half, enabled=self.device.type == "cuda")
        self._scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.device.type == "cuda" and half == torch.float16
        )

    @property
    def progress(self) -> float:
        """Share of the run that is over."""
        by_steps = self.step / self.steps if self.steps else 0.0
        by_time = self.elapsed / (60 * self.config.minutes) if self.config.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def run(self) -> dict[str, float]:
        """Optimise to the end; leaves the averaged weights in the model and returns the last evaluation.

        An interruption (Ctrl-C) saves a checkpoint first.

        Raises:
            UserError: if the loss is no longer finite.
        """
        if self.config.resume:
            self.restore()
        else:
            torch.manual_seed(self.config.seed)
            self.config.output.mkdir(parents=True, exist_ok=True)
        curves = Curves(self.config.output)
        saved = start = time.monotonic()
        before = self.elapsed
        scalars: dict[str, float] = {}
        try:
            while self.progress < 1.0:
                metrics = self._optimise()
                self.elapsed = before + time.monotonic() - start
                if self.step == 1:
                    self.reporter.update(self.progress, "step 1")
                if self.step % LOG_EVERY == 0:
                    self._log(curves, metrics, (time.monotonic() - start) or 1.0)
                if math.floor(self.progress * self.config.evaluations) > self.evaluated and self.progress < 1.0:
                    self.evaluated = math.floor(self.progress * self.config.evaluations)
                    scalars = self._validate(curves)
                if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
            self.save()
            scalars = self._validate(curves)
        except KeyboardInterrupt:
            self.save()
            raise
        finally:
            curves.close()
        if self.ema:
            self.ema.copy_to_model()
        self.model.eval()
        self.reporter.update(1.0, f"step {self.step}")
        return scalars

    def _optimise(self) -> dict[str, Any]:
        set_learning_rate(self.optimizer, schedule(self.progress, self.config.warmup, self.config.min_lr_ratio))
        self.model.train()
        with self._autocast:
            loss, metrics = self.objective(self.rng, self.progress)
        # before the step, so that neither weights nor checkpoints ever hold what is not a number
        if not torch.isfinite(loss):
            raise UserError(f"the loss is {float(loss)} at step {self.step}: start again with a lower --learning-rate")
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self.optimizer)
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, self.config.clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self.ema:
            self.ema.update()
        self.step += 1
        return {"loss": loss.detach(), "gradient_norm": norm, **metrics}

    def _log(self, curves: Curves, metrics: dict[str, Any], seconds: float) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        curves.write(
            self.step,
            {**values, "learning_rate": self.optimizer.param_groups[0]["lr"], "minutes": self.elapsed / 60},
        )
        self.reporter.update(self.progress, f"step {self.step}, loss {values['loss']:.4f}")

    @torch.no_grad()
    def _validate(self, curves: Curves) -> dict[str, float]:
        self.model.eval()
        with self._autocast:
            if self.ema:
                with self.ema.applied():
                    scalars = self.evaluate()
            else:
                scalars = self.evaluate()
        if scalars:
            curves.write(self.step, scalars, "validation")
            text = ", ".join(f"{name} {value:.4g}" for name, value in scalars.items())
            self.reporter.log(f"step {self.step}: {text}")
        return scalars

    def save(self) -> None:
        """Write the checkpoint; a crash while writing leaves the previous one."""
        frozen = self._frozen()
        state = {
            "step": self.step,
            "evaluated": self.evaluated,
            "elapsed": self.elapsed,
            "model": {name: value for name, value in self.model.state_dict().items() if name not in frozen},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "numpy_rng": json.dumps(self.rng.bit_generator.state),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "settings": self._settings(),
        }
        path = self.config.output / CHECKPOINT
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def restore(self) -> None:
        """Continue from the checkpoint exactly where it was written.

        Raises:
            ValueError: if it is damaged or belongs to a run with other settings.
        """
        path = self.config.output / CHECKPOINT
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError, ... for damaged files
            raise ValueError(f"{path} is damaged ({type(error).__name__}): start again in another --output") from error
        settings = self._settings()
        # what a run of an older version did not know yet has its default, which is what that version did
        begun = {field.name: str(field.default) for field in fields(self.config)} | state["settings"]
        if changed := [name for name in settings if begun[name] != settings[name]]:
            name = changed[0]
            raise ValueError(
                f"{path} belongs to a run with {name} {begun[name]}, not {settings[name]}: "
                "resume with the same settings, or start another --output"
            )
        result = self.model.load_state_dict(state["model"], strict=False)
        lost = [*result.unexpected_keys, *(key for key in result.missing_keys if key not in self._frozen())]
        if lost:
            raise ValueError(
                f"{path} does not fit this model (tensor {lost[0]}): resume with the version that wrote it"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self.ema and state["ema"]:
            self.ema.load_state_dict(state["ema"])
        self.rng.bit_generator.state = json.loads(state["numpy_rng"])
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] and self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        self.step, self.evaluated, self.elapsed = state["step"], state["evaluated"], state["elapsed"]

    def _frozen(self) -> set[str]:
        return {
            name
            for name, parameter in self.model.named_parameters(remove_duplicate=False)
            if not parameter.requires_grad
        }

    def _settings(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self.config).items() if name not in RUNTIME}
