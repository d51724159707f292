"""What the explanation says of code whose readings and deviations are known: nothing false."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import drifting_parity
from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.drifting_torch_adapter import DriftingTorchAdapter
from drifting_parity.adapters.torch_adapter import TorchAdapter
from drifting_parity.cases import LossCase
from drifting_parity.cli import main
from drifting_parity.explanation.answers import TIGHT
from drifting_parity.explanation.confusion import (
    Held,
    Truth,
    combined_readings,
    outcome_of,
    single_readings,
)
from drifting_parity.explanation.data import Explanation
from drifting_parity.explanation.dials import Law, find_law, sizes_of
from drifting_parity.explanation.fingerprint import fingerprint
from drifting_parity.explanation.hypothesis import Hypothesis, Use
from drifting_parity.explanation.matrix import NO_KERNEL, read, weights_of
from drifting_parity.explanation.model import Model
from drifting_parity.explanation.other_losses import OtherLoss, matched_means, nothing
from drifting_parity.explanation.probes import field_probes, loss_case, loss_probes
from drifting_parity.explanation.search import Search, nice
from drifting_parity.explanation.stages import options, searched, stage_of
from drifting_parity.explanation.statements import Alternatives, reading_statements
from drifting_parity.explanation.subject import Subject
from drifting_parity.explanation.vectors import vector_probes
from drifting_parity.explanation.wording import WIDTH, first_screen, several
from drifting_parity.suspects import ALL, SuspectAdapter, Textbook, compose
from drifting_spec import AXES, FEATURE_AXES, PAPER, RELEASE, Readings, parse_readings


def keys(explanation: Explanation) -> set[str]:
    return {item.key for item in explanation.deviations}


def of_book(book: Textbook, **changes: Any) -> TorchAdapter:
    """A loss function of a textbook, as someone else might have written it."""

    def loss(
        generated: Tensor,
        positive: Tensor,
        unconditional: Tensor | None = None,
        unconditional_weight: Tensor | None = None,
        generated_weight: Tensor | None = None,
        positive_weight: Tensor | None = None,
        temperatures: tuple[float, ...] = (0.02, 0.05, 0.2),
    ) -> Tensor:
        given = (generated, positive, unconditional, unconditional_weight, generated_weight,
                 positive_weight)  # fmt: skip
        if "cast" in changes:
            given = tuple(None if item is None else item.to(changes["cast"]) for item in given)
        return book.loss(*given, temperatures=temperatures)  # pyright: ignore[reportArgumentType]

    return TorchAdapter("theirs", loss)


# Our own code, and the form of what is said.


@pytest.fixture(scope="module")
def own() -> Explanation:
    return fingerprint(DriftingTorchAdapter())


def test_the_implementation_is_explained_by_what_it_is_asked_for(own: Explanation) -> None:
    assert own.explained
    assert own.taken == PAPER
    assert not own.deviations
    assert not own.dials
    assert not own.not_seen
    assert all(item.seen for item in own.readings)
    assert all(item.holds for item in own.range)
    assert own.confirmation.worst_gradient < 1e-12
    sizes = own.confirmation.largest_sizes
    assert sizes["P"] >= 128
    assert sizes["C"] >= 4096
    assert sizes["V"] > 64
    assert sizes["L"] > 4
    assert sizes["T"] > 3
    assert sizes["N"] + sizes["P"] + sizes["U"] > 1000
    assert first_screen(own)[0].endswith("computes what the readings asked for say")


def test_the_json_has_the_schema(own: Explanation) -> None:
    data = json.loads(json.dumps(own.as_json(), allow_nan=False))
    assert list(data) == [
        "schema", "implementation", "explained", "dtype", "readings", "deviations", "dials",
        "unexplained", "range", "confirmation", "not_seen", "notes",
    ]  # fmt: skip
    assert data["schema"] == 2
    assert [item["axis"] for item in data["readings"]] == list(AXES)
    assert set(data["readings"][0]) == {"axis", "reading", "seen", "alike", "evidence", "effect"}
    assert set(data["range"][0]) == {"probe", "holds"}
    assert set(data["confirmation"]) == {
        "cases", "worst_value", "worst_gradient", "largest_sizes",
    }  # fmt: skip


def test_deviations_dials_and_what_is_open_have_the_schema() -> None:
    data = fingerprint(SuspectAdapter(ALL["D26"])).as_json()
    assert set(data["deviations"][0]) == {
        "id", "key", "title", "stage", "clauses", "parameters", "alike", "effect", "mend",
    }  # fmt: skip
    odd = fingerprint(of_book(MedianScale())).as_json()
    assert set(odd["dials"][0]) == {"name", "stage", "value", "law"}
    assert set(odd["unexplained"][0]) == {"stage", "probe", "size"}
    assert not odd["explained"]


def test_it_is_offered_at_the_top() -> None:
    assert drifting_parity.fingerprint is fingerprint
    assert drifting_parity.Explanation is Explanation


# Readings.

READINGS = [
    "paper,kernel_normalization=separate,softmax_axes=y",
    "paper,softmax_axes=none",
    "paper,affinity_floor=1e-12",
    "paper,unconditional_weight=log_in_softmaxes,scale_samples=negatives",
    "paper,temperature_scaling=raw,channel_reduction=sum",
    "paper,temperature_aggregation=per_temperature_mse_mean,label_reduction=sum",
    "paper,statistics_scope=label,location_sharing=none,floors=seed",
    "release",
]


@pytest.mark.parametrize("text", READINGS)
def test_readings_are_named(text: str) -> None:
    truth = Truth(parse_readings(text))
    outcome = outcome_of(truth, fingerprint(Held(truth.readings)))
    assert outcome == ("named", "")


def test_an_axis_that_does_not_show_keeps_the_reading_asked_for() -> None:
    asked = parse_readings("release,unconditional_weight=log_in_softmaxes")

    class Plain(Held):
        def loss(self, case: LossCase, *rest: Any) -> Any:
            if case.unconditional is not None or case.generated.shape[0] > 1:
                raise NotObservable("one label, no unconditional samples")
            return super().loss(case, *rest)

        def field(self, *_: Any) -> Any:
            raise NotObservable("no field")

        feature_loss = vectorize = encoder_maps = field

    explanation = fingerprint(Plain(PAPER), asked)
    unseen = {item.axis for item in explanation.readings if not item.seen}
    assert {"unconditional_weight", "statistics_scope", "label_reduction", "taps"} <= unseen
    assert explanation.explained
    assert explanation.taken.unconditional_weight == "log_in_softmaxes"
    assert explanation.taken.taps == "release"
    assert explanation.taken.affinity_floor == "none"


def test_the_table_of_readings_is_whole() -> None:
    shown = [axis for axis in AXES if axis not in FEATURE_AXES]
    assert len(single_readings()) == sum(len(AXES[axis]) - 1 for axis in shown) >= 24
    assert len(combined_readings(2)) >= 223


# Suspects.

SUSPECTS: Mapping[str, tuple[str, Readings]] = {
    "no self-mask": ("D09", PAPER),
    "no √C and λ once": ("D23:tau-c+D26", PAPER),
    "printed code run literally, under the release": ("D15", RELEASE),
    "Huber": ("D60:huber", PAPER),
    "an epsilon of its own size": ("D16:under-root", PAPER),
    "nothing detached": ("D61:target", PAPER),
    "switch and S of all pairs": ("D55:switch+D33", PAPER),
    "cosine and squared": ("D21:cosine+D29:length", PAPER),
    "flattened": ("D41:flattened", PAPER),
    "mask in logits": ("D07", PAPER),
    "square mask": ("D03", PAPER),
    "a squared distance, under the release": ("D19:kernel", RELEASE),
    "a gradient through negatives, standardized, city blocks": (
        "D61:negatives+D38+D21:l1", PAPER,
    ),
    "nothing detached, expanded squares": ("D18:always+D61:target", PAPER),
}  # fmt: skip


@pytest.mark.parametrize("name", SUSPECTS)
def test_suspects_are_named(name: str) -> None:
    text, readings = SUSPECTS[name]
    suspects = tuple(ALL[key] for key in text.split("+"))
    if name == "an epsilon of its own size":
        suspects = (suspects[0].at(added_under_root=3.7e-9),)
    truth = Truth(readings, suspects)
    explanation = fingerprint(truth.adapter())
    assert outcome_of(truth, explanation) == ("named", "")
    if name == "an epsilon of its own size":
        (item,) = explanation.deviations
        assert item.parameters["added_under_root"] == pytest.approx(3.7e-9, rel=1e-3)
    assert all(len(line) <= WIDTH for line in first_screen(explanation))


def test_what_multiplies_to_the_same_is_listed_together() -> None:
    truth = Truth(parse_readings("paper,channel_reduction=sum"), (ALL["D28:norm"],))
    explanation = fingerprint(truth.adapter())
    assert outcome_of(truth, explanation) == ("named", "")
    (item,) = explanation.deviations
    assert item.key == "D21:root-mean-square"
    assert "channel_reduction=sum with D28:norm" in item.alike


def test_three_factors_in_place_of_one_are_listed() -> None:
    factors = tuple(ALL[key] for key in ("D60:sum", "D71", "D22"))
    explanation = fingerprint(SuspectAdapter(*factors, readings=PAPER))
    (item,) = explanation.deviations
    assert item.key == "D28:divided-twice"
    three = {"channel_reduction=sum", "temperature_scaling=raw", "D71"}
    assert three in [set(text.split(" with ")) for text in item.alike]
    assert outcome_of(Truth(PAPER, factors), explanation) == ("named", "")


def test_two_factors_are_replaced_where_a_third_is_sure() -> None:
    keys = ("D28:divided-twice", "D29:length", "D71", "D69")
    readings = parse_readings("paper,kernel_normalization=separate,softmax_axes=y")
    truth = Truth(readings, tuple(ALL[key] for key in keys))
    explanation = fingerprint(truth.adapter())
    assert outcome_of(truth, explanation) == ("named", "")
    (item,) = (item for item in explanation.deviations if item.key == "D29:over-root-c")
    assert "D28:divided-twice with D29:length" in item.alike


def test_a_field_that_the_loss_explains_is_not_said_to_take_another_reading() -> None:
    # Alone it is the field of the self-mask asked for: the kernel of a distance of 10⁶ is 0.
    readings = parse_readings("paper,self_mask=add_1e6")
    truth = Truth(readings, tuple(ALL[key] for key in ("D17", "D66:clamped", "D10")))
    explanation = fingerprint(truth.adapter())
    assert outcome_of(truth, explanation) == ("named", "")
    assert not any("seen in" in item.parameters for item in explanation.deviations)


def test_a_reading_that_another_suspect_would_explain_is_not_the_only_one() -> None:
    # At T = 40 the kernel of a squared distance makes 0 of a mask of 100, squared distances do not.
    readings = parse_readings("paper,self_mask=add_100")
    probes = field_probes()
    subject = Subject(Truth(readings, (ALL["D19:kernel"],)).adapter(), PAPER)
    search = Search(subject, Model(), TIGHT["float64"], PAPER, probes)
    everywhere = Hypothesis(PAPER, (Use("D19:everywhere"),))
    assert search.fits(everywhere, probes)
    statement = reading_statements(Alternatives(search, everywhere, probes))["self_mask"]
    assert {"add_100", "add_1e6"} <= set(statement.alike)


def test_the_table_sees_what_is_not_named() -> None:
    said = fingerprint(DriftingTorchAdapter())
    assert outcome_of(Truth(PAPER, (ALL["D26"],)), said) == ("partly", "unnamed: D26")
    # A mask inferred from the count changes nothing beside one that is always there.
    alone = fingerprint(SuspectAdapter(ALL["D05:logit"]))
    assert outcome_of(Truth(PAPER, (ALL["D05:logit"], ALL["D02"])), alone) == ("named", "")
    outcome, text = outcome_of(Truth(PAPER), alone)
    assert outcome == "FALSE"
    assert text.startswith("D05:logit")


@pytest.mark.parametrize("function", [matched_means, nothing], ids=["means", "nothing"])
def test_of_a_loss_that_is_no_drifting_loss_nothing_is_named(function: Any) -> None:
    # Floors, epsilons and temperatures beyond all bounds come near to weights that are all alike.
    subject = OtherLoss(function)
    explanation = fingerprint(subject.adapter())
    assert outcome_of(subject, explanation) == ("named", "")
    assert explanation.unexplained[0].stage == "field"
    if function is matched_means:
        assert NO_KERNEL in {dial.law for dial in explanation.dials}


def test_the_table_takes_any_name_for_such_a_loss_for_false() -> None:
    said = fingerprint(SuspectAdapter(ALL["D09"]))
    outcome, text = outcome_of(OtherLoss(nothing), said)
    assert outcome == "FALSE"
    assert "D09" in text


def test_a_size_that_drowns_what_it_is_added_to_explains_nothing() -> None:
    # √(d² + 6e4) falls as d² does: what fits is a Gaussian kernel of another temperature.
    truth = Truth(PAPER, (ALL["D19:gaussian"], ALL["D34"], ALL["D71"]))
    outcome, _ = outcome_of(truth, fingerprint(truth.adapter()))
    assert outcome != "FALSE"


def test_many_names_are_counted() -> None:
    names = [f"D{index}" for index in range(10)]
    assert several(names[:6]) == "D0, D1, D2, D3, D4, D5"
    assert several(names) == "D0, D1, D2, D3, D4 and 5 more"


def test_a_wrong_loss_takes_nothing_from_a_right_field() -> None:
    class Mixed(SuspectAdapter):
        def field(self, case: Any, readings: Readings, setting: Any) -> Any:
            return compose(readings).observe_field(case, setting)

    explanation = fingerprint(Mixed(ALL["D28:norm"], readings=PAPER))
    assert keys(explanation) == {"D28:norm"}
    assert not any("seen in" in item.parameters for item in explanation.deviations)


# Dials.


class TemperatureOfSamples(Textbook):
    def field_of_feature(self, samples: Any, S: Any, distance: Any, temperature: Any) -> Any:
        return super().field_of_feature(samples, S, distance, temperature * samples.x.shape[2])


class LossOverChannels(Textbook):
    def loss(self, *args: Any, **rest: Any) -> Tensor:
        return 3 * super().loss(*args, **rest) / math.sqrt(args[0].shape[-1])


class PowerOfWeight(Textbook):
    def weights(self, samples: Any) -> Tensor:
        weight, first = super().weights(samples).clone(), samples.positives + samples.own
        weight[..., first:] = weight[..., first:] ** 0.7
        return weight


class FirstPositives(Textbook):
    def loss(self, generated: Tensor, positive: Tensor, *args: Any, **rest: Any) -> Tensor:
        return super().loss(generated, positive[:, :64], *args, **rest)


class MedianScale(Textbook):
    def mean_distance(self, samples: Any, distance: Tensor) -> Tensor:
        del samples
        return distance.flatten().median().reshape(1, 1)


class WeakColumns(Textbook):
    def combination(self, row: Tensor, column: Tensor) -> Tensor:
        return row.sqrt() * column**0.25


MEASURED = {
    # the code: name of the dial, its law, whether everything is explained
    TemperatureOfSamples: ("factor of the temperature", "N^1", True),
    LossOverChannels: ("factor of the gradient", "3 · C^-0.5", True),
    PowerOfWeight: ("exponent of w", "w acts as 1 · w^0.7", True),
    FirstPositives: ("positives used", "only the first 64 of 128 positives are used", True),
    MedianScale: ("factor of the temperature", "no law in the sizes", False),
    WeakColumns: ("exponent of the column softmax", "", False),
}


@pytest.mark.parametrize("book", MEASURED)
def test_a_dial_measures_what_no_suspect_explains(book: type[Textbook]) -> None:
    name, law, explained = MEASURED[book]
    explanation = fingerprint(of_book(book()))
    (dial,) = (item for item in explanation.dials if item.name == name)
    assert law in dial.law
    assert explanation.explained == explained
    assert not explanation.deviations
    assert explanation.taken == PAPER
    if book is WeakColumns:
        assert dial.value == pytest.approx(0.25, abs=1e-4)
    if not explained:
        (left,) = explanation.unexplained
        assert left.stage in ("field", "scale")


def test_what_was_settled_before_stands() -> None:
    unmasked = type("Unmasked", (MedianScale, ALL["D09"].change), {})
    explanation = fingerprint(of_book(unmasked()))
    assert keys(explanation) == {"D09"}
    assert [item.stage for item in explanation.unexplained] == ["scale"]
    assert explanation.taken == PAPER


def test_a_law_is_found_only_where_all_factors_follow_it() -> None:
    shapes = ((4, 5), (16, 5), (4, 9), (7, 6))
    sizes = [sizes_of(1, n, n + 3, 1, c, 1, 3) for c, n in shapes]
    factors = [2 * item["C"] ** 0.5 / item["N-1"] for item in sizes]
    law = find_law(factors, sizes)
    assert law is not None
    assert law.factor == pytest.approx(2)
    assert law.powers == {"C": 0.5, "N-1": -1.0}
    assert find_law([1.0, 1.0, 1.0, 1.0], sizes) == Law(pytest.approx(1.0), {})
    factors[2] *= 1.001
    assert find_law(factors, sizes) is None
    assert find_law([math.nan, *factors[1:]], sizes) is None


# The weight matrix of one gradient.


def test_one_gradient_shows_the_weights() -> None:
    case = loss_case("weights", 5, (1, 6, 5, 0, 1, 24))
    answer = Model().compute(_paper(), case)
    weights = weights_of(case, answer)
    assert weights is not None
    assert weights.residual < 1e-12
    assert np.abs(np.diag(weights.negative)).max() < 1e-12
    np.testing.assert_allclose(weights.positive.sum(-1), weights.negative.sum(-1), rtol=1e-9)
    dials = {item.name: item.value for item in read(case, answer)}
    assert dials["exponent of the column softmax"] == pytest.approx(0.5, abs=1e-5)
    assert dials["exponent of the row softmax"] == pytest.approx(0.5, abs=1e-5)
    few = case.changed(generated=case.generated[..., :4], positive=case.positive[..., :4])
    assert weights_of(few, answer) is None


def _paper() -> Hypothesis:
    return Hypothesis(PAPER)


# Taking stock.


def test_float32_inside_is_held_to_float32() -> None:
    explanation = fingerprint(of_book(compose(PAPER, ALL["D09"]), cast=torch.float32))
    assert explanation.dtype == "float32"
    assert keys(explanation) == {"D09"}
    assert any("float32" in note for note in explanation.notes)


def test_random_or_forgetful_code_is_not_explained() -> None:
    count = 0

    def loss(generated: Tensor, positive: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return compose().loss(generated, positive) * (1 + 1e-3 * count)

    for adapter in (TorchAdapter("counts", loss), SuspectAdapter(ALL["D31:scale"])):
        explanation = fingerprint(adapter)
        assert not explanation.explained
        assert explanation.unexplained[0].stage == "state"
        assert not any(item.seen for item in explanation.readings)
        assert not explanation.deviations


def test_one_label_and_temperatures_of_its_own_are_asked_what_fits() -> None:
    book = compose(PAPER, ALL["D15"], ALL["D30"])

    def loss(generated: Tensor, positive: Tensor) -> Tensor:
        if generated.shape[0] > 1 or generated.shape[2] > 1:
            raise ValueError("one label, one vector")
        return book.loss(generated, positive)

    explanation = fingerprint(TorchAdapter("plain", loss))
    assert keys(explanation) == {"D15", "D30"}
    assert explanation.explained
    assert "takes no other temperatures than 0.02, 0.05, 0.2" in explanation.notes
    assert any("raises ValueError" in note for note in explanation.notes)


def test_one_weight_for_each_label_is_asked_what_fits() -> None:
    book = compose(PAPER, ALL["D55:switch"])

    def loss(
        generated: Tensor,
        positive: Tensor,
        unconditional: Tensor,
        unconditional_weight: Tensor,
        temperatures: tuple[float, ...],
    ) -> Tensor:
        if (unconditional_weight != unconditional_weight[:, :1]).any():
            raise NotObservable("one weight for each label")
        weight = unconditional_weight[:, 0]
        return book.loss(generated, positive, unconditional, weight, temperatures=temperatures)

    explanation = fingerprint(TorchAdapter("guided", loss))
    assert keys(explanation) == {"D55:switch"}
    assert "takes no case without unconditional samples" in explanation.notes


def test_what_shows_nothing_is_said_to_show_nothing() -> None:
    explanation = fingerprint(Adapter())
    assert not explanation.explained
    assert first_screen(explanation)[0].endswith("showed nothing that could be judged")
    assert len(explanation.not_seen) == len(AXES)


# Parts.


def test_probes_have_names_of_their_own() -> None:
    # A case may be looked at at two stages; answers are kept by the probe's name.
    by_name: dict[str, str] = {}
    for probe in (*loss_probes(), *field_probes()):
        identifier = probe.case.manifest.id
        assert by_name.setdefault(probe.name, identifier) == identifier
    names = [item.name for item in vector_probes()]
    assert len(set(names)) == len(names)


def test_every_suspect_that_computes_is_tried_at_a_stage() -> None:
    for item in searched():
        assert item.key in {option.name for option in options(stage_of(item))}


@pytest.mark.parametrize(
    ("value", "simple"), [(1.0000001e-8, 1e-8), (0.2500000003, 0.25), (3.71828e-7, 3.71828e-7)]
)
def test_sizes_are_simple_where_they_are_near(value: float, simple: float) -> None:
    assert nice(value) == simple


# The command.


def test_the_command_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    target = "python:drifting_parity.suspects.wrong:D26"
    assert main(["fingerprint", "--implementation", target]) == 1
    out = capsys.readouterr().out
    assert "D26  λ once, on the summed drift" in out
    assert "explained exactly on" in out


def test_the_command_writes_json(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "said.json"
    arguments = ["fingerprint", "--format", "json", "--output", str(path)]
    assert main([*arguments, "--implementation", "builtin:drifting_torch"]) == 0
    assert json.loads(path.read_text())["explained"] is True
    assert capsys.readouterr().err.splitlines()[0].endswith("say")


def test_readings_that_there_are_not_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fingerprint", "--readings", "papre"]) == 2
    assert "papre" in capsys.readouterr().err


def test_a_wrong_weight_is_told_as_the_guidance_that_it_amounts_to() -> None:
    # w is ignored: the 16 unconditional samples count 1 each, α − 1 = 16/63.
    (ignored,) = fingerprint(SuspectAdapter(ALL["D55:unweighted"])).deviations
    assert ignored.effect.endswith("α = 4 acts as 1.25")
    # log w inside both softmaxes acts as √w where the normalisers are large: 1 + 16·√(189/16)/63.
    explanation = fingerprint(SuspectAdapter(ALL["D52"]))
    (entry,) = (item for item in explanation.readings if item.axis == "unconditional_weight")
    assert "α = 4 acts most like 1.8" in entry.effect


def test_what_matters_most_comes_first() -> None:
    explanation = fingerprint(SuspectAdapter(ALL["D09"], ALL["D71"]))
    assert [item.id for item in explanation.deviations] == ["D71", "D09"]


def test_one_factor_of_two_catalogued_ones_is_named_as_these() -> None:
    raw = PAPER.with_reading("temperature_scaling", "raw")
    explanation = fingerprint(SuspectAdapter(ALL["D71"], readings=raw))
    assert explanation.taken == raw
    assert keys(explanation) == {"D71"}


@pytest.mark.parametrize("size", [1e-6, 1e-12])
def test_an_epsilon_in_the_root_of_distances_is_named_with_its_size(size: float) -> None:
    suspect = ALL["D66:distance-under-root"].at(added_to_squared_distance=size)
    explanation = fingerprint(SuspectAdapter(suspect))
    (item,) = explanation.deviations
    assert item.key == suspect.key
    assert item.parameters["added_to_squared_distance"] == pytest.approx(size, rel=1e-3)
