"""The step trains wrapped modules as a plain backward pass does, and gives nothing to others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, multiprocessing, nn
from toy_step import Toy, distance, toy
from wrapped_cases import (
    LABELS,
    LIMIT,
    PARTS,
    WRAPPINGS,
    Recomputed,
    given,
    run,
    trained,
)

from drifting_torch import MicroBatches

# PyTorch says so of reentrant checkpoints in every pass without a graph, that of real samples too.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")

# Many processes.


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes end with that have half of the labels each."""
    folder = tmp_path_factory.mktemp("wrapped")
    multiprocessing.spawn(run, args=(2, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_many_processes_train_as_one(
    wrapping: str, parts: int, processes: list[dict[str, Any]]
) -> None:
    """Gradients, their norm, the clipped update and the averages of the shards."""
    whole = given(wrapping, 1, slice(0, LABELS), None)
    wanted = trained(whole, whole.generator)
    assert min(wanted["norms"]) > 4 * LIMIT  # clipping acts
    for each in processes:
        ours = each[f"{wrapping} {parts}"]
        assert all(ours["others"])
        assert ours["norms"] == pytest.approx(wanted["norms"], rel=1e-10)
        assert ours["clipped"] == pytest.approx(LIMIT, rel=1e-12)
        torch.testing.assert_close(ours["parameters"], wanted["parameters"], rtol=0, atol=1e-12)
        torch.testing.assert_close(ours["averages"], wanted["averages"], rtol=0, atol=1e-12)


# Checkpoints.


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        return self.mix(latents)


def decoded(place: str, reentrant: bool) -> tuple[Toy, nn.Module]:
    """A generator, an encoder and a decoder, one of which recomputes a layer."""
    ours = toy()
    decoder = Decoder().double().eval()
    modules = {"generator": (ours.generator, "last"), "encoder": (ours.encoder, "stem")}
    if place:
        module, name = {**modules, "decoder": (decoder, "mix")}[place]
        setattr(module, name, Recomputed(module.get_submodule(name), reentrant))
        module.train(module is ours.generator)
    return ours, decoder


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("place", ["generator", "encoder", "decoder"])
def test_recomputed_layers_have_their_gradients(place: str, reentrant: bool, parts: int) -> None:
    plain, decoder = decoded("", False)
    wanted = plain.gradients(decoder=decoder)
    ours, decoder = decoded(place, reentrant)
    got = ours.configured(micro_batches=parts).gradients(decoder=decoder)
    got = {name.replace(".layer.", "."): each for name, each in got.items()}
    assert distance(got, wanted) < 1e-13
    frozen = [*ours.encoder.parameters(), *decoder.parameters()]
    assert all(each.grad is None for each in frozen)


def test_a_first_layer_that_is_recomputed_needs_noise_with_a_gradient() -> None:
    """What a reentrant checkpoint asks of its users; the noise keeps none of it."""
    wanted = toy().gradients()
    for parts in PARTS:
        ours = toy().configured(micro_batches=parts)
        ours.generator.first = Recomputed(ours.generator.first, reentrant=True)
        ours.noise.requires_grad_()
        got = ours.gradients()
        assert distance({n.replace(".layer.", "."): g for n, g in got.items()}, wanted) < 1e-13
        assert ours.noise.grad is None


# Nothing for others.


class Trainer:
    """Holds an encoder where no one looks for one."""

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder

    def features(self, images: Tensor) -> Any:
        return self.encoder(images)


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("reentrant", [None, False, True])
@pytest.mark.parametrize("hidden", [False, True])
def test_encoders_left_trainable_keep_their_gradients(
    hidden: bool, reentrant: bool | None, parts: int
) -> None:
    wanted = toy().gradients()
    ours = toy().configured(micro_batches=parts)
    if reentrant is not None:
        ours.encoder.deeper = Recomputed(ours.encoder.deeper, reentrant).eval()
    encoder = ours.encoder.requires_grad_(True)
    first, *others = encoder.parameters()
    first.grad = before = torch.ones_like(first)
    call = Trainer(encoder).features if hidden else encoder
    assert distance(ours.but(encoder=call).gradients(), wanted) < 1e-13
    assert first.grad is before
    assert bool((before == 1).all())
    assert all(each.grad is None for each in others)


@pytest.mark.parametrize("parts", PARTS)
def test_parameters_of_another_optimiser_keep_their_gradients(parts: int) -> None:
    ours = toy().configured(micro_batches=parts)
    optimizer = torch.optim.SGD(ours.generator.first.parameters(), lr=0.0)
    ours.step(optimizer=optimizer)
    given = {name for name, each in ours.generator.named_parameters() if each.grad is not None}
    assert given == {"first.weight", "first.bias"}


@pytest.mark.parametrize("parts", PARTS)
def test_inputs_keep_their_gradients(parts: int) -> None:
    ours = toy().configured(micro_batches=parts)
    leaves = [ours.noise, ours.alpha, ours.positive, ours.unconditional]
    for each in leaves:
        assert each is not None
        each.requires_grad_()
    wanted = toy().gradients()
    assert distance(ours.gradients(), wanted) < 1e-13
    assert all(each is not None and each.grad is None for each in leaves)


@pytest.mark.parametrize("parts", PARTS)
def test_noise_may_be_learnt(parts: int) -> None:
    """Parameters behind the noise that the optimiser holds train; others are left alone."""
    codes = {}
    for count in (1, parts):
        ours = toy().configured(micro_batches=count)
        code = ours.noise.clone().requires_grad_()
        other = torch.ones((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([code, *ours.generator.parameters()], lr=0.0)
        ours.but(noise=torch.tanh(code) * other).step(optimizer=optimizer)
        assert other.grad is None
        assert code.grad is not None
        codes[count] = code.grad
    assert float(codes[1].norm()) > 1e-3
    torch.testing.assert_close(codes[parts], codes[1], rtol=1e-12, atol=1e-14)


def test_a_backward_pass_that_raises_leaves_others_as_they_were() -> None:
    ours = toy()
    ours.encoder.requires_grad_(True)
    kept = next(ours.encoder.parameters())
    kept.grad = before = torch.ones_like(kept)

    def broken(gradient: Tensor) -> Tensor:
        raise RuntimeError("on purpose")

    handle = ours.generator.first.weight.register_hook(broken)
    with pytest.raises(RuntimeError, match="on purpose"):
        ours.step()
    assert kept.grad is before
    assert all(each.grad is None for each in list(ours.encoder.parameters())[1:])
    handle.remove()
    assert distance(ours.gradients(), toy().gradients()) < 1e-13


def test_micro_batches_give_to_what_is_named_alone() -> None:
    line = nn.Linear(3, 2)
    points = torch.randn(5, 3, requires_grad=True)
    for parts in PARTS:
        line.zero_grad()
        batches = MicroBatches(
            lambda part: {"x": line(points[part])},
            lambda values: (values["x"].square().sum(), None),
            torch.device("cpu"),
        )
        batches.backward(5, parts, [line.weight])
        assert line.weight.grad is not None
        assert line.bias.grad is points.grad is None


# Sparse gradients.


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("limit", [None, 0.25])
def test_sparse_gradients_train_as_dense_ones(limit: float | None, parts: int) -> None:
    norms, updates = [], []
    for sparse in (False, True):
        ours = toy().configured(gradient_clip=limit, micro_batches=parts)
        table = ours.generator.classes.weight.detach().clone()
        ours.generator.classes = nn.Embedding.from_pretrained(table, freeze=False, sparse=sparse)
        norms.append(float(ours.step(rate=1.0).gradient_norm))
        assert ours.generator.classes.weight.grad.is_sparse == sparse
        updates.append(dict(ours.generator.named_parameters()))
    assert norms[1] == pytest.approx(norms[0], rel=1e-13)
    torch.testing.assert_close(updates[1], updates[0], rtol=0, atol=1e-13)


def test_an_optimiser_for_sparse_gradients_trains() -> None:
    ours = toy()
    ours.generator.classes = nn.Embedding(5, 6, sparse=True).double()
    optimizer = torch.optim.SparseAdam([ours.generator.classes.weight], lr=0.1)
    before = ours.generator.classes.weight.detach().clone()
    assert ours.step(optimizer=optimizer).stepped
    moved = (ours.generator.classes.weight.detach() != before).any(1)
    assert moved.tolist() == [True, True, False, False, False]
