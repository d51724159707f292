"""An adapter that puts ``plain_loss.py`` before the judge.

In this folder: ``drifting-parity report --implementation python:judge_a_loss:adapter``.
"""

from drifting_parity.adapters.torch_adapter import TorchAdapter
from plain_loss import plain_drifting_loss


def loss(generated, positive, temperatures):
    # Tensors [labels, samples, vectors, channels]. Code with guidance takes two more by name:
    # unconditional, and unconditional_weight [labels, samples], which are None at times.
    return plain_drifting_loss(generated, positive, temperatures)


adapter = TorchAdapter("mine", loss)
