"""Call forms: eight styles of code, each put to the reference through one statement."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import call_styles as styles
import numpy as np
import pytest
import torch
from torch import Tensor

import drifting_torch
from drifting_parity import forms
from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.drifting_torch_adapter import DriftingTorchAdapter
from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.cases import FeatureCase, FieldCase, LossCase, Manifest, Setting
from drifting_parity.checks.training import grouped_step
from drifting_parity.cli import main
from drifting_parity.forms import FormAdapter, FormError
from drifting_parity.forms.arrays import JaxArrays, framework
from drifting_parity.forms.guess import GuessError, guess
from drifting_spec import PAPER

STYLES: dict[str, Callable[[], FormAdapter]] = {
    "pseudo-code": lambda: forms.field(styles.compute_V),
    "implicit negatives": lambda: forms.field(styles.drifting_field, negatives="implicit"),
    "batch axis, real first": lambda: forms.field(
        styles.batched_field, layout="label sample channel", negatives="real first"
    ),
    "labels x locations": lambda: forms.loss(
        styles.drift_loss, layout="(label vector) sample channel"
    ),
    "one vector": lambda: forms.loss(styles.flat_loss, layout="sample channel"),
    "one class": lambda: forms.class_loss(
        styles.class_loss,
        names={"unconditional_weight": "guidance"},
        weight="alpha",
        weight_per="label",
    ),
    "features": lambda: forms.features(
        styles.feature_loss,
        derived={"config": lambda temperatures: styles.Config(temperatures)},
    ),
    "module": lambda: forms.module(
        styles.DriftingLoss, build=lambda temperatures: styles.DriftingLoss(temperatures)
    ),
}


def field_case(others: int, *, mask: bool = True) -> FieldCase:
    random = np.random.default_rng(3)
    x, positive, negative = (random.normal(size=(count, 3)) for count in (4, 6, others))
    whole = np.concatenate([x, negative]) if mask else random.normal(size=(5, 3))
    return FieldCase(Manifest("f"), x, positive, whole, 0.7, mask_self=mask)


def loss_case(labels: int, vectors: int, others: int = 0) -> LossCase:
    random = np.random.default_rng(5)
    draws = [random.normal(size=(labels, n, vectors, 3)) for n in (4, 6, others)]
    weight = np.repeat(random.uniform(0.2, 2.0, size=(labels, 1)), others, axis=1)
    return LossCase(
        Manifest("l"),
        draws[0],
        draws[1],
        draws[2] if others else None,
        weight if others else None,
        temperatures=(0.1, 0.4),
    )


def feature_case() -> FeatureCase:
    one, two = loss_case(2, 3), loss_case(2, 1)
    return FeatureCase(
        Manifest("many"),
        {"a": one.generated, "b": two.generated},
        {"a": one.positive, "b": two.positive},
        temperatures=(0.1, 0.4),
    )


def same(adapter: Adapter, case: Any, setting: Setting | None = None) -> None:
    """Value and gradient are the reference's."""
    reference, setting = ReferenceAdapter(), setting or Setting()
    if isinstance(case, FieldCase):
        got = adapter.field(case, PAPER, setting)
        np.testing.assert_allclose(
            got, reference.field(case, PAPER, setting), rtol=1e-9, atol=1e-12
        )
        return
    if isinstance(case, FeatureCase):
        many, wanted = (it.feature_loss(case, PAPER, setting) for it in (adapter, reference))
        assert many.loss == pytest.approx(wanted.loss, rel=1e-9)
        for key, gradient in wanted.gradients.items():
            np.testing.assert_allclose(many.gradients[key], gradient, rtol=1e-8, atol=1e-12)
        return
    one, right = (it.loss(case, PAPER, setting) for it in (adapter, reference))
    assert one.loss == pytest.approx(right.loss, rel=1e-9)
    np.testing.assert_allclose(one.gradient, right.gradient, rtol=1e-8, atol=1e-12)
    assert not any((one.other_gradients or {}).values())
    if one.per_label is not None:
        np.testing.assert_allclose(one.per_label, right.per_label, rtol=1e-9)


