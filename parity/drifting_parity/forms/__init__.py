"""Call forms: the ways in which people write the drifting loss, each an adapter in one statement.

``field``, ``loss``, ``class_loss``, ``features``, ``module`` and ``step`` return an adapter to be
named by ``--implementation python:FILE.py:NAME``; what differs from code to code is said by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drifting_parity.forms.adapter import FormAdapter, adapted, together
from drifting_parity.forms.feature_form import FeatureForm
from drifting_parity.forms.field_form import FieldForm
from drifting_parity.forms.layout import FormError
from drifting_parity.forms.loss_form import LossForm

if TYPE_CHECKING:
    from drifting_parity.forms.step_form import StepAdapter


def field(function: Any, **options: Any) -> FormAdapter:
    """Adapter of V by Algorithm 2, ``f(x, y_pos, y_neg, T, …)``; options of ``FieldForm``."""
    return adapted(FieldForm(function, **options))


def loss(function: Any, **options: Any) -> FormAdapter:
    """Adapter of the loss of one feature (A.6); options of ``LossForm``."""
    return adapted(LossForm(function, **options))


def class_loss(function: Any, layout: str = "sample vector channel", **options: Any) -> FormAdapter:
    """Adapter of the loss of one class, ``f(x[N, L, C], pos, …)`` or with ``x[N, D]``.

    With ``loop="label"`` the labels of a case are looped over and their losses averaged.
    """
    return adapted(LossForm(function, layout=layout, **options))


def features(function: Any, **options: Any) -> FormAdapter:
    """Adapter of the loss over many features; options of ``FeatureForm``."""
    return adapted(FeatureForm(function, **options))


def module(kind: Any, layout: str = "sample channel 1 1", **options: Any) -> FormAdapter:
    """Adapter of a module on images [N, C, H, W]: a class (built once with ``build``) or an object.

    A sample's channels come as those of an image of one pixel; ``layout="sample channel vector 1"``
    gives images of which every pixel is a vector.
    """
    return adapted(LossForm(kind, layout=layout, **options))


def step(function: Any, **options: Any) -> StepAdapter:
    """Adapter of a whole training step (A.9) in PyTorch; options of ``Step``."""
    # Here, since it needs PyTorch, and code in other frameworks does without.
    from drifting_parity.forms.step_form import Step, StepAdapter

    return StepAdapter(Step(function, **options))


__all__ = [
    "FormAdapter",
    "FormError",
    "class_loss",
    "features",
    "field",
    "loss",
    "module",
    "step",
    "together",
]
