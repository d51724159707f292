"""The loss and the field under torch.func, tracing, tensors without values, and torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, grad_and_value, hessian, jacfwd, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from drifting_spec import PAPER, RELEASE, SEED, Readings
from drifting_torch import (
    AlphaDistribution,
    DriftingLossOutput,
    FeatureDriftingConfig,
    cfg_alpha_to_weight,
    drifting_field,
    drifting_loss,
    feature_space_drifting_loss,
)

# PyTorch's own forward-mode formulas say so of themselves when they are first loaded.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)

READINGS: dict[str, Readings] = {
    "paper": PAPER,
    "release": RELEASE,
    "seed": SEED,
    "each temperature": replace(PAPER, temperature_aggregation="per_temperature_mse"),
}


def samples(*shape: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


G, P, U = samples(2, 4, 3, 2, seed=1), samples(2, 5, 3, 2, seed=2), samples(2, 3, 3, 2, seed=3)
W = torch.tensor([0.5, 2.0], dtype=torch.float64)


def output(x: Tensor, readings: Readings = PAPER, **options: Any) -> DriftingLossOutput:
    return drifting_loss(x, P, U, W, readings=readings, **options)


def loss(x: Tensor) -> Tensor:
    return output(x).loss


def plain_gradient(function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    leaf = point.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(function(leaf), leaf)
    return found


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", READINGS)
def test_gradients(name: str) -> None:
    def here(x: Tensor) -> Tensor:
        return output(x, READINGS[name]).loss

    expected = plain_gradient(here, G)
    gradient, value = grad_and_value(here)(G)
    same(gradient, expected)
    same(value, here(G))
    same(jacrev(here)(G), expected)
    same(jacfwd(here)(G), expected)
    direction = samples(*G.shape, seed=4)
    value, along = jvp(here, (G,), (direction,))
    same(value, here(G))
    same(along, (expected * direction).sum())
    expected = torch.autograd.functional.hessian(here, G)
    assert isinstance(expected, Tensor)
    same(hessian(here)(G), expected)
    same(jacrev(jacrev(here))(G), expected)
    assert float(expected.abs().amax()) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_other_dtypes(dtype: torch.dtype) -> None:
    positive, point = P.to(dtype), G.to(dtype)

    def here(x: Tensor) -> Tensor:
        return drifting_loss(x, positive).loss

    found, expected = grad(here)(point), plain_gradient(here, point)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=2 * torch.finfo(dtype).eps, atol=0)


def test_labels_are_differentiated_one_by_one() -> None:
    expected = torch.autograd.functional.jacobian(lambda x: output(x).per_label, G)
    assert isinstance(expected, Tensor)
    same(jacrev(lambda x: output(x).per_label)(G), expected)
    leaf = G.clone().requires_grad_()
    for once_more in (False, True):
        (found,) = torch.autograd.grad(
            output(leaf).per_label,
            leaf,
            torch.eye(2, dtype=torch.float64),
            is_grads_batched=True,
            create_graph=once_more,
        )
        same(found, expected)
    (second,) = torch.autograd.grad(found.sum(), leaf)
    same(second, plain_gradient(lambda x: grad(loss)(x).sum(), G) * 2)
    # What arrives at batches of losses of several features, and at single ones.
    config = FeatureDriftingConfig(include_raw_drift_loss=False)
    output_of_all = feature_space_drifting_loss(
        {"one": leaf, "two": leaf.sin()}, {"one": P, "two": P}, config=config
    )
    losses = torch.stack([each.loss for each in output_of_all.terms.values()])
    (batched,) = torch.autograd.grad(
        losses, leaf, torch.eye(2, dtype=torch.float64), retain_graph=True, is_grads_batched=True
    )
    for index, each in enumerate(batched):
        same(each, torch.autograd.grad(losses[index], leaf, retain_graph=True)[0])


def test_labels_apart() -> None:
    """vmap makes a batch of each label; nested, of each vector as well; weights along with them."""

    def alone(x: Tensor, positive: Tensor, other: Tensor, weight: Tensor) -> Tensor:
        return drifting_loss(x[None], positive[None], other[None], weight[None]).loss

    given = (G, P, U, W)
    expected = torch.stack([alone(*parts) for parts in zip(*given, strict=True)])
    same(vmap(alone)(*given), expected)
    slopes = [
        plain_gradient(lambda x, rest=parts[1:]: alone(x, *rest), parts[0])
        for parts in zip(*given, strict=True)
    ]
    same(vmap(grad(alone))(*given), torch.stack(slopes))

    def bare(x: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
        found = drifting_loss(x[None, :, None], positive[None, :, None])
        return found.loss, found.feature_scale

    nested, scales = vmap(vmap(bare, in_dims=1), in_dims=(0, 0))(G, P)
    for label in range(2):
        for vector in range(3):
            value, scale = bare(G[label, :, vector], P[label, :, vector])
            same(nested[label, vector], value)
            same(scales[label, vector], scale)


def test_what_is_not_generated_may_be_batched() -> None:
    """Positives that differ, and weights that differ, for the same generated samples."""
    positives = torch.stack([P, P + 1, P * 2], dim=2)
    found = vmap(lambda positive: drifting_loss(G, positive).loss, in_dims=2)(positives)
    same(found, torch.stack([drifting_loss(G, each).loss for each in positives.unbind(2)]))
    alphas = torch.tensor([1.0, 1.5, 4.0], dtype=torch.float64)

    def guided(alpha: Tensor) -> Tensor:
        return drifting_loss(G, P, U, cfg_alpha_to_weight(alpha.expand(2), 4, 3)).loss

    same(vmap(guided)(alphas), torch.stack([guided(alpha) for alpha in alphas]))
    law = AlphaDistribution(exponent=2.0)
    same(vmap(law.inverse_cdf)(W / 4), law.inverse_cdf(W / 4))


def test_a_network_s_parameters() -> None:
    """By functional_call, with the features' loss and its vanilla term."""
    net = torch.nn.Linear(2, 2).double()

    def through(parameters: dict[str, Tensor]) -> Tensor:
        made = functional_call(net, parameters, (G,))
        return feature_space_drifting_loss(
            {"one": made.tanh(), "two": made}, {"one": P, "two": P}, {"one": U, "two": U}, W,
            generated_samples=made, positive_samples=P, unconditional_samples=U,
        ).loss  # fmt: skip

    held = dict(net.named_parameters())
    expected = torch.autograd.grad(through(held), list(held.values()))
    found = grad(through)({name: each.detach() for name, each in held.items()})
    for mine, plain in zip(found.values(), expected, strict=True):
        same(mine, plain)