CASES: dict[str, list[Any]] = {
    "pseudo-code": [field_case(0), field_case(3), field_case(0, mask=False)],
    "implicit negatives": [field_case(0)],
    "batch axis, real first": [field_case(0), field_case(3)],
    "labels x locations": [loss_case(2, 3), loss_case(2, 3, 5), loss_case(1, 1)],
    "one vector": [loss_case(1, 1)],
    "one class": [loss_case(1, 3), loss_case(1, 3, 5)],
    "features": [feature_case()],
    "module": [loss_case(1, 1)],
}


@pytest.mark.parametrize("style", STYLES)
def test_a_style_through_its_form_is_the_reference(style: str) -> None:
    adapter = STYLES[style]()
    adapter.smoke()
    for case in CASES[style]:
        same(adapter, case)
        same(adapter, case, Setting(upstream=-3.0, strided=True))
    assert not adapter.conduct()


# What a form says of itself.


def scalar_per_class(generated: Tensor, positive: Tensor) -> Tensor:
    return (generated.mean(dim=(1, 2)) - positive.mean(dim=(1, 2))).square()


def detached(generated: Tensor, positive: Tensor) -> Tensor:
    return (generated.detach().mean() - positive.mean()).square()


def drifting(x: Tensor, pos: Tensor, scale: list[float] = [1.0]) -> Tensor:  # noqa: B006 -- a state
    scale[0] *= 1.5
    return scale[0] * styles.flat_loss(x, pos)


def changing(x: Tensor, pos: Tensor) -> Tensor:
    loss = styles.flat_loss(x, pos)
    with torch.no_grad():
        pos.mul_(2.0)
    return loss


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: forms.loss(styles.flat_loss, layout="sample chanel"), "'chanel' is no axis"),
        (lambda: forms.loss(styles.flat_loss, layout="sample sample channel"), "an axis twice"),
        (lambda: forms.loss(styles.flat_loss, layout="sample"), "lacks the axis channel"),
        (lambda: forms.loss(styles.flat_loss, names={"positve": "pos"}), "names has 'positve'"),
        (lambda: forms.loss(styles.flat_loss, names={"positive": "real"}), "does not have"),
        (lambda: forms.loss(styles.flat_loss, negatives="real first"), "takes none"),
        (lambda: forms.loss(styles.flat_loss, weight="v"), "weight is 'v', expected one of 'w'"),
        (lambda: forms.loss(styles.flat_loss, loop="sample"), "expected one of 'label', 'vector'"),
        (lambda: forms.loss(styles.flat_loss, uses="tensorflow"), "framework is 'tensorflow'"),
        (lambda: forms.loss(3), "int is no function"),
        (lambda: forms.loss(scalar_per_class), r"returned the shape \(2, 7\)"),
        (lambda: forms.loss(detached), "without a gradient"),
        (lambda: forms.loss(drifting, layout="sample channel"), "the second time"),
        (lambda: forms.features(styles.feature_loss), "needs the argument 'config'"),
        (lambda: forms.module(styles.DriftingLoss), "cannot be built"),
    ],
)
def test_a_form_says_in_a_sentence_what_is_not_right(
    make: Callable[[], FormAdapter], said: str
) -> None:
    with pytest.raises(FormError, match=said):
        make().smoke()


def test_changed_inputs_are_conduct() -> None:
    adapter = forms.loss(changing, layout="sample channel", names={"temperatures": None})
    adapter.loss(replace(loss_case(1, 1), temperatures=styles.PAPER), PAPER, Setting())
    assert [item.what for item in adapter.conduct()] == ["changed its input pos in place"]


def test_cases_that_a_form_does_not_take_are_not_observable() -> None:
    flat = STYLES["one vector"]()
    for case, said in [
        (loss_case(2, 1), "one label"),
        (loss_case(1, 3), "one vector"),
        (loss_case(1, 1, 5), "no unconditional"),
    ]:
        with pytest.raises(NotObservable, match=said):
            flat.loss(case, PAPER, Setting())
    with pytest.raises(NotObservable, match="no negatives but"):
        STYLES["implicit negatives"]().field(field_case(3), PAPER, Setting())


