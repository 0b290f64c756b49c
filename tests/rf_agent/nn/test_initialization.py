import torch
from torch import nn

from rf_agent.nn.initialization import EmptyInit, cast_uninitialized


def test_parameters_stay_unfilled_and_buffers_do_not():
    with EmptyInit():
        layer, norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
        layer.weight.data = torch.full((2, 3), 7.0)  # as found in memory
        layer.reset_parameters()
        nn.init.trunc_normal_(layer.weight)
        nn.init.constant_(layer.weight, 1.0)
        layer.weight.requires_grad_(False)
    assert (layer.weight == 7).all() and not layer.weight.requires_grad
    assert (norm.running_var == 1).all() and (norm.running_mean == 0).all()
    nn.init.zeros_(layer.weight)
    assert not layer.weight.any()


def test_other_tensors_are_filled_within():
    with EmptyInit():
        assert (torch.empty(3).fill_(2.0) == 2).all()


def test_casting_spares_buffers_whole_numbers_and_ties():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2), "norm": nn.BatchNorm1d(2)})
    model["b"].weight = model["a"].weight
    model["norm"].count = nn.Parameter(torch.arange(3), requires_grad=False)
    cast_uninitialized(model, torch.bfloat16)
    assert model["a"].weight is model["b"].weight and model["a"].weight.dtype == torch.bfloat16
    assert model["norm"].running_var.dtype == torch.float32 and model["norm"].count.dtype == torch.int64
