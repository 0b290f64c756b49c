"""Where and how a run computes: device, number format and processes, by `accelerate`; weights divided by torch's FSDP.

`accelerate` knows FSDP on GPUs only. `fully_shard` of torch is the same code below it, and also runs on CPUs, where
the tests are.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from rf_agent.devices import resolve_device
from rf_agent.errors import UserError
from rf_agent.memory import keep_freed_memory
from rf_agent.training.cpu_bfloat16 import BFloat16Kernels, has_bfloat16
from rf_agent.training.settings import LoopConfig


def make_accelerator(config: LoopConfig) -> Any:
    """The `Accelerator` of a run; the processes are those of `accelerate launch` or `torchrun`, or this one alone.

    Raises:
        ImportError: accelerate is not installed.
        DeviceError, UserError: there is no such device, half precision on a CPU, or FSDP with one process.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState, PartialState
        from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
    except ImportError as error:
        raise ImportError("training needs accelerate: pip install 'roboflamingo-agent[train]'") from error
    device = resolve_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        keep_freed_memory()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        AcceleratorState._reset_state(True)  # of an earlier run in this process, perhaps on another device
        PartialState._reset_state()
    # `accelerate launch --use_fsdp` is taken for --fsdp
    config.fsdp = os.environ.pop("ACCELERATE_USE_FSDP", "").lower() == "true" or config.fsdp
    precision = choose_precision(config.mixed_precision, device)
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # a last cross-attention that no head reads
    # The first process may evaluate for long while the others wait.
    handlers = [unused, InitProcessGroupKwargs(timeout=datetime.timedelta(hours=12))]
    with _environment(ACCELERATE_TORCH_DEVICE=str(device) if device.index else None):
        accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=precision, kwargs_handlers=handlers)
    parts = accelerator.num_processes * config.gradient_accumulation
    if config.batch_size < parts:
        raise UserError(
            f"batch_size is {config.batch_size}, but {accelerator.num_processes} processes with gradient_accumulation "
            f"{config.gradient_accumulation} need one of {parts} or more"
        )
    if config.fsdp and accelerator.num_processes == 1:
        raise UserError(
            "--fsdp divides the weights among processes, but there is one: start the run with "
            "torchrun --nproc-per-node N -m rf_agent.cli train ..."
        )
    return accelerator


def choose_precision(name: str, device: torch.device) -> str:
    """The number format of a run, one of accelerate's, by the `mixed_precision` that was asked for.

    Raises:
        UserError: half precision on a CPU that does not multiply it.
    """
    if name == "auto":
        half = "no" if device.type != "cuda" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        name = os.environ.get("ACCELERATE_MIXED_PRECISION", half)
    if device.type == "cpu" and name != "no" and not (name == "bf16" and has_bfloat16()):
        raise UserError(
            f"--mixed-precision {name} is slower on this CPU, or fails: leave it out (bf16 is for GPUs, and CPUs "
            "with AVX512_BF16 or AMX)"
        )
    return name


@contextlib.contextmanager
def autocast(accelerator: Any) -> Iterator[None]:
    """Within it, modules compute in the number format of the run."""
    with accelerator.autocast(), kernels(accelerator):
        yield


def kernels(accelerator: Any) -> AbstractContextManager[Any]:
    """What `autocast` has beside accelerate's own, which what is computed again for the gradients has to have, too."""
    on_cpu = accelerator.device.type == "cpu" and accelerator.mixed_precision != "no"
    return BFloat16Kernels() if on_cpu else contextlib.nullcontext()


def shard(module: nn.Module, blocks: Sequence[nn.Module], left_out: Sequence[nn.Module], device: torch.device) -> None:
    """Divide the parameters of a module among all processes, in place.

    Args:
        module: what is called at each step.
        blocks: parts of it that are gathered one at a time, when they compute.
        left_out: parts that every process keeps whole, as they are called by themselves.
        device: where they are.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    whole = {parameter for part in left_out for parameter in part.parameters()}
    for block in blocks:
        fully_shard(block, mesh=mesh, ignored_params=whole)
    # Not even the outermost parameters stay gathered: after a validation with averaged weights they would be stale.
    fully_shard(module, mesh=mesh, ignored_params=whole, reshard_after_forward=True)


def gathered(value: Any) -> Any:
    """Nested containers with whole tensors in place of divided ones; all processes must call it.

    Whole tensors are made one at a time and kept in the first process's memory: the others get empty ones.
    """
    if isinstance(value, Tensor):
        if not hasattr(value, "full_tensor"):
            return value
        whole = value.full_tensor().detach()
        return whole.cpu().clone() if torch.distributed.get_rank() == 0 else torch.empty(0)
    if isinstance(value, dict):
        return {key: gathered(item) for key, item in value.items()}
    if isinstance(value, list):
        return [gathered(item) for item in value]
    return value


def divided(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor divided as another one is."""
    if not hasattr(like, "full_tensor"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _environment(**variables: str | None) -> Iterator[None]:
    """Within the block these environment variables are set; None leaves one as it is."""
    before = {name: os.environ.get(name) for name, value in variables.items() if value is not None}
    os.environ.update({name: value for name, value in variables.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