def test_axes_are_looped_over_where_the_form_says_so() -> None:
    """The sum over vectors and the mean over labels of separate calls, value and gradient."""
    case = loss_case(2, 3)
    looped = forms.loss(styles.flat_loss, layout="sample channel", loop="label vector")
    got = looped.loss(case, PAPER, Setting(upstream=2.0))
    total, single = 0.0, STYLES["one vector"]()
    for label in range(2):
        for vector in range(3):
            cut = {
                name: getattr(case, name)[label : label + 1, :, vector : vector + 1]
                for name in ("generated", "positive")
            }
            one = single.loss(case.changed(**cut), PAPER, Setting())
            total += one.loss / 2
            np.testing.assert_allclose(
                got.gradient[label, :, vector], one.gradient[0, :, 0], rtol=1e-12
            )
    assert got.loss == pytest.approx(total, rel=1e-12)
    assert got.per_label is not None
    assert got.per_label.mean() == pytest.approx(total, rel=1e-12)


def log_weight(gen: Tensor, pos: Tensor, unc: Tensor, log_w: Tensor, taus: Any) -> Tensor:
    return styles.drift_loss(gen, pos, unc, log_w.exp(), taus)[0]


def test_log_weights_of_each_sample() -> None:
    adapter = forms.loss(
        log_weight,
        layout="(label vector) sample channel",
        weight="log w",
        names={"unconditional_weight": "log_w"},
    )
    same(adapter, loss_case(2, 3, 5))
    adapter.smoke()
    with pytest.raises(NotObservable, match="needs unconditional samples"):
        adapter.loss(loss_case(2, 3), PAPER, Setting())


# Guessing.


def explicit_loss(x: Tensor, pos: Tensor, neg: Tensor, taus: Any = styles.PAPER) -> Tensor:
    total = torch.zeros_like(x)
    a, p, n = x.detach(), pos.detach(), neg.detach()
    for tau in taus:
        total += styles.compute_V(a, p, n, tau)
    return (x - (a + total)).square().mean()


def leaking_loss(x: Tensor, pos: Tensor, neg: Tensor) -> Tensor:
    return (x - styles.compute_V(x.detach(), pos, neg.detach(), 0.2)).square().mean()


def without_root(x: Tensor, y_pos: Tensor, y_neg: Tensor, T: float, mask_self: bool) -> Tensor:
    return styles.compute_V(x, y_pos, y_neg, 3 * T, mask_self) * 0.1


def unmasked(x: Tensor, y_pos: Tensor, y_neg: Tensor, T: float, mask_self: bool = True) -> Tensor:
    """Drops the mask where there are more negatives than samples."""
    return styles.compute_V(x, y_pos, y_neg, T, mask_self and len(x) == len(y_neg))


def square(x: Tensor, pos: Tensor, neg: Tensor, T: float) -> Tensor:
    """Masks a square and takes no other."""
    assert len(x) == len(neg)
    return styles.compute_V(x, pos, neg, T)


def real_first(gen: Tensor, pos: Tensor, neg: Tensor) -> Tensor:
    """A loss that masks the last of its negatives."""
    x, n = gen.detach(), neg.detach()
    return (gen - (x + styles.batched_field(x, pos.detach(), n, 0.05))).square().mean()


def separate(x: Tensor, y_pos: Tensor, y_neg: Tensor, T: float) -> Tensor:
    """Means of each set by its own affinities, not balanced, nothing masked."""
    near, far = ((-styles.distances(x, y) / T).softmax(-1) for y in (y_pos, y_neg))
    return (near @ y_pos - x) - 0.5 * (far @ y_neg - x)


def centred(x: Tensor, y_pos: Tensor, y_neg: Tensor, T: float) -> Tensor:
    """Not balanced, about the mean of the generated samples: they move one another."""
    return separate(x, y_pos, y_neg, T) + x.mean(dim=0)


def optional_negatives(gen: Tensor, pos: Tensor, neg: Tensor | None = None) -> Tensor:
    return explicit_loss(gen, pos, gen if neg is None else neg, (0.2,))


