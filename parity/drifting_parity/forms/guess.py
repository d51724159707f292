"""Guessing the call form of code that nobody wrote an adapter for.

A guess rests on the names of the arguments and on how the code behaves on a small case whose
sizes all differ: that it answers, with the right shape and finite numbers, that a gradient reaches
the generated samples, and that each argument has the part that its name promises. What it computes
is never compared with the paper: wrong code is guessed as right code is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import numpy as np

from drifting_parity.forms.adapter import FormAdapter, adapted
from drifting_parity.forms.feature_form import FeatureForm
from drifting_parity.forms.field_form import FieldForm
from drifting_parity.forms.form import Form
from drifting_parity.forms.layout import FormError, NotTaken
from drifting_parity.forms.loss_form import LossForm
from drifting_parity.forms.options import plain_setting
from drifting_parity.forms.signature import place
from drifting_parity.plain import described

LAYOUTS: Final = (
    "sample channel",
    "sample channel 1 1",
    "sample vector channel",
    "label sample channel",
    "(label vector) sample channel",
    "label sample vector channel",
    "label vector sample channel",
)
"""Those that take less come first: code that runs with several is held to what it surely takes."""

NO_FIELD: Final = "a field takes a temperature"
FIELD_LAYOUTS: Final = ("sample channel", "label sample channel")


class GuessError(FormError):
    """No form fits, or several do."""


class UndecidedError(FormError):
    """The code runs so, and what one of its arguments stands for does not show."""


@dataclass(frozen=True)
class Fit:
    """A form that the code has, and how that was seen."""

    form: Form
    line: str


def guess(function: Any, name: str) -> tuple[FormAdapter, str]:
    """The adapter of the one form that fits, and what was inferred, with the line to paste.

    Raises :class:`GuessError` with the reasons where none fits, with the candidates where two do.
    """
    if not callable(function):
        raise GuessError(
            f"is {type(function).__name__}, expected an Adapter, a function, a class or a module: "
            "name one, or write an adapter"
        )
    fits, reasons = _fits(function, name)
    if not fits:
        raise GuessError(
            f"fits no call form that is known: {'; '.join(dict.fromkeys(reasons)) or 'none runs'}"
        )
    if len(fits) > 1:
        listed = " | ".join(item.line for item in fits)
        raise GuessError(f"fits several call forms; paste the right one into a file: {listed}")
    form = fits[0].form
    form.conduct()
    kind = {"field": "a field", "loss": "a loss of one feature", "feature_loss": "a loss of "
            "many features"}[form.method]  # fmt: skip
    arguments = ", ".join(form.signature.argument.values())
    told = f"taken as {kind} {arguments}{_particulars(form)}; in a file: {fits[0].line}"
    return adapted(form), told


def _particulars(form: Form) -> str:
    """What was inferred, in words."""
    said: list[str] = []
    layout = getattr(form, "layout", None)
    if layout is not None:
        said.append(f"samples: [{layout.text}]")
    negatives = getattr(form, "negatives", None)
    if negatives is not None:
        said.append(f"negatives: {negatives}")
    left = [
        name
        for name, item in form.signature.known.items()
        if name not in form.signature.argument.values() and item.default is not item.empty
    ]
    if left:
        said.append(f"left as they are: {', '.join(left)}")
    if isinstance(form, LossForm):
        missing = [axis for axis in ("label", "vector") if axis not in form.layout]
        if missing:
            said.append(
                f"one {' and one '.join(missing)} at a time (add loop={' '.join(missing)!r} if a "
                "caller loops over them)"
            )
    return "; " + "; ".join(said) if said else ""


def _fits(function: Any, name: str) -> tuple[list[Fit], list[str]]:
    """Forms that fit, the simplest of those that differ only in axes of size one."""
    fits: list[Fit] = []
    reasons: list[str] = []
    for family in (_as_fields, _as_losses, _as_features):
        for make in family(function):
            try:
                form = make()
                form.smoke()
                _roles_tell(form)
            except (FormError, NotTaken) as problem:
                reasons.append(str(problem))
                # What another layout seems to show of such code would be chance.
                if isinstance(problem, UndecidedError) or "the second time" in str(problem):
                    raise GuessError(str(problem)) from None
                continue
            except Exception as problem:
                reasons.append(f"{place(function)} raised {described(problem)}")
                continue
            if not any(_alike(form, item.form) for item in fits):
                fits.append(Fit(form, form.line(name)))
    return fits, _telling(reasons)


def _telling(reasons: list[str]) -> list[str]:
    """Reasons that an owner can act on: of a form that knew every argument, if there is one."""
    reasons = [reason for reason in reasons if reason != NO_FIELD]
    unnamed = ("needs the argument", "none of them is known to be")
    called = [reason for reason in reasons if not any(words in reason for words in unnamed)]
    return called[:3] or reasons[:1]


def _alike(one: Form, two: Form) -> bool:
    """Whether two forms answer the same on a case that both take."""
    if one.method != two.method:
        return False
    try:
        answers = [_common(form, [one, two]) for form in (one, two)]
    except (FormError, NotTaken):
        return False
    size = float(np.linalg.norm(answers[0])) or 1.0
    return float(np.linalg.norm(answers[0] - answers[1])) < 1e-5 * size


def _common(form: Form, forms: list[Form]) -> Any:
    """What a form answers on the largest small case that all of them take."""
    if isinstance(form, FieldForm):
        x, positive, _ = _own_channels()
        return _moved(form, x, positive)
    if isinstance(form, LossForm):
        layouts = [item.layout for item in forms if isinstance(item, LossForm)]
        wide = LossForm.sizes(
            labels=all("label" in layout for layout in layouts),
            vectors=all("vector" in layout for layout in layouts),
        )
        case = form.small(others=form.empty == "none at all", sizes=wide)
        return form.loss(case, plain_setting(form))["gradient"].ravel()
    raise NotTaken("features are not compared")


# The forms tried.


def _as_fields(function: Any) -> Iterator[Callable[[], Form]]:
    for layout in FIELD_LAYOUTS:

        def make(layout: str = layout) -> Form:
            form = FieldForm(function, layout=layout)
            form = _without_weights(form, FieldForm, function, layout)
            if not (form.takes("temperature") or form.takes("temperatures")):
                raise NotTaken(NO_FIELD)
            if form.takes(form.given):
                form.negatives = _negatives_of_field(form)
            return form

        yield make


_Weighed = TypeVar("_Weighed", FieldForm, LossForm)


def _without_weights(form: _Weighed, kind: type[_Weighed], function: Any, layout: str) -> _Weighed:
    """The form without its weights: what one means does not show from outside."""
    weights = [role for role in form.signature.argument if role.endswith("_weight")]
    for role in weights:
        if not form.signature.optional(role):
            argument = form.signature.argument[role]
            raise NotTaken(
                f"what the weight {argument!r} means does not show from outside: say "
                f"names={{{role!r}: {argument!r}}} and weight='w', 'alpha' or 'log w', "
                "weight_per='sample' or 'label'"
            )
    names = dict.fromkeys(weights)
    return kind(function, layout=layout, names=names) if weights else form


def _as_losses(function: Any) -> Iterator[Callable[[], Form]]:
    for layout in LAYOUTS:

        def make(layout: str = layout) -> Form:
            form = LossForm(function, layout=layout)
            form = _without_weights(form, LossForm, function, layout)
            if form.takes("negative"):
                form.negatives = _negatives_of_loss(form)
            return form

        yield make


def _as_features(function: Any) -> Iterator[Callable[[], Form]]:
    for features in ("dict", "list"):
        for layout in LAYOUTS[-2:]:
            yield lambda features=features, layout=layout: FeatureForm(
                function, features=features, layout=layout
            )


# The parts that arguments play.


def _own_channels() -> tuple[Any, Any, Any]:
    """Four generated samples, each with a channel that nothing else has; positives and others.

    They are nearer to one another than to the rest, so that at any temperature they weigh more.
    """
    x = np.zeros((4, 9))
    x[:, :4] = 0.7 * np.eye(4)
    random = np.random.default_rng(7)
    positive, others = (0.3 * random.normal(size=(count, 9)) for count in (5, 6))
    for samples, channel in ((positive, 4), (others, 5)):
        samples[:, :4] = 0.0
        samples[:, channel] += 2.0
    return x, positive, others


def _adds_own(form: FieldForm | LossForm, moves: Any, others: str) -> bool:
    """Whether every generated sample is driven from the others, none of which it was given.

    Raises :class:`UndecidedError` if some of them drive it and some draw it, or not all do either.
    """
    own = moves[:, :4][~np.eye(4, dtype=bool)] / (float(np.abs(moves).max()) or 1.0)
    if np.all(np.abs(own) < 1e-4):
        return False
    if np.all(own < -1e-4):
        return True
    raise UndecidedError(
        f"{form.place} is moved by other generated samples in a way that does not tell whether "
        f"{others!r} should hold them: say negatives='implicit', 'generated first' or 'real first'"
    )


def _order(form: FieldForm | LossForm, first: float, last: float) -> str:
    """Where the code looks for the generated samples, by what is left of each one's own pull."""
    size = max(first, last)
    # Equal where the order does not count: nothing is masked, or everything as it should be.
    if first < 1e-6 * size or abs(first - last) <= 1e-6 * size:
        return "generated first"
    if last < 1e-6 * size:
        return "real first"
    raise UndecidedError(
        f"{form.place} does not tell where among the negatives it looks for the generated "
        "samples: say negatives='generated first' or 'real first'"
    )