def test_forward_mode() -> None:
    from torch.autograd import forward_ad

    direction = samples(*G.shape, seed=4)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(G, direction)
        value, along = forward_ad.unpack_dual(loss(dual))
    assert along is not None
    same(value, loss(G))
    same(along, (plain_gradient(loss, G) * direction).sum())


def field(x: Tensor, positive: Tensor, weight: Tensor | None = None) -> Tensor:
    """Of points [N, C] with themselves as negatives."""
    return drifting_field(x, positive, x, 0.5, mask_self=True, negative_weight=weight)


def test_the_field_of_batches() -> None:
    points, positive = G[:, :, 0], P[:, :, 0]
    weights = samples(4, seed=5).abs()
    expected = torch.stack([field(*parts) for parts in zip(points, positive, strict=True)])
    same(vmap(field)(points, positive), expected)
    found = vmap(field, in_dims=(None, 0, None))(points[0], positive, weights)
    same(found, torch.stack([field(points[0], each, weights) for each in positive]))
    # It is never differentiated (S3-sg).
    assert torch.equal(grad(lambda x: field(x, positive[0]).sum())(points[0]), 0 * points[0])


def test_tensors_without_values_have_shapes() -> None:
    """Under FakeTensorMode, outside of it, and on meta; backward as well."""
    expected = output(G)
    mode = FakeTensorMode()
    given = (G, P, U, W)
    fakes = [mode.from_tensor(each) for each in given]
    sets = {"meta": [each.to("meta") for each in given], "fake": fakes}
    for name, (x, positive, other, weight) in sets.items():
        x.requires_grad_()
        found = drifting_loss(x, positive, other, weight)
        found.loss.backward()
        assert x.grad is not None
        assert x.grad.shape == G.shape
        for part in ("loss", "per_label", "feature_scale", "drift_scale"):
            one, two = getattr(found, part), getattr(expected, part)
            assert (one.shape, one.dtype) == (two.shape, two.dtype), name
        points = (x[:, :, 0].detach(), positive[:, :, 0])
        assert drifting_field(*points, points[0], 0.5, mask_self=True).shape == (2, 4, 2)
        with pytest.raises(ValueError, match="validate is True, expected None or False where"):
            drifting_loss(x, positive, other, weight, validate=True)
    with mode:
        x = torch.empty(2, 4, 3, 2, requires_grad=True)
        found = feature_space_drifting_loss(
            {"one": x}, {"one": torch.empty(2, 5, 3, 2)}, generated_samples=x, positive_samples=x
        )
        (gradient,) = torch.autograd.grad(found.loss, x)
        assert gradient.shape == x.shape