def by_time(x: Tensor, y: Tensor, t: float) -> Tensor:
    return t * (x - y.mean(dim=0)).square().mean()


def of_dicts(gen_features: Mapping[str, Tensor], pos_features: Mapping[str, Tensor]) -> Tensor:
    return styles.feature_loss(gen_features, pos_features, styles.Config())


def of_a_tensor(x: Tensor, y_pos: Tensor, y_neg: Tensor, temperature: Tensor) -> Tensor:
    return styles.compute_V(x, y_pos, y_neg, temperature.item())


def swapped(x: Tensor, y: Tensor) -> Tensor:
    """The real samples first."""
    return styles.flat_loss(y, x.detach())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (styles.compute_V, "a field x, y_pos, y_neg, T, mask_self; samples: [sample channel]; "
         "negatives: generated first"),
        (styles.drifting_field, "a field gen, pos, tau; samples: [sample channel]; negatives: "
         "implicit"),
        (styles.batched_field, "negatives: real first"),
        (styles.flat_loss, "a loss of one feature x, pos, taus; samples: [sample channel]"),
        (styles.drift_loss, "left as they are: weight_neg"),
        (explicit_loss, "negatives: generated first"),
        (without_root, "negatives: generated first"),
        (unmasked, "negatives: generated first"),
        (square, "negatives: generated first"),
        (real_first, "negatives: real first"),
        (separate, "negatives: generated first"),
        (optional_negatives, "negatives: generated first"),
        (of_dicts, "a loss of many features gen_features, pos_features; samples: [label sample "
         "vector channel]"),
    ],
)  # fmt: skip
def test_the_form_is_guessed(code: Any, said: str) -> None:
    adapter, taken = guess(code, "mine")
    assert said in taken
    assert "adapter = forms." in taken
    offered = [name for name in ("field", "loss", "feature_loss") if adapter.offers(name)]
    assert len(offered) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (styles.class_loss, "needs the argument 'guidance'"),
        (styles.DriftingLoss, "cannot be built"),
        (leaking_loss, "nothing tells which negatives"),
        (drifting, "the second time"),
        (detached, "without a gradient"),
        (centred, "does not tell whether 'y_neg' should hold them"),
        (by_time, "needs the argument 't'"),
        (swapped, "without a gradient"),
        (of_a_tensor, "'float' object has no attribute 'item'"),
        (lambda a, b: (a - b).sum(), "needs the argument 'a'"),
        (lambda x, pos: x.sum(), "the same for other values of 'pos'"),
        (lambda x, pos: print(), "returned None"),
        (3, "is int, expected"),
    ],
)
def test_nothing_is_guessed_without_evidence(code: Any, said: str) -> None:
    with pytest.raises(GuessError, match=said):
        guess(code, "mine")


def of_two_meanings(x: Tensor, pos: Tensor) -> Tensor:
    """Sums over the first axis, whatever that is."""
    return (x.sum(dim=0).mean() - pos.sum(dim=0).mean()).square()


def test_of_two_forms_neither_is_taken() -> None:
    with pytest.raises(GuessError, match=r"fits several call forms; .*'sample channel'.* \| "):
        guess(of_two_meanings, "mine")


HEAD = "import torch\nfrom drifting_parity import forms\nfrom call_styles import *\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("def mine(x, pos, labels):\n    return x.sum()", "mine.py, line 4) needs the argument"),
        ("mine = forms.loss(flat_loss, layout='sample vector')", "lacks the axis channel"),
        ("mine = forms.loss(lambda x, pos: None)", "returned None"),
        ("mine = forms.loss(lambda x, pos: x.foo)", "mine.py, line 4: mine"),
        ("mine = forms.loss(lambda x, pos: torch.rand(()) * x.sum())", "the second time"),
        ("mine = {}", "is dict, expected an Adapter, a function, a class or a module"),
        ("import numpy as np\nmine = forms.loss(lambda generated, positive: 1.0, uses='numpy')",
         "NumPy arrays shows no gradient"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_said_in_a_sentence(
    lines: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "call_styles.py").write_text(Path(styles.__file__).read_text(encoding="utf-8"))
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}{lines}\n", encoding="utf-8")
    assert main(["report", "--quick", "--implementation", f"python:{file}:mine"]) == 3
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert told.err.count("\n") == 1
    assert not told.out