def _negatives_of_field(form: FieldForm) -> str:
    """Whether the code adds the generated samples itself; if not, where it looks for them."""
    x, positive, others = _own_channels()

    def asked(negative: Any, mask: bool) -> Any:
        inputs: dict[str, Any] = {
            "generated": form.pack(x), "positive": form.pack(positive),
            form.given: form.pack(negative),
        }  # fmt: skip
        form.add_temperature(inputs, 1.0)
        if form.takes("mask"):
            inputs["mask"] = mask
        facts = {**form.example(), "channels": 9}
        value, _ = form.ask(inputs, facts, plain_setting(form), None)
        if value.shape != inputs["generated"].shape:
            raise FormError(
                f"{form.place} returned the shape {value.shape} for generated samples "
                f"{inputs['generated'].shape}, expected one drift for each of them"
            )
        return form.layout.unpack(value, (1, 4, 1, 9))[0, :, 0]

    try:
        alone = asked(others, False)
    except FormError:
        raise
    except Exception:
        # Code that masks a square only does not take other negatives than the samples.
        return "generated first"
    if _adds_own(form, alone, form.signature.argument[form.given]):
        return "implicit"
    pulls = [
        float(np.abs(np.diag(asked(np.concatenate(parts), True)[:, :4])).max())
        for parts in ((x, others), (others, x))
    ]
    return _order(form, pulls[0], pulls[1])