@pytest.mark.parametrize("tracing", ["real", "fake", "symbolic"])
@pytest.mark.filterwarnings("default")
def test_make_fx_traces_values_and_gradients(tracing: str) -> None:
    def step(x: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        value = drifting_loss(x, positive).loss
        points = drifting_field(x[:, :, 0], positive[:, :, 0], x[:, :, 0], 0.5, mask_self=True)
        return value, torch.autograd.grad(value, x)[0], points

    leaf = G.clone().requires_grad_()
    graph = make_fx(step, tracing_mode=tracing)(leaf, P)
    names = {str(node.target) for node in graph.graph.nodes}
    assert {"drifting_torch.loss.default", "drifting_torch.field.default"} <= names
    other = (G * 2 + 1).requires_grad_()  # other values than those traced
    for mine, plain in zip(graph(other, P), step(other, P), strict=True):
        same(mine, plain)


def test_processes_exchange_no_tensors_without_values(tmp_path: Path) -> None:
    from torch import distributed

    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        with pytest.raises(ValueError, match="process_group is given, expected None under torch"):
            grad(lambda x: drifting_loss(x, P, process_group="world").loss)(G)
    finally:
        distributed.destroy_process_group()


@pytest.fixture
def compiler() -> Iterator[Any]:
    """A backend that counts the graphs handed to it."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    yield CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()


def slope_too(function: Callable[..., Tensor], x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    leaf = x.detach().clone().requires_grad_()
    value = function(leaf, *others)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.filterwarnings("default")
def test_an_annealed_temperature_is_compiled_twice(compiler: Any) -> None:
    """Once as a constant, once as a symbol, whatever values follow."""

    def here(x: Tensor, temperature: float) -> Tensor:
        return output(x, temperatures=(temperature, 0.2)).loss

    compiled = torch.compile(here, backend=compiler, fullgraph=True)
    for temperature in (0.05, 0.06, 0.07, 0.3, 0.011):
        found = slope_too(compiled, G, temperature)
        for mine, plain in zip(found, slope_too(here, G, temperature), strict=True):
            same(mine, plain)
    assert compiler.frame_count == 2
    with pytest.raises(Exception, match="expected a finite number above 0"):
        compiled(G, -1.0)


@pytest.mark.filterwarnings("default")
def test_symbolic_sizes_are_compiled_once(compiler: Any) -> None:
    """dynamic=True: guidance, all features and the vanilla term, of other numbers of samples."""

    def here(x: Tensor, positive: Tensor, other: Tensor, alpha: Tensor) -> Tensor:
        weight = cfg_alpha_to_weight(alpha, x.shape[1], other.shape[1])
        return feature_space_drifting_loss(
            {"one": x, "two": 2 * x}, {"one": positive, "two": positive},
            {"one": other, "two": other}, weight, generated_samples=x,
            positive_samples=positive, unconditional_samples=other,
        ).loss  # fmt: skip

    compiled = torch.compile(here, backend=compiler, fullgraph=True, dynamic=True)
    alpha = torch.tensor([1.5, 3.0], dtype=torch.float64)
    for count in (5, 7, 9):
        sets = [samples(2, count + more, 3, 4, seed=more) for more in (0, 20, 40)]
        found = slope_too(compiled, *sets, alpha)
        for mine, plain in zip(found, slope_too(here, *sets, alpha), strict=True):
            same(mine, plain)
    assert compiler.frame_count == 1


@pytest.mark.filterwarnings("default")
def test_the_field_is_compiled_whole(compiler: Any) -> None:
    points, positive = G[:, :, 0], P[:, :, 0]

    def here(x: Tensor, temperature: float) -> Tensor:
        return drifting_field(x, positive, x, temperature, mask_self=True)

    compiled = torch.compile(here, backend=compiler, fullgraph=True)
    for temperature in (0.5, 0.6, 0.7, 0.8):
        same(compiled(points, temperature), here(points, temperature))
    assert compiler.frame_count == 2


@pytest.mark.filterwarnings("default")
def test_transformations_inside_a_compiled_function(compiler: Any) -> None:
    """Among them second derivatives, which a compiled function has no others of."""
    for function in (
        grad(loss),
        jacrev(lambda x: output(x).per_label),
        grad(lambda x: grad(loss)(x).square().sum()),
        vmap(lambda x: drifting_loss(x[None], P[:1]).loss),
        vmap(lambda x: drifting_field(x[:, 0], P[0, :, 0], x[:, 0], 0.5, mask_self=True)),
    ):
        torch._dynamo.reset()
        same(torch.compile(function, backend=compiler, fullgraph=True)(G), function(G))
