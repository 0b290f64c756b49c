"""The optimisation loop that pre-training and imitation share: schedule, averaging, curves, checkpoints,
resuming."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, fields
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from rf_agent.checkpoint_files import CHECKPOINT
from rf_agent.errors import UserError
from rf_agent.interrupts import DeferredInterrupts
from rf_agent.memory import return_freed_memory
from rf_agent.progress import Reporter
from rf_agent.training.bad_batch import BAD_BATCH, keep_bad_batch
from rf_agent.training.callbacks import Callback
from rf_agent.training.curves import Curves
from rf_agent.training.engine import autocast, divided, gathered
from rf_agent.training.optim import EMA, parameter_groups, schedule, set_learning_rate
from rf_agent.training.settings import LoopConfig

STEPS = 20_000
"""Of a run whose length nobody names."""
LOG_EVERY = 20  # steps
SPIKE_WINDOW = 100  # steps
RETURN_MEMORY_EVERY = 100  # steps
# What may differ between a run and its continuation; everything else would make it another run.
RUNTIME = {
    "output",
    "demos",  # wherever they and the images lie: whether they are the same is checked by their content
    *("images", "scene_images", "vl_images"),
    "steps",
    "minutes",
    "resume",
    "evaluations",
    "checkpoint_minutes",
    "device",
    "threads",
    "gradient_accumulation",
    "gradient_checkpointing",
    "fsdp",
    "spike",
    "workers",
    "wandb",
    "keep",
    "evaluation_env",
    "evaluation_episodes",
}


class Loop:
    """One optimisation run.

    All randomness of a step is a function of the seed and of the step's number: nothing of it has to be restored when
    a run is resumed, by as many processes as may be.

    Args:
        config: settings.
        module: called with a batch and the share of the run that is over, it returns the loss, a mean over the batch,
            and scalars. Its frozen parameters are neither optimised nor saved in checkpoints. It must lie on the
            accelerator's device.
        batches: from a step on, what this process computes in each step: one or several pairs of a batch and its
            share of the whole step, over all processes. It is closed when the run ends.
        evaluate: scalars on held-out data, by calling the module it is given; called with the averaged weights.
        reporter: where progress goes.
        accelerator: see `make_accelerator`.
        groups: parameter groups of the optimizer (see `optim.parameter_groups`); all of the module's by
            default.
        callbacks: see `rf_agent.training.callbacks`.
        encoding: seconds that drawing batches has spent on computing so far, which is no waiting for data.
    """

    def __init__(
        self,
        config: LoopConfig,
        module: nn.Module,
        batches: Callable[[int], Generator[Sequence[tuple[Any, float]], None, None]],
        evaluate: Callable[[nn.Module], dict[str, float]],
        reporter: Reporter,
        accelerator: Any,
        groups: list[dict[str, Any]] | None = None,
        callbacks: Sequence[Callback] = (),
        encoding: Callable[[], float] = float,
    ):
        self.encoding = encoding
        self.config, self.module, self.reporter, self.accelerator = config, module, reporter, accelerator
        self.batches, self.evaluate, self.callbacks = batches, evaluate, callbacks
        self.steps, self.minutes = config.steps or (None if config.minutes else STEPS), config.minutes
        self.optimizer = torch.optim.AdamW(
            groups or parameter_groups(module.parameters(), config.learning_rate, config.weight_decay),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self.called = module if config.fsdp else accelerator.prepare_model(module)
        self.ema = EMA(module, config.ema_decay) if config.ema_decay else None
        self.step, self.evaluated, self.elapsed, self.waited = 0, 0, 0.0, 0.0
        self._scaled = accelerator.prepare_optimizer(self.optimizer)
        self._recent: deque[float] = deque(maxlen=SPIKE_WINDOW)

    @property
    def progress(self) -> float:
        """Share of the run that is over."""
        by_steps = self.step / self.steps if self.steps else 0.0
        by_time = self.elapsed / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def run(self) -> dict[str, float]:
        """Optimise to the end; leaves the averaged weights in the module and returns the last evaluation.

        An interruption (Ctrl-C) of a single process saves a checkpoint first; of several, the last one counts.

        Raises:
            UserError: if the loss is no longer finite, or jumps; the batch is saved.
        """
        if self.config.resume:
            self.restore()
            if self.progress >= 1.0:
                more = "--steps" if self.steps and self.step >= self.steps else "--minutes"
                self.reporter.log(f"the run was over at step {self.step}: to train on, give more {more}")
        elif self.accelerator.is_main_process:
            self.config.output.mkdir(parents=True, exist_ok=True)
        self.accelerator.wait_for_everyone()
        curves = Curves(self.config.output, self.config.wandb) if self.accelerator.is_main_process else None
        saved = start = time.monotonic()
        before = self.elapsed
        scalars: dict[str, float] = {}
        batches = self.batches(self.step)
        for callback in self.callbacks:
            callback.on_start(self.step)
        try:
            while self.progress < 1.0:
                due = self._due()
                if due > self.evaluated:  # before the step, so that one that was interrupted is done again there
                    scalars = self._validate(curves)
                    self.evaluated = due
                began, encoded = time.monotonic(), self.encoding()
                parts = next(batches)
                self.waited += time.monotonic() - began - (self.encoding() - encoded)
                metrics = self._optimise(parts)
                now = time.monotonic()
                # The time is the same in all processes, so that they end and evaluate at the same step.
                self.elapsed = before + self._agreed(now - start)
                if self.step == 1:
                    self.reporter.update(self.progress, "step 1")
                if self.step % LOG_EVERY == 0 or self.progress >= 1.0:
                    self._log(curves, metrics, now - start)
                if self.step % RETURN_MEMORY_EVERY == 0 and self.accelerator.device.type == "cpu":
                    return_freed_memory()
                for callback in self.callbacks:
                    callback.on_step(self.step, metrics)
                if self._agreed(now - saved) > 60 * self.config.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
            self.save()
            scalars = self._validate(curves)
        except KeyboardInterrupt:
            if self.accelerator.num_processes == 1:
                with DeferredInterrupts():  # who is told twice saves all the same
                    self.save()
            raise
        finally:
            if curves is not None:
                curves.close()
            batches.close()
        if self.ema:
            self.ema.copy_to_model()
        self.module.eval()
        self.reporter.update(1.0, f"step {self.step}")
        return scalars

    def _optimise(self, parts: Sequence[tuple[Any, float]]) -> dict[str, Any]:
        accelerator = self.accelerator
        set_learning_rate(self.optimizer, schedule(self.progress, self.config.warmup, self.config.min_lr_ratio))
        self.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(_seed(self.config.seed, self.step, accelerator.process_index))
        total: dict[str, Tensor] = {}
        for index, (batch, share) in enumerate(parts):
            waits = index < len(parts) - 1 and not self.config.fsdp
            with accelerator.no_sync(self.called) if waits else contextlib.nullcontext():
                with autocast(accelerator):
                    loss, metrics = self.called(batch, self.progress)
                # Processes average their gradients: the sum over all of them is wanted.
                accelerator.backward(loss * (share * accelerator.num_processes))
            for name, value in {"loss": loss.detach(), **metrics}.items():
                value = torch.as_tensor(value, dtype=torch.float32, device=loss.device)
                total[name] = total.get(name, torch.zeros_like(value)) + share * value
        total = self._summed(total)
        self._check(float(total["loss"]), parts)
        norm = accelerator.clip_grad_norm_(self._trained(), self.config.clip)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if accelerator.scaler is None and not torch.isfinite(norm):  # a scaler leaves such a step out
            self._stop(f"the norm of the gradient is {float(norm)}", parts)
        with DeferredInterrupts():  # weights, average and step change together
            self._scaled.step()
            if self.ema:
                self.ema.update()
            self.step += 1
        return {**total, "gradient_norm": norm}

    def _check(self, loss: float, parts: Sequence[Any]) -> None:
        """Stop before the step, so that neither weights nor checkpoints ever hold what is not a number."""
        known = len(self._recent) == SPIKE_WINDOW
        usual = float(np.median(self._recent)) if known else math.inf
        size = float(np.median(np.abs(self._recent))) if known else math.inf  # a likelihood may lie below zero
        jumps = self.config.spike > 0 and loss - usual > (self.config.spike - 1) * size
        if math.isfinite(loss) and not jumps:
            self._recent.append(loss)
            return
        self._stop(f"the loss jumped from {usual:.4g} to {loss:.4g}" if jumps else f"the loss is {loss}", parts, jumps)

    def _stop(self, what: str, parts: Sequence[Any], jumps: bool = False) -> NoReturn:
        """Keep the batch, each process its own part, and end the run. After a jump it can go on from here."""
        rank = self.accelerator.process_index
        kept = keep_bad_batch(self.config.output / (BAD_BATCH if not rank else f"{rank}_{BAD_BATCH}"), self.step, parts)
        if jumps:
            self.save()
        way_out = "start again with a lower --learning-rate" + (", or go on with --resume --spike 0" if jumps else "")
        raise UserError(f"{what} at step {self.step}: {way_out}. {kept}")

    def _log(self, curves: Curves | None, metrics: dict[str, Any], seconds: float) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        waiting = self.waited / max(seconds, 1e-9)
        if curves is not None:
            # the highest: what is pre-trained may have a share of it
            rate = max(group["lr"] for group in self.optimizer.param_groups)
            more = {"learning_rate": rate, "minutes": self.elapsed / 60, "waiting_for_data": waiting}
            curves.write(self.step, {**values, **more})
        self.reporter.update(self.progress, f"step {self.step}, loss {values['loss']:.4f}, data {waiting:.0%}")

    @torch.no_grad()
    def _validate(self, curves: Curves | None) -> dict[str, float]:
        self.module.eval()
        with self.ema.applied() if self.ema else contextlib.nullcontext():
            with autocast(self.accelerator):
                scalars = self.evaluate(self.called)
            for callback in self.callbacks:
                scalars |= callback.on_validation(self.step, scalars) or {}
        if scalars and curves is not None:
            curves.write(self.step, scalars, "validation")
            curves.draw()
        if scalars:
            text = ", ".join(f"{name} {value:.4g}" for name, value in scalars.items())
            self.reporter.log(f"step {self.step}: {text}")
        return scalars

    # --- processes ---

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _agreed(self, seconds: float) -> float:
        """A time as the first process measured it."""
        if self.accelerator.num_processes == 1:
            return seconds
        value = torch.tensor([seconds], dtype=torch.float64, device=self.accelerator.device)
        torch.distributed.broadcast(value, 0)
        return float(value)

    def _summed(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars summed over the processes."""
        if self.accelerator.num_processes == 1:
            return values
        every = torch.stack(list(values.values()))
        torch.distributed.all_reduce(every)
        return dict(zip(values, every, strict=True))

    # --- checkpoints ---

    def save(self) -> None:
        """Write the checkpoint; a crash while writing leaves the previous one. All processes must call it."""
        frozen = self._frozen()
        state = {
            "step": self.step,
            "evaluated": self.evaluated,
            "elapsed": self.elapsed,
            "length": (self.steps, self.minutes),
            "model": gathered({name: v for name, v in self.module.state_dict().items() if name not in frozen}),
            "optimizer": gathered(self.optimizer.state_dict()),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "ema": {"steps": self.ema.steps, "averages": gathered(self.ema.averages)} if self.ema else None,
            "recent": list(self._recent),
            "settings": self._settings(),
        }
        if self.accelerator.is_main_process:
            path = self.config.output / CHECKPOINT
            partial = path.with_suffix(".partial")
            try:
                with open(partial, "wb") as file:
                    torch.save(state, file)
                    file.flush()
                    os.fsync(file.fileno())
            except (OSError, RuntimeError) as error:  # torch raises RuntimeError where a write fails
                partial.unlink(missing_ok=True)
                raise UserError(
                    f"{path} cannot be written ({error}): make room on the disk and go on with --resume, from the "
                    "checkpoint before"
                ) from error
            os.replace(partial, path)
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
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
        if not isinstance(state, dict) or not {"settings", "model", "optimizer", "step"} <= state.keys():
            raise ValueError(f"{path} is not the checkpoint of a run: start again in another --output")
        settings = self._settings()
        if "length" not in state:  # of a version that wrote no contents down
            settings |= {name: str(getattr(self.config, name)) for name in self.config.by_content}
        # what a run of an older version did not know yet has its default, which is what that version did
        begun = {field.name: str(field.default) for field in fields(self.config)} | state["settings"]
        if settings.get("color_jitter") == "None" and begun["color_jitter"] == "0.05":
            begun["color_jitter"] = "None"  # earlier versions wrote the default so, and did the same
        if changed := [name for name in settings if begun[name] != settings[name]]:
            name = changed[0]
            raise ValueError(
                f"{path} belongs to a run with {name} {begun[name]}, not {settings[name]}: "
                "resume with the same settings, or start another --output"
            )
        own = self.module.state_dict()
        lost = [*(key for key in state["model"] if key not in own)]
        lost += [key for key in own if key not in state["model"] and key not in self._frozen()]
        if lost:
            raise ValueError(
                f"{path} does not fit this model (tensor {lost[0]}): resume with the version that wrote it"
            )
        for name, value in state["model"].items():
            own[name].copy_(divided(value, own[name]))
        places = dict(enumerate(self._trained()))
        for index, entries in state["optimizer"]["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor) and value.shape == places[index].shape and value.dim():
                    entries[key] = divided(value, places[index])
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise ValueError(f"{path} is of another version ({error}): resume with the one that wrote it") from error
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.ema and state["ema"]:
            self.ema.steps = state["ema"]["steps"]
            for name, average in self.ema.averages.items():
                average.copy_(divided(state["ema"]["averages"][name], average))
        self.step, self.elapsed = state["step"], state["elapsed"]
        length = tuple(state.get("length", (self.steps, self.minutes)))
        if self.config.steps is None and self.config.minutes is None:
            self.steps, self.minutes = length
        elif length != (self.steps, self.minutes):
            self.reporter.log(
                f"the run has {_length(self.steps, self.minutes)} now, and had {_length(*length)}: what follows its "
                "progress, such as the learning rate, goes on from where it is with the new length"
            )
        # fewer may have been due by now, where a run is made longer
        self.evaluated = min(state["evaluated"], self._due())
        self._recent.extend(state["recent"])

    def _due(self) -> int:
        """Validations that are due before the next step, the last one of the run apart."""
        return math.floor(self.progress * self.config.evaluations + 1e-9)

    def _frozen(self) -> set[str]:
        return {
            name
            for name, parameter in self.module.named_parameters(remove_duplicate=False)
            if not parameter.requires_grad
        }

    def _settings(self) -> dict[str, str]:
        free = {*RUNTIME, *self.config.by_content}
        return {name: str(value) for name, value in asdict(self.config).items() if name not in free}


def _length(steps: int | None, minutes: float | None) -> str:
    known = ((steps, "steps"), (minutes, "minutes"))
    return " or ".join(f"{value} {name}" for value, name in known if value is not None)


def _seed(seed: int, step: int, process: int) -> int:
    """A seed for torch's generator: dropout differs between steps and processes, and not between repetitions."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> 1)