def _negatives_of_loss(form: LossForm) -> str:
    """Whether the loss adds the generated samples to the negatives that it is given."""
    x, positive, others = _own_channels()
    repeats = (2 if "label" in form.layout else 1, 3 if "vector" in form.layout else 1)

    def wide(rows: Any) -> Any:
        return np.tile(rows[None, :, None], (repeats[0], 1, repeats[1], 1))

    case = SimpleNamespace(
        generated=wide(x), positive=wide(positive), unconditional=wide(others),
        unconditional_weight=None, generated_weight=None, positive_weight=None,
        temperatures=(1.0,) if form.takes("temperature") else form.temperatures,
    )  # fmt: skip

    def asked(negatives: str) -> Any:
        form.negatives = negatives
        observed = form.loss(case, plain_setting(form))
        if not all(slope <= 1e-9 for slope in observed["other_gradients"].values()):
            raise UndecidedError(
                f"{form.place} lets a gradient into its real samples, so that nothing tells which "
                "negatives it takes: say negatives='implicit', 'generated first' or 'real first'"
            )
        # Descending the gradient moves a sample as the drift does.
        return -observed["gradient"][0, :, 0]

    if _adds_own(form, asked("implicit"), form.signature.argument[form.given]):
        return "implicit"
    pulls = [
        float(np.abs(np.diag(asked(order)[:, :4])).max())
        for order in ("generated first", "real first")
    ]
    return _order(form, pulls[0], pulls[1])


def _roles_tell(form: Form) -> None:
    """The positives draw and their argument counts; :class:`FormError` if they do not."""
    if not isinstance(form, FieldForm | LossForm):
        return
    x, positive, _ = _own_channels()
    moves = [_moved(form, x, positive + shift) for shift in (0.0, 0.5)]
    size = float(np.abs(moves[0]).max()) or 1.0
    if float(np.abs(moves[1] - moves[0]).max()) < 1e-9 * size:
        argument = form.signature.argument["positive"]
        raise FormError(
            f"{form.place} answered the same for other values of {argument!r}, which was taken as "
            "the positive samples: say names={'positive': …}"
        )


def _moved(form: FieldForm | LossForm, x: Any, positive: Any) -> Any:
    if isinstance(form, FieldForm):
        case = SimpleNamespace(
            x=x, positive=positive, negative=x, temperature=1.0, negative_weight=None,
            mask_self=True if form.takes("mask") else form.masks,
        )  # fmt: skip
        return form.field(case, plain_setting(form))
    case = form.small(others=form.empty == "none at all")
    case.positive = case.positive + float(positive[0, 4] - _own_channels()[1][0, 4])
    return form.loss(case, plain_setting(form))["gradient"]
