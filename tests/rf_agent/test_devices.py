import pytest
import torch

from rf_agent.devices import DeviceError, resolve_device, resolve_dtype
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import pick_device
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.engine import make_accelerator
from rf_agent.training.settings import LoopConfig


@pytest.mark.parametrize("gpus", [0, 2])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, tmp_path, gpus):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    expected = "cuda" if gpus else "cpu"
    assert str(resolve_device("auto")) == expected
    assert pick_device("some policy", "auto") == expected and pick_device("expert", "auto") == "cpu"
    if not gpus:
        assert str(make_accelerator(LoopConfig(output=tmp_path)).device) == "cpu"
    if gpus:
        assert resolve_device("cuda:1") == torch.device("cuda", 1)
        with pytest.raises(DeviceError, match="'cuda:2' was given, but there is only cpu, cuda:0, cuda:1 here"):
            resolve_device("cuda:2")


def test_devices_that_there_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="'cuda' was given, but there is only cpu here"):
        resolve_device("cuda")
    with pytest.raises(UserError, match="no device 'gpu': give auto, cpu, cuda"):
        pick_device("some policy", "gpu")
    with pytest.raises(ValueError, match="no device 'cuda:x'"):
        make_accelerator(LoopConfig(output=tmp_path, device="cuda:x"))
    with pytest.raises(DeviceError, match="no device 'gpu'"):
        RoboFlamingoPolicy.from_pretrained("roboflamingo-tiny", device="gpu")


def test_number_formats():
    assert resolve_dtype("bfloat16") is torch.bfloat16 and resolve_dtype(torch.float16) is torch.float16
    for wrong in ("bf16", "int64", torch.int8, "nn", "float8_e4m3fn"):
        with pytest.raises(DeviceError, match="no number format"):
            resolve_dtype(wrong)
