"""How much of the affinity is the readings' floor and not the kernel (ALG2-6, J-01).

Formed only when it is asked for, from the samples that the loss came from.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from drifting_torch.eager.affinity import affinities
from drifting_torch.eager.chunks import chunks
from drifting_torch.eager.coefficients import Coefficients
from drifting_torch.eager.solve import measure_distances
from drifting_torch.eager.statistics import shared_sums
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import inverse_scales
from drifting_torch.problem.units import with_units


@torch.no_grad()
def floor_share(problem: Problem, feature_scale: Tensor) -> Tensor:
    """1 − Σ A without the floor / Σ A, of the positives and of the negatives [2, T, 1|L, 1|V].

    ``feature_scale`` is S [1|L, 1|V] before any floor, that of all processes.
    """
    labels, _, vectors, _ = problem.generated.shape
    like = problem.generated
    shape = (2, 2, len(problem.temperatures), labels * vectors)
    with torch.autocast(like.device.type, enabled=False):
        gathered = chunks(problem)
        measured = measure_distances(problem, gathered)
        if measured is None:
            problem = with_units(problem)
            gathered = chunks(problem)
            measured = measure_distances(problem, gathered)
            assert measured is not None
        distances = measured[0]
        inverses = inverse_scales(problem, feature_scale.to(problem.wide))
        coefficients = Coefficients.of(problem, *inverses)
        sums = torch.empty(shape, dtype=problem.wide, device=like.device)
        bare = replace(problem.readings, affinity_floor="none")
        for chunk in gathered:
            masked = coefficients.logits(chunk, distances[chunk.groups])
            for index, (logits, targets) in enumerate(masked):
                for at, readings in enumerate((bare, problem.readings)):
                    affinity = affinities(logits.clone(), targets, readings)
                    for side, part in enumerate(affinity.tensor_split([targets.positives], -1)):
                        sums[at, side, index, chunk.groups] = part.sum((1, 2), dtype=problem.wide)
    kernel, all_of_it = shared_sums(sums.view(*shape[:3], labels, vectors), problem.readings)
    share = torch.where(all_of_it == 0, 0.0, 1.0 - kernel / all_of_it)
    return share.clamp_(0.0, 1.0).to(feature_scale.dtype)
