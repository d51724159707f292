"""An adapter that puts ``plain_loss.py`` before the judge.

In this folder: ``drifting-parity report --implementation python:judge_a_loss:adapter``.
"""

from drifting_parity import forms
from plain_loss import plain_drifting_loss

adapter = forms.loss(plain_drifting_loss, layout="label sample vector channel", name="mine")
