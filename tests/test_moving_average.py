"""Moving averages of modules that change: followed, or refused by name with nothing half done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from drifting_torch import MovingAverage


def filled(module: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        for each in module.parameters():
            each.fill_(value)
    return module


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))


def held(average: MovingAverage, decay: float = 0.5) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in average.averages(decay).items()}


CASTS = [
    (torch.float32, torch.float64, torch.float64),
    (torch.float64, torch.float32, torch.float32),
    (torch.bfloat16, torch.float64, torch.float64),
    (torch.float64, torch.float16, torch.float32),
    (torch.float32, torch.bfloat16, torch.float32),
    (torch.complex64, torch.complex128, torch.complex128),
]


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize(("first", "then", "wide"), CASTS)
def test_a_cast_is_followed(first: torch.dtype, then: torch.dtype, wide: torch.dtype) -> None:
    line = nn.Linear(2, 2, dtype=first)
    average = MovingAverage(filled(line, 1.0), (0.5, 0.75))
    line.to(then)
    filled(line, 3.0)
    average.update()
    for decay, value in ((0.5, 2.0), (0.75, 1.5)):
        for each in average.averages(decay).values():
            assert each.dtype == wide
            assert bool((each == value).all())
    with average.applied(0.5):
        assert bool((line.weight == 2).all())
        assert line.weight.dtype == then
    assert bool((line.weight == 3).all())


def test_parameters_of_eight_bits_are_held_wide() -> None:
    module = nn.Module()
    module.scale = nn.Parameter(torch.ones(4).to(torch.float8_e4m3fn), requires_grad=False)
    average = MovingAverage(module, (0.75,))
    module.scale.data = torch.full((4,), 2.0).to(torch.float8_e4m3fn)
    average.update()
    assert average.averages(0.75)["scale"].tolist() == [1.25] * 4


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_integers_are_the_module_s_own(dtype: torch.dtype) -> None:
    module = nn.Linear(2, 2)
    module.codes = nn.Parameter(torch.ones(3, dtype=dtype), requires_grad=False)
    average = MovingAverage(module, (0.5,))
    module.codes.data.zero_()
    average.update()
    assert set(average.averages(0.5)) == {"weight", "bias"}
    with average.applied(0.5):
        assert not module.codes.any()


def test_an_added_parameter_starts_at_its_value() -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    average = MovingAverage(filled(module, 1.0), (0.5,))
    module.append(filled(nn.Linear(2, 2), 5.0))
    with average.applied(0.5):  # nothing is lent to what has no average yet
        assert bool((module[1].weight == 5).all())
    filled(module, 3.0)
    average.update()
    assert bool((average.averages(0.5)["0.weight"] == 2).all())
    assert bool((average.averages(0.5)["1.weight"] == 3).all())
    filled(module, 5.0)
    average.update()
    assert bool((average.averages(0.5)["1.weight"] == 4).all())


def shrink(module: nn.Sequential) -> None:
    del module[1]


def reshape(module: nn.Sequential) -> None:
    module[0].bias = nn.Parameter(torch.zeros(1))


def quantise(module: nn.Sequential) -> None:
    codes = torch.zeros(2, 2, dtype=torch.int8)
    module[0].weight = nn.Parameter(codes, requires_grad=False)


def reparametrise(module: nn.Sequential) -> None:
    nn.utils.parametrizations.weight_norm(module[0])


def widen(module: nn.Sequential) -> None:
    module[0].weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))


CHANGES = [
    (shrink, r"gone, or integers now: 1\.weight, 1\.bias: make a new MovingAverage"),
    (reshape, r"changed: 0\.bias of shape \(1,\), expected \(2,\): make a new"),
    (quantise, r"gone, or integers now: 0\.weight"),
    (reparametrise, r"gone, or integers now: 0\.weight"),
    (widen, r"changed: 0\.weight of dtype torch\.complex64, expected torch\.float32"),
]


@pytest.mark.parametrize(
    ("change", "message"), CHANGES, ids=lambda each: getattr(each, "__name__", "")
)
def test_what_cannot_be_followed_is_named_and_nothing_changes(change: Any, message: str) -> None:
    module = net()
    average = MovingAverage(filled(module, 1.0), (0.5, 0.75))
    filled(module, 3.0)
    change(module)
    before = {name: each.clone() for name, each in average.state_dict()["averages"][0.5].items()}
    parameters = [each.detach().clone() for each in module.parameters()]
    for call in (average.update, average.check, average.applied(0.5).__enter__):
        with pytest.raises(ValueError, match=message):
            call()
    after = average.state_dict()["averages"][0.5]
    assert all(torch.equal(before[name], each) for name, each in after.items())
    assert len(before) == len(after) == 4
    assert all(map(torch.equal, parameters, module.parameters()))


def test_what_has_no_values_is_refused() -> None:
    with pytest.raises(ValueError, match="parameters weight, bias have no values yet"):
        MovingAverage(nn.LazyLinear(2))
    with pytest.raises(ValueError, match="parameters weight, bias have no values yet"):
        MovingAverage(nn.Linear(2, 2, device="meta"))
    line = nn.Linear(2, 2)
    average = MovingAverage(line)
    line.to("meta")
    with pytest.raises(ValueError, match="parameters weight, bias have no values yet"):
        average.update()


@pytest.mark.parametrize("call", ["make", "update", "load"])
def test_inference_mode_leaves_averages_that_can_be_updated(call: str) -> None:
    line = nn.Linear(2, 2)
    average = MovingAverage(filled(line, 1.0), (0.5,))
    with torch.inference_mode():
        if call == "make":
            average = MovingAverage(line, (0.5,))
        elif call == "load":
            average.load_state_dict(MovingAverage(line, (0.5,)).state_dict())
        else:
            line.double()  # so that the update makes new ones
            average.update()
    filled(line, 3.0)
    average.update()
    assert bool((average.averages(0.5)["weight"] == 2).all())
    with torch.inference_mode(), average.applied(0.5):
        assert bool((line.weight == 2).all())
    assert line.weight.requires_grad
    assert torch.is_grad_enabled()


def test_a_module_changed_while_averages_are_lent_has_its_own_back() -> None:
    line = nn.Linear(2, 2)
    average = MovingAverage(filled(line, 1.0), (0.5,))
    filled(line, 3.0)
    with average.applied(0.5):
        line.double()
    assert bool((line.weight == 3).all())


# Wrappings.


def compiled_inside(module: nn.Sequential) -> nn.Module:
    module[0] = torch.compile(module[0])
    return module


WRAPPINGS: dict[str, Any] = {
    "bare": lambda module: module,
    "compiled": torch.compile,
    "a part compiled": compiled_inside,
    "parallel": DistributedDataParallel,
    "parallel, compiled": lambda module: torch.compile(DistributedDataParallel(module)),
    "data parallel": DataParallel,
    "of one's own": lambda module: nn.ModuleDict({"module": module}),
}


@pytest.fixture
def _alone(tmp_path: Path) -> Any:
    store = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


PAIRS = [(name, "bare") for name in WRAPPINGS] + [("bare", name) for name in WRAPPINGS]
PAIRS += [("parallel, compiled", "of one's own"), ("of one's own", "a part compiled")]


@pytest.mark.usefixtures("_alone")
@pytest.mark.filterwarnings("default")  # the compiler has its own
@pytest.mark.parametrize(("saving", "loading"), PAIRS)
def test_a_state_fits_its_module_in_any_wrapping(saving: str, loading: str) -> None:
    module = net()
    source, target = WRAPPINGS[saving](module), WRAPPINGS[loading](net())
    state = MovingAverage(source, (0.5,)).state_dict()
    names = {f"module.{name}" if saving == "of one's own" else name for name in held_names()}
    assert set(state["averages"][0.5]) == names
    average = MovingAverage(target, (0.5,))
    average.load_state_dict(state)
    # By the names that the wrapped module has.
    assert list(average.averages(0.5)) == [name for name, _ in target.named_parameters()]
    for ours, theirs in zip(average.averages(0.5).values(), module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    average.update()


def held_names() -> set[str]:
    return {name for name, _ in net().named_parameters()}


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod."]
)
def test_states_with_a_wrapper_s_names_load(prefix: str) -> None:
    """As older versions and other programs write them."""
    module = net()
    values = {f"{prefix}{name}": each.detach() for name, each in module.named_parameters()}
    average = MovingAverage(net(), (0.5,))
    average.load_state_dict({"averages": {0.5: values}})
    for ours, theirs in zip(average.averages(0.5).values(), module.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.filterwarnings("default")  # the compiler has its own
def test_a_part_that_is_compiled_later_is_followed() -> None:
    module = net()
    average = MovingAverage(filled(module, 1.0), (0.5,))
    compiled_inside(module)
    filled(module, 3.0)
    average.update()
    assert bool((average.averages(0.5)["0._orig_mod.weight"] == 2).all())


def test_a_module_called_module_is_no_wrapper() -> None:
    module = nn.ModuleDict({"module": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    average = MovingAverage(module, (0.5,))
    state = {"averages": {0.5: {name: each + 1 for name, each in held(average).items()}}}
    average.load_state_dict(state)
    assert all(torch.equal(each, state["averages"][0.5][n]) for n, each in held(average).items())


# States.


def test_a_state_of_another_dtype_is_held_as_the_module_needs() -> None:
    state = MovingAverage(filled(net().double(), 1 + 2**-40), (0.5,)).state_dict()
    average = MovingAverage(net(), (0.5,))
    average.load_state_dict(state)
    assert {each.dtype for each in held(average).values()} == {torch.float32}
    cast = net()
    average = MovingAverage(cast, (0.5,))
    cast.double()
    average.load_state_dict(state)  # no digit is lost on the way
    assert all(bool((each == 1 + 2**-40).all()) for each in held(average).values())
    narrow = {"averages": {0.5: {n: each.half() for n, each in held(average).items()}}}
    average.load_state_dict(narrow)
    assert {each.dtype for each in held(average).values()} == {torch.float64}


def test_a_loaded_state_is_a_copy() -> None:
    first, second = MovingAverage(net(), (0.5,)), MovingAverage(net(), (0.5,))
    second.load_state_dict(first.state_dict())
    before = held(first)
    second.update()
    assert all(torch.equal(before[name], each) for name, each in held(first).items())


def state_with(**changes: Any) -> dict[str, Any]:
    values = {name: each.detach() for name, each in net().named_parameters()}
    values |= {name.replace("_", "."): each for name, each in changes.items()}
    return {"averages": {0.5: {name: each for name, each in values.items() if each is not None}}}


STATES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "lacking": (
        state_with(**{"0_bias": None}),
        ValueError,
        r"differ in the parameters \['0.bias'\]",
    ),
    "a buffer": (
        state_with(**{"1_running": torch.zeros(3)}),
        ValueError,
        r"differ in the parameters \['1.running'\]",
    ),
    "spread": (
        state_with(**{"1_bias": torch.zeros(1)}),
        ValueError,
        r"the state has 1\.bias of shape \(1,\), expected \(3,\)",
    ),
    "integers": (
        state_with(**{"1_bias": torch.zeros(3, dtype=torch.int64)}),
        ValueError,
        r"the state has 1\.bias of dtype torch\.int64, expected torch\.float32",
    ),
    "a list": (state_with(**{"1_bias": [0.0] * 3}), TypeError, r"the state's 1\.bias is list"),
    "text": ({"averages": "0.5"}, TypeError, "the state's averages are str, expected a mapping"),
    "decays as text": (
        {"averages": {"0.5": {}, 0.9: {}}},
        ValueError,
        r"the state has decays \['0.5', 0.9\], expected \[0.5\]",
    ),
    "none": ({}, KeyError, "the state has"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_does_not_fit_changes_nothing(name: str) -> None:
    state, error, message = STATES[name]
    average = MovingAverage(net(), (0.5,))
    before = held(average)
    with pytest.raises(error, match=message):
        average.load_state_dict(state)
    assert all(torch.equal(before[name], each) for name, each in held(average).items())
