"""The spec's integrity: every clause of the paper is there, well-formed, and its numbers hold."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from math import sqrt

import pytest

from drifting_spec import AXES, Readings
from drifting_spec.registry import Deviation, UnknownIdError, load, preset_readings

SPEC = load()
CLAUSES = {
    *(f"EQ-{number}" for number in range(1, 48)),
    *("EQ-A2", "EQ-A3enc", "EQ-A3dec", "EQ-A6tau", "EQ-A7q", "EQ-A7gamma", "EQ-A7alpha"),
    *(f"ALG1-{line}" for line in range(1, 7)),
    *(f"ALG2-{line}" for line in range(1, 11)),
    *("S3-sg", "S3-neg-reuse", "S3-feature-train-only", "S3-latent-phi-pixel", "S3-pos-class"),
    *("S4-tokenizer", "S4-arch", "S4-cfg-cond", "S4-batch", "S4-epoch", "S4-multiscale"),
    *("S4-pixel", "A2-io", "A2-tokens", "A2-blocks", "A2-cond", "A2-incontext", "A2-style"),
    *("A2-style-random", "A2-unpatch", "A2-params", "A2-flops"),
    *("A3-enc-in", "A3-stem", "A3-stages", "A3-norm", "A3-width", "A3-dec-bridge", "A3-dec-up"),
    *("A3-dec-head", "A3-mask", "A3-loss", "A3-optim", "A3-aug", "A3-epochs", "A3-cls"),
    *("A3-cls-lambda", "A3-enc-only", "A4-moco", "A4-simclr", "A4-convnext"),
    *("A5-taps", "A5-a", "A5-b", "A5-c", "A5-d", "A5-count", "A5-total"),
    *("A5-x2", "A5-vanilla", "A5-sum", "A5-identities"),
    *("A6-S", "A6-tau", "A6-taus", "A6-lambda", "A6-order", "A6-mse"),
    *("A6-sum-features", "A6-locshare", "A7-unc", "A7-w", "A7-weight-in-scale"),
    *("A7-selfmask-count", "A7-alpha-cond", "A7-alpha-dist", "A7-1nfe"),
    *("A8-queue-128", "A8-global-1000", "A8-push-64", "A8-noreplace", "A8-class", "A8-refresh"),
    *(f"A9-{step}" for step in range(1, 8)),
    *("T8-arch", "T8-input", "T8-patch", "T8-hidden", "T8-depth", "T8-register", "T8-style"),
    *("T8-enc", "T8-ssl", "T8-enc-in", "T8-convstride", "T8-width", "T8-block", "T8-blocks"),
    *("T8-sizes", "T8-mask", "T8-mae-ep", "T8-clsft", "T8-opt", "T8-lr", "T8-wd", "T8-warmup"),
    *("T8-clip", "T8-steps", "T8-epochs", "T8-ema", "T8-Nc", "T8-Npos", "T8-Nneg", "T8-B"),
    *("T8-tau", "T8-alpha-range", "T8-alpha-p", "T8-Nunc", "T8-infer-alpha"),
    *("T1", "T2", "T3", "T4", "T5", "T6", "T7", "T9", "T10", "T11", "T-A2", "T-A5", "T-A6"),
    *("F5", "F7", "F11"),
}
# Transcribed from the design: each axis with its readings, and what each preset takes.
READINGS = """
kernel_normalization: joint separate
softmax_axes: xy y none
softmax_combination: sqrt product
self_mask: exclude add_1e6 add_100
affinity_floor: none 1e-6 1e-12
unconditional_weight: replication after_softmaxes log_in_softmaxes
scale_self_pairs: with without
scale_samples: all positives negatives
statistics_scope: batch label
location_sharing: same_location_pairs all_pairs none
statistics_grouping: by_statistic mean_with_std
floors: none release seed
temperature_scaling: sqrt_channels raw
temperature_aggregation: sum_drifts_then_mse per_temperature_mse per_temperature_mse_mean
location_reduction: sum mean
label_reduction: mean sum
channel_reduction: mean sum
vanilla_term: normalized raw
taps: union coincident_twice network_output release
x2_statistic: mean_square rms
x2_input: image patchified
std: population unbiased population_eps
patch_remainder: error skip crop
"""
TAKEN = """
kernel_normalization: joint joint joint
softmax_axes: xy xy xy
softmax_combination: sqrt sqrt sqrt
self_mask: exclude add_100 add_1e6
affinity_floor: none 1e-6 1e-12
unconditional_weight: replication after_softmaxes log_in_softmaxes
scale_self_pairs: with with with
scale_samples: all all all
statistics_scope: batch batch label
location_sharing: same_location_pairs same_location_pairs same_location_pairs
statistics_grouping: by_statistic by_statistic mean_with_std
floors: none release seed
temperature_scaling: sqrt_channels sqrt_channels sqrt_channels
temperature_aggregation: sum_drifts_then_mse sum_drifts_then_mse per_temperature_mse
location_reduction: sum mean sum
label_reduction: mean mean mean
channel_reduction: mean mean mean
vanilla_term: normalized normalized raw
taps: union release union
x2_statistic: mean_square rms mean_square
x2_input: image patchified image
std: population population_eps population
patch_remainder: error skip crop
"""
EXECUTABLE_BESIDE_THE_LOSS = {
    *(f"EQ-{number}" for number in range(28, 48)),
    *("S4-batch", "S4-epoch", "A2-tokens", "A3-mask", "A3-epochs", "A3-cls-lambda"),
    *("A8-refresh", "T8-arch", "T8-input", "T8-patch", "T8-register"),
    *("T8-enc-in", "T8-convstride", "T8-blocks", "T8-sizes", "T8-mae-ep", "T8-steps"),
    *("T8-epochs", "T8-ema", "T8-B", "T8-alpha-range", "T8-alpha-p", "T8-Nunc"),
}
"""Clauses about the paper itself: computed with the reference alone."""
OF_THE_ENCODER = {
    *("A3-enc-in", "A3-stem", "A3-stages", "A3-norm", "A3-width", "A3-dec-bridge", "A3-dec-up"),
    *("A3-dec-head", "A3-loss", "A3-enc-only"),
}
OF_THE_GENERATOR = {
    *("S4-arch", "S4-cfg-cond", "S4-pixel", "EQ-A2", "A2-io", "A2-blocks", "A2-cond"),
    *("A2-incontext", "A2-style", "A2-style-random", "A2-unpatch", "A2-params", "A2-flops"),
}
OF_TRAINING = {
    *("S3-pos-class", "A7-unc", "A7-alpha-cond", "A7-alpha-dist"),
    *("A8-queue-128", "A8-global-1000", "A8-push-64", "A8-noreplace", "A8-class"),
    *(f"A9-{step}" for step in range(2, 8)),
}
OF_THE_LOSS = re.compile(r"EQ-|ALG|S3-(sg|neg)|A5-|A6-|A7-(w|selfmask)")


def rows(text: str) -> dict[str, tuple[str, ...]]:
    lines = [line.partition(": ") for line in text.strip().splitlines()]
    return {axis: tuple(values.split()) for axis, _, values in lines}


def test_axes_and_presets_are_those_of_the_design():
    assert rows(READINGS) == AXES
    assert list(AXES) == [field.name for field in fields(Readings)]
    for axis, taken in rows(TAKEN).items():
        expected = dict(zip(("paper", "release", "seed"), taken, strict=True))
        assert preset_readings(axis) == expected, axis


def test_clauses_are_exactly_those_asked_for():
    assert set(SPEC.clauses) == CLAUSES


def test_other_tables_are_complete():
    assert list(SPEC.axes) == list(AXES)
    expected = {f"P-{n:02}" for n in range(1, 54)} | {f"R-{n:02}" for n in range(1, 25)}
    assert set(SPEC.deltas) == expected | {f"J-{n:02}" for n in range(1, 32)}
    kinds = {"P": "paper", "R": "seed", "J": "release"}
    assert all(delta.kind == kinds[delta.id[0]] for delta in SPEC.deltas.values())
    assert len(SPEC.deviations) == 64
    assert {d.id for d in SPEC.deviations.values() if not d.black_box} == {"D47", "D57", "D62"}


@pytest.mark.parametrize("deviation", SPEC.deviations.values(), ids=lambda item: item.id)
def test_deviation_is_complete(deviation: Deviation):
    sentences = (deviation.exposed_by, deviation.mend)
    assert all(text.endswith(".") for text in sentences)
    assert deviation.looks_like
    assert deviation.title
    assert deviation.clauses or deviation.stage in {"training", "call"}


def test_which_clauses_are_executable():
    about_the_paper = {c.id for c in SPEC.clauses.values() if c.subject == "paper" and c.executable}
    assert about_the_paper == EXECUTABLE_BESIDE_THE_LOSS
    of_the_loss = {identifier for identifier in CLAUSES if OF_THE_LOSS.match(identifier)}
    without = {"EQ-1", "ALG1-1"}
    executable = {c.id for c in SPEC.clauses.values() if c.executable}
    of_modules = OF_THE_ENCODER | OF_THE_GENERATOR | OF_TRAINING
    assert executable == EXECUTABLE_BESIDE_THE_LOSS | of_modules | (of_the_loss - without)


def test_counts_by_kind():
    counts = Counter(clause.kind for clause in SPEC.clauses.values())
    wanted = {"equation": 54, "algorithm": 23, "requirement": 73, "table": 35, "result": 16}
    assert counts == wanted
    assert sum(bool(clause.formula) for clause in SPEC.clauses.values()) == 187
    numbered = [c for c in SPEC.clauses.values() if re.fullmatch(r"EQ-\d+", c.id)]
    assert (len(numbered), sum(c.executable for c in numbered)) == (47, 46)


@pytest.mark.parametrize("identifier", list(SPEC.deltas))
def test_delta_is_complete(identifier: str):
    delta = SPEC.deltas[identifier]
    assert all(place.where and place.says.endswith((".", ")")) for place in delta.places)
    assert len(delta.readings) >= 1
    assert all(note.reading and note.meaning.endswith(".") for note in delta.readings)
    taken = (delta.takes.paper, delta.takes.release, delta.takes.seed)
    assert all(text.endswith(".") for text in taken)
    assert delta.effect.endswith(".")
    assert bool(delta.witness) != bool(delta.undecidable)


def test_witnesses_belong_to_their_deltas():
    forth = {(delta.id, name) for delta in SPEC.deltas.values() for name in delta.witness}
    assert forth == {(witness.delta, witness.id) for witness in SPEC.witnesses.values()}


def test_misprints_are_those_of_the_scan():
    assert set(SPEC.misprints) == {f"O-{number:02}" for number in range(1, 13)}


def test_every_table_of_results_has_numbers_and_the_other_way_round():
    tables = {clause.id for clause in SPEC.clauses.values() if clause.kind == "result"}
    assert {result.table for result in SPEC.results} == tables
    counts = Counter((r.table, r.configuration, r.metric) for r in SPEC.results)
    assert max(counts.values()) == 1
    assert not any(SPEC.clauses[table].executable for table in tables)


def test_results_agree_where_tables_repeat_them():
    found = {(r.table, r.configuration): r.value for r in SPEC.results if r.metric == "FID"}
    default = [value for (_, name), value in found.items() if value == 8.46]
    assert len(default) == 9
    assert found["T4", "B/2, 100 epochs"] == min(v for (t, _), v in found.items() if t == "T3")
    for table, model, other in (
        ("T4", "L/2, 1280 epochs", "Drifting Model L/2, 463M+49M, 1 call"),
        ("T4", "B/2, 1280 epochs, other hyper-parameters", "Drifting Model B/2, 133M+49M, 1 call"),
        ("T10", "L/16, 640 epochs", "Drifting Model L/16, 464M, 1 call"),
        ("T10", "B/16, 640 epochs", "Drifting Model B/16, 134M, 1 call"),
    ):
        system = "T5" if table == "T4" else "T6"
        assert found[table, model] == found[system, other]


def test_robotics_counts():
    rates = [result.value for result in SPEC.results if result.table == "T7"]
    pairs = list(zip(rates[::2], rates[1::2], strict=True))
    higher, lower = sum(b > a for a, b in pairs), sum(b < a for a, b in pairs)
    assert (len(pairs), higher, len(pairs) - higher - lower, lower) == (14, 7, 3, 4)
    assert "higher in 7, equal in 3 and lower in 4" in SPEC.clauses["T7"].statement


def test_clauses_stand_in_the_order_of_the_sections():
    order = [list(SPEC.sections).index(clause.section) for clause in SPEC.clauses.values()]
    assert order == sorted(order)
    assert {clause.section for clause in SPEC.clauses.values()} == set(SPEC.sections)


@pytest.mark.parametrize("identifier", sorted(CLAUSES))
def test_clause_is_readable(identifier: str):
    clause = SPEC.clauses[identifier]
    assert clause.statement.endswith(".")
    assert len(clause.statement) > 40
    assert clause.formula or clause.kind == "result", "a formula or a line of code"
    assert all(len(line) <= 90 for line in clause.formula.splitlines())
    assert clause.kind == ("equation" if clause.id.startswith("EQ") else clause.kind)
    assert clause.id not in clause.depends_on


def test_dependencies_have_no_cycle():
    done: set[str] = set()

    def visit(identifier: str, path: tuple[str, ...]) -> None:
        assert identifier not in path, f"cycle: {' → '.join((*path, identifier))}"
        if identifier not in done:
            for other in SPEC.clauses[identifier].depends_on:
                visit(other, (*path, identifier))
            done.add(identifier)

    for identifier in SPEC.clauses:
        visit(identifier, ())


def test_clauses_and_what_touches_them_name_each_other():
    forth = {(c.id, other) for c in SPEC.clauses.values() for other in c.deltas}
    back = {(clause, e.id) for e in SPEC.deltas.values() for clause in e.clauses}
    assert forth == back
    assert SPEC.clauses["A6-S"].axes == ("scale_self_pairs", "scale_samples", "statistics_scope")


def test_ids_in_prose_exist():
    known = set(SPEC.ids())
    known |= set(SPEC.misprints)
    pattern = re.compile(r"\b(?:EQ-\w+|ALG[12]-\d+|[PRJO]-\d+|(?:A\d|S\d|T8)-\w[\w-]*)\b")
    tables = (SPEC.clauses, SPEC.axes, SPEC.deltas, SPEC.deviations, SPEC.tolerances)
    prose = " ".join(str(e) for table in tables for e in table.values())
    assert set(pattern.findall(prose)) <= known


def test_ids_are_unique_over_all_tables_whatever_their_case():
    counts = Counter(identifier.lower() for identifier in SPEC.ids())
    assert max(counts.values()) == 1


def test_paper_is_pinned():
    assert re.fullmatch(r"[0-9a-f]{64}", SPEC.paper.scan_sha256)
    assert SPEC.paper.scan_sha256.startswith("234cead3")
    assert SPEC.paper.arxiv == "2602.04770"
    assert SPEC.paper.url.endswith(SPEC.paper.arxiv)


def test_loading_is_done_once():
    assert load() is SPEC


def vectors(side: int) -> int:
    return side**2 + 2 + 2 * (side // 2) ** 2 + 2 * (side // 4) ** 2


def test_vector_counts():
    counts = {side: vectors(side) for side in (32, 16, 8, 4)}
    assert counts == {32: 1666, 16: 418, 8: 106, 4: 28}
    assert all(count == 1.625 * side**2 + 2 for side, count in counts.items())
    text = SPEC.clauses["A5-count"].formula
    assert all(f"n({side}) = {count}" in text for side, count in counts.items())


def test_vector_totals():
    blocks = {32: 3, 16: 4, 8: 6, 4: 3}
    even = {side: [k for k in range(1, n + 1) if k % 2 == 0] for side, n in blocks.items()}
    union = {side: len({*even[side], n}) for side, n in blocks.items()}
    twice = {side: len([*even[side], n]) for side, n in blocks.items()}
    network = {side: len({*even[side], *([n] if side == 4 else [])}) for side, n in blocks.items()}
    release = {side: len(even[side]) + 1 + (side == 32) for side in blocks}
    maps = [sum(taps.values()) for taps in (union, twice, network, release)]
    totals = [
        sum(vectors(side) * count for side, count in taps.items())
        for taps in (union, twice, network, release)
    ]
    assert maps == [9, 11, 8, 12]
    assert totals == [4542, 5066, 2876, 6732]
    text = SPEC.clauses["A5-total"].statement + SPEC.deltas["P-16"].effect
    assert all(str(total) in text for total in totals)


def test_guidance_weights():
    def weight(alpha: float, generated: int, unconditional: int) -> float:
        return (alpha - 1) * (generated - 1) / unconditional

    assert weight(2, 64, 16) == 3.9375
    assert weight(2, 64, 32) == 1.96875
    text = SPEC.clauses["A7-w"].formula
    assert "3.9375" in text
    assert "1.96875" in text


def test_self_pair_ratio():
    total = 64 + 64
    assert f"{(total - 1) / total:.4f}" == "0.9922"
    assert "0.9922" in SPEC.deltas["P-08"].effect
    assert "0.9922" in SPEC.axes["scale_self_pairs"].observable


def test_other_printed_numbers():
    assert f"{sqrt(4 / 3):.4f}" == "1.1547"
    assert "1.1547" in SPEC.axes["std"].observable
    assert [round(1 / tau) for tau in (0.02, 0.05, 0.2)] == [50, 20, 5]
    assert "−50, −20 and −5" in SPEC.clauses["EQ-22"].statement
    assert (32 * 32 * 4, 256 * 256 * 3, 8 * 8 * 3) == (4096, 196608, 192)
    assert "4096" in SPEC.clauses["A5-vanilla"].statement
    assert "196608" in SPEC.clauses["A5-vanilla"].statement
    steps_and_batches = ((30_000, 4096), (200_000, 8192), (100_000, 8192))
    epochs = [f"{steps * batch / 1281167:.1f}" for steps, batch in steps_and_batches]
    assert all(number in SPEC.deltas["P-44"].effect for number in epochs)


def test_guidance_under_log_weights():
    # √w, times √((N−1)/N): columns of generated samples have one row fewer (P-05, P-07).
    for alpha in (2, 4):
        for unconditional in (16, 32):
            weight = sqrt((alpha - 1) * 63 / unconditional) * sqrt(63 / 64)
            acting = 1 + weight * unconditional / 63
            assert f"{acting:.2f}" in SPEC.deltas["P-05"].effect
    assert f"{sqrt(63 / 64):.3f}" in SPEC.deltas["P-07"].effect
    assert f"{1 + sqrt(63 / 64):.3f}" in SPEC.deltas["P-07"].effect


REQUIRED = {
    **dict.fromkeys(["field.float64", "loss.float64", "gradient.float64"], 1e-10),
    **dict.fromkeys(["loss.float32", "gradient.float32"], 1e-5),
    **dict.fromkeys(["gradient_offset.float32", "gradient_coincident.float32"], 1e-4),
    **dict.fromkeys(["gradient.bfloat16", "field.bfloat16"], 4e-3),
    "gradient.float16": 1e-3,
    "vectors.float64": 1e-12,
    "count.exact": 0.0,
    "release_loss.float32": 5e-5,
    "release_gradient.float32": 3e-4,
    "release_loss.float64": 1e-9,
    "release_gradient.float64": 1e-9,
    "seed_loss.float64": 1e-9,
    "seed_gradient.float64": 1e-8,
    "seed_loss.float32": 5e-5,
    "seed_gradient.float32": 3e-4,
}


@pytest.mark.parametrize("identifier", sorted(REQUIRED))
def test_tolerance_is_as_required(identifier: str):
    quantity, dtype = identifier.split(".")
    assert SPEC.tolerance(quantity, dtype).rtol == REQUIRED[identifier]


def test_every_tolerance_is_derived_and_a_missing_floor_explained():
    for tolerance in SPEC.tolerances.values():
        assert 0 <= tolerance.rtol < 0.01
        assert 0 <= tolerance.atol <= 2e-6
        assert tolerance.derivation.endswith(".")
        if tolerance.atol == 0 and tolerance.dtype != "exact":
            assert "absolute floor" in tolerance.derivation, tolerance.id


def test_unknown_tolerance_names_the_known():
    with pytest.raises(UnknownIdError, match=r"no tolerance for 'field.int8'; known: .*field"):
        SPEC.tolerance("field", "int8")
