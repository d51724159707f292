"""One training step of A.9: generate, extract features, drifting loss, update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.arguments.modules import check_evaluated, check_no_batch_statistics
from drifting_torch.arguments.tensors import reads_values
from drifting_torch.features.extraction import Encoder
from drifting_torch.training.config import (
    GroupedDriftStepConfig,
    GroupedDriftStepOutput,
    check_step_config,
)
from drifting_torch.training.inputs import check_inputs
from drifting_torch.training.optimization import MovingAverage, clip_gradient_norm
from drifting_torch.training.pipeline import Generator, Pipeline


@implements("A9-2", "A9-3", "A9-5", "A9-6", "A9-7", "A7-alpha-cond", "ALG1-1")
def grouped_drift_training_step(
    generator: Generator,
    noise: Tensor,
    labels: Tensor,
    alpha: Tensor,
    positive: Tensor,
    unconditional: Tensor | None = None,
    *,
    optimizer: torch.optim.Optimizer | None,
    unconditional_weight: Tensor | None = None,
    encoder: Encoder | None = None,
    decoder: Callable[[Tensor], Tensor] | None = None,
    config: GroupedDriftStepConfig | None = None,
    scaler: torch.amp.GradScaler | None = None,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    average: MovingAverage | None = None,
) -> GroupedDriftStepOutput:
    """Do one step: samples for each label, their loss against real ones, one update.

    Parameters
    ----------
    generator
        ``(noise [B, ...], labels [B], alpha [B]) → samples [B, ...]``, B = L·N label-major, or a
        part of these under ``config.micro_batches``.
    noise
        ε [L, N, ...], N noises for each of L labels.
    labels
        Integers [L]; they may repeat.
    alpha
        Guidance scales [L], at least 1 (:func:`sample_alpha`); 1 without unconditional samples.
    positive, unconditional
        Real samples [L, P, ...] of each label's class, and [L, U, ...] of any
        (:class:`SampleQueue` gives both).
    optimizer
        Of the generator's parameters; they alone receive gradients, zeroed first. Those that
        do not require any stay as they are. None for the gradients alone, to be accumulated over
        calls: they are added to those that the generator's parameters have, the generator must be
        a module, and nothing is clipped or updated.
    unconditional_weight
        Kernel weights w [L] or [L, U], at least 0, in place of those that follow from ``alpha``,
        which then is a condition of the generator alone.
    encoder
        Module or function that returns maps [B, C, H, W], of which the vectors of A.5 are formed,
        or vectors [B, V, C], taken as they are: one tensor, a sequence or a mapping. In eval mode.
    decoder
        Between samples and encoder where the generator works on latents; in eval mode. It and the
        encoder must let gradients pass (not under ``no_grad``), and receive none.
    config
        ``GroupedDriftStepConfig()`` if None.
    scaler
        Gradient scaler, required for float16; a disabled one counts as none. At its default scale
        of 65536 it skips the first steps: summed losses have great gradients.
    schedule, average
        Stepped and updated after the parameters, if these were updated; None without optimizer.

    Returns
    -------
    GroupedDriftStepOutput
        The losses and what to log: ``out.logs()``.

    Raises
    ------
    ValueError, TypeError
        For inputs and outputs that do not fit, naming them; values on a GPU are not looked at.
    FloatingPointError
        For a gradient that is not finite, without a scaler, on the CPU; nothing is updated.

    Examples
    --------
    >>> queue.push(images, classes)                                          # doctest: +SKIP
    >>> labels = torch.randint(1000, (64,), generator=rng)                   # doctest: +SKIP
    >>> out = grouped_drift_training_step(                                   # doctest: +SKIP
    ...     model,
    ...     torch.randn(64, 64, 4, 32, 32, generator=rng),
    ...     labels,
    ...     sample_alpha(64, AlphaDistribution.of_table8("ablation"), generator=rng),
    ...     queue.sample_positive(labels, 64, generator=rng),
    ...     queue.sample_unconditional(64, 16, generator=rng),
    ...     optimizer=optimizer,
    ...     encoder=encoder,
    ...     config=GroupedDriftStepConfig(
    ...         autocast=torch.bfloat16, micro_batches=8, classes=1000
    ...     ),
    ... )
    >>> print(out.logs()["drift_energy"])                                    # doctest: +SKIP
    """
    config = check_step_config(config or GroupedDriftStepConfig())
    inputs = check_inputs(noise, labels, alpha, positive, unconditional, config.classes)
    scaler = _working_scaler(scaler, config)
    check_evaluated("encoder", encoder)
    check_evaluated("decoder", decoder)
    if isinstance(average, MovingAverage):
        average.check()  # now, as the parameters are updated by the time that it follows them
    size = inputs.groups[0] * inputs.groups[1]
    if config.micro_batches > size:
        raise ValueError(
            f"micro_batches is {config.micro_batches}, expected at most {size}: the samples of "
            f"noise {tuple(noise.shape)}"
        )
    if config.micro_batches > 1:
        check_no_batch_statistics("generator", generator)
    if unconditional_weight is not None and unconditional is None:
        raise ValueError("unconditional_weight is given and unconditional is None, expected both")
    pipeline = Pipeline(generator, encoder, decoder, config, inputs, unconditional_weight)
    if optimizer is None:
        for name, value in {"schedule": schedule, "average": average}.items():
            if value is not None:
                raise ValueError(f"{name} is given and optimizer is None, expected {name}=None")
        parameters = _trainable("generator", generator)
        found = pipeline.backward(parameters, scaler)
        return replace(found, gradient_norm=clip_gradient_norm(parameters, None))
    parameters = _trained(optimizer)
    optimizer.zero_grad(set_to_none=True)
    found = pipeline.backward(parameters, scaler)
    norm, stepped = _update(parameters, optimizer, config.gradient_clip, scaler)
    if stepped and schedule is not None:
        schedule.step()
    if stepped and average is not None:
        average.update()
    return replace(found, gradient_norm=norm, stepped=stepped)


def _working_scaler(
    scaler: torch.amp.GradScaler | None, config: GroupedDriftStepConfig
) -> torch.amp.GradScaler | None:
    """The scaler if it is one that scales: a disabled one would update by infinite gradients."""
    working = None if scaler is None or not scaler.is_enabled() else scaler
    if config.autocast == torch.float16 and working is None:
        what = "None" if scaler is None else "disabled"
        raise ValueError(
            f"scaler is {what}, expected a torch.amp.GradScaler that is enabled: float16 gradients "
            "underflow without"
        )
    return working


def _trainable(name: str, module: object) -> Sequence[Tensor]:
    """A module's parameters, less those that are frozen."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"{name} is {type(module).__name__} and optimizer is None, expected a module, whose "
            "parameters receive the gradients"
        )
    trained = [each for each in module.parameters() if each.requires_grad]
    if not trained:
        raise ValueError(f"{name} has no parameter that requires a gradient, expected some")
    return trained


