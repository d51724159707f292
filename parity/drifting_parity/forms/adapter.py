"""A call form as an adapter: the harness's cases in, its observations out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.conduct import Conduct
from drifting_parity.cases import FeatureObservation, LossObservation, Readings, Setting
from drifting_parity.forms.form import Form
from drifting_parity.forms.layout import FormError, NotTaken


class FormAdapter(Adapter):
    """An adapter made of one call form, or of several that offer different things.

    ``taken`` says what was inferred where nobody said it.
    """

    taken: str = ""

    def __init__(self, forms: Mapping[str, Form]) -> None:
        self.forms = dict(forms)
        first = next(iter(self.forms.values()))
        self.name = first.name
        self.dtypes = first.dtypes  # pyright: ignore[reportAttributeAccessIssue] -- names of dtypes
        self.devices = first.devices

    def conduct(self) -> list[Conduct]:
        """Inputs that the code changed since this was last asked."""
        return [Conduct("inputs", what) for form in self.forms.values() for what in form.conduct()]

    def smoke(self) -> None:
        """Try every form on a small case; :class:`FormError` says what is not right."""
        for form in self.forms.values():
            form.smoke()
            form.conduct()

    def answer(self, method: str, case: Any, setting: Setting) -> Any:
        """What a form answers, with the harness's words for what it cannot take."""
        try:
            return getattr(self.forms[method], method)(case, setting)
        except NotTaken as reason:
            raise NotObservable(str(reason)) from None
        except FormError as problem:
            raise TypeError(str(problem)) from None


def _field(self: FormAdapter, case: Any, readings: Readings, setting: Setting) -> Any:
    del readings
    return self.answer("field", case, setting)


def _loss(self: FormAdapter, case: Any, readings: Readings, setting: Setting) -> LossObservation:
    del readings
    return LossObservation(**self.answer("loss", case, setting))


def _features(
    self: FormAdapter, case: Any, readings: Readings, setting: Setting
) -> FeatureObservation:
    del readings
    return FeatureObservation(**self.answer("feature_loss", case, setting))


METHODS: Mapping[str, Callable[..., Any]] = {
    "field": _field,
    "loss": _loss,
    "feature_loss": _features,
}


def adapted(*forms: Form) -> FormAdapter:
    """Make an adapter that offers what the forms offer, and nothing else."""
    by_method = {form.method: form for form in forms}
    kind = type("FormAdapter", (FormAdapter,), {name: METHODS[name] for name in by_method})
    return kind(by_method)


def together(name: str, *adapters: FormAdapter) -> FormAdapter:
    """One adapter of several: a field, a loss, a loss of features of the same implementation.

    Raises :class:`FormError` if two of them offer the same.
    """
    forms = [form for adapter in adapters for form in adapter.forms.values()]
    methods = [form.method for form in forms]
    if len(set(methods)) < len(methods):
        raise FormError(f"the forms offer {', '.join(methods)}, expected each of them once")
    whole = adapted(*forms)
    whole.name = name
    return whole