def test_the_report_says_as_what_it_was_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(Path(styles.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    target = f"python:{file}:compute_V"
    command = ["report", "--quick", "--clause", "ALG2-*", "--implementation", target]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "taken as a field x, y_pos, y_neg, T, mask_self" in told.err
    assert "adapter = forms.field(compute_V, negatives='generated first')" in told.err


# Other frameworks at the border.


class Border:
    """An array that shows itself by DLPack alone."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def numpy_field(x: Any, y_pos: Any, y_neg: Any, T: float, mask_self: bool) -> Any:
    tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in (x, y_pos, y_neg))
    return Border(styles.compute_V(*tensors, T, mask_self).numpy())


def test_arrays_pass_the_border_by_dlpack() -> None:
    adapter = forms.field(numpy_field, uses="numpy")
    adapter.smoke()
    for case in CASES["pseudo-code"]:
        same(adapter, case, Setting(strided=True))


def test_a_loss_of_jax_has_its_gradient_by_jax() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed: no dependency of this project")
    jnp = jax.numpy

    def loss(gen: Any, pos: Any, taus: Any) -> Any:
        """A distance, in place of the drifting loss: what counts is how it is differentiated."""
        distance = jnp.abs(gen[:, :, None] - jax.lax.stop_gradient(pos)[:, None]).sum(-1)
        return sum(jnp.tanh(distance * tau).mean((1, 2)) for tau in taus)

    def twin(gen: Tensor, pos: Tensor, taus: Any) -> Tensor:
        distance = (gen[:, :, None] - pos.detach()[:, None]).abs().sum(-1)
        return sum(((distance * tau).tanh().mean((1, 2)) for tau in taus), torch.zeros(()))

    options = {"layout": "(label vector) sample channel"}
    for setting in (Setting(), Setting(upstream=-2.0), Setting("float32")):
        one, two = (
            forms.loss(code, uses=kind, **options).loss(loss_case(2, 3), PAPER, setting)
            for code, kind in ((loss, "jax"), (twin, "torch"))
        )
        allowed = 1e-10 if setting.dtype == "float64" else 1e-5
        assert one.loss == pytest.approx(two.loss, rel=allowed)
        np.testing.assert_allclose(one.gradient, two.gradient, rtol=allowed, atol=allowed)
        assert one.other_gradients == {"positive": 0.0}


# Whole steps.


def whole_step(model: Any, encoder: Any, z: Tensor, labels: Tensor, alpha: Tensor, pos: Tensor,
               unc: Tensor | None, opt: Any, max_norm: float = 1e9) -> dict[str, Any]:  # fmt: skip
    """A step by the loss of this project: what is tried is the form."""
    out = drifting_torch.grouped_drift_training_step(
        model, z, labels, alpha, pos, unc, optimizer=opt, encoder=encoder,
        config=drifting_torch.GroupedDriftStepConfig(
            drifting_torch.FeatureDriftingConfig(
                vectorization=drifting_torch.FeatureVectorizationConfig(
                    include_global_stats=False, include_patch2_stats=False,
                    include_patch4_stats=False, include_input_x2_mean=False,
                )
            ),
            gradient_clip=max_norm,
        ),
    )  # fmt: skip
    return {"loss": out.loss, "feature_loss": out.feature_loss, "raw": out.raw_loss,
            "gradient_norm": out.gradient_norm}  # fmt: skip


def test_a_whole_step_through_its_form() -> None:
    adapter = forms.step(whole_step, returns={"raw_loss": "raw"})
    adapter.smoke()
    builtin = DriftingTorchAdapter()
    for case in (
        grouped_step.made("guided", 1, guided=True),
        grouped_step.made("clipped", 2, guided=False, clip=2.0),
    ):
        got, wanted = (it.training_step(case, PAPER, Setting()) for it in (adapter, builtin))
        assert got.loss == wanted.loss
        assert got.raw_loss == wanted.raw_loss
        for name, update in wanted.updates.items():
            np.testing.assert_array_equal(got.updates[name], update)
            np.testing.assert_array_equal(got.seen["alpha"], wanted.seen["alpha"])
    parts = grouped_step.made("parts", 3, guided=True, parts=3)
    with pytest.raises(NotObservable, match="takes no parts"):
        adapter.training_step(parts, PAPER, Setting())


def still(model: Any, encoder: Any, noise: Any, labels: Any, alpha: Any, pos: Any, optimizer: Any
          ) -> dict[str, float]:  # fmt: skip
    model(noise.flatten(0, 1), labels.repeat_interleave(3), alpha.repeat_interleave(3))
    return {"loss": 1.0, "feature_loss": 1.0, "raw_loss": 0.0, "gradient_norm": 1.0}


def test_a_step_that_is_none() -> None:
    with pytest.raises(FormError, match="did not update the model"):
        forms.step(still).smoke()
    with pytest.raises(FormError, match="none of them is known to be noise"):
        forms.step(lambda model, encoder, labels, alpha, pos, optimizer: None)
    with pytest.raises(FormError, match="encoder is 'maps'"):
        forms.step(whole_step, encoder="maps")
    with pytest.raises(NotObservable, match="does not tell its raw_loss"):
        forms.step(whole_step).training_step(
            grouped_step.made("guided", 1, guided=True), PAPER, Setting()
        )


def test_the_framework_is_that_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a file only hands on what another one has."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "handing_on.py").write_text(
        "import call_styles\n\n\ndef loss(gen, pos):\n    return call_styles.flat_loss(gen, pos)\n"
    )
    (tmp_path / "by_name.py").write_text(
        "from call_styles import flat_loss\n\n\ndef loss(gen, pos):\n"
        "    return flat_loss(gen, pos)\n"
    )
    (tmp_path / "on_numpy.py").write_text(
        "import numpy\n\n\ndef loss(gen, pos):\n    return numpy.mean(gen - pos)\n"
    )
    for name, kind in (("handing_on", "torch"), ("by_name", "torch"), ("on_numpy", "numpy")):
        module = importlib.import_module(name)
        assert framework(None, module.loss).name == kind
    assert framework(None, functools.partial(styles.flat_loss)).name == "torch"
    assert framework(None, styles.DriftingLoss((0.2,))).name == "torch"


def test_the_forms_are_there_without_torch() -> None:
    code = "import sys; from drifting_parity.forms import guess; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def _plainly(x: Any, taus: Any) -> Any:
    return sum((x**2).mean() / tau for tau in taus)


def _by_type(x: Any, taus: Any) -> Any:
    return (x**2).mean() * (sum(taus) if isinstance(taus[0], float) else 7.0)


def _by_value(x: Any, taus: Any) -> Any:
    return (x**2).mean() * {0.1: 2.0, 0.3: 3.0}.get(taus[0], 4.0)


@pytest.mark.parametrize(("code", "compiled"), [(_plainly, 2), (_by_type, 3), (_by_value, 3)])
def test_code_of_jax_is_compiled_with_temperatures_free_only_where_that_changes_nothing(
    code: Any, compiled: int
) -> None:
    """Beside what is asked for, once with all known to compare; else for each value anew."""
    jax = pytest.importorskip("jax", reason="jax is not installed: no dependency of this project")
    arrays, traced = JaxArrays(), list[Any]()
    x = jax.numpy.asarray([1.0, 2.0])

    def ask(taus: tuple[float, ...]) -> float:
        def run(given: list[Any], others: Any = None) -> Any:
            traced.append(others)
            return code(given[0], taus if others is None else others)

        setting = SimpleNamespace(autocast=None)
        value, (slope,) = arrays.gradients(run, [x], setting, 1.0, "key", taus)
        assert slope == pytest.approx(float(value) / 2.5 * np.array([1.0, 2.0]))
        return float(value)

    for taus in ((0.1, 0.2), (0.3, 0.2), (0.1, 0.2)):
        assert ask(taus) == pytest.approx(float(code(np.array([1.0, 2.0]), taus)))
    assert len(traced) == compiled