def _trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The optimiser's parameters, less those that are frozen."""
    if not isinstance(optimizer, torch.optim.Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"optimizer is {type(optimizer).__name__}, expected a torch.optim.Optimizer"
        )
    held = [each for group in optimizer.param_groups for each in group["params"]]
    trained = [each for each in held if each.requires_grad]
    if not trained:
        raise ValueError(
            f"optimizer holds {len(held)} parameters, none of which requires a gradient; expected "
            "those of the generator"
        )
    return trained


@implements("A9-7")
def _update(
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    limit: float | None,
    scaler: torch.amp.GradScaler | None,
) -> tuple[Tensor, bool]:
    """Clip and step; the norm before clipping, and whether the parameters were updated."""
    if scaler is None:
        norm = clip_gradient_norm(parameters, limit)
        if reads_values(norm, None) and not bool(norm.isfinite()):
            raise FloatingPointError(
                f"the gradient's norm is {float(norm)}, expected a finite one; nothing was updated"
            )
        optimizer.step()
        return norm, True
    scaler.unscale_(optimizer)
    try:
        norm = clip_gradient_norm(parameters, limit)
        scaler.step(optimizer)
    except BaseException:
        # The scaler would take the next step's gradients for unscaled ones; its scale stays.
        scaler.update(scaler.get_scale())
        raise
    scaler.update()
    return norm, bool(norm.isfinite())
