"""Learning-rate schedules as pure functions of the step, so that a resumed run needs no scheduler state."""

import math

from iqametrics.training.tables import TrainTable

_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 1e-4


def lr_factor(train: TrainTable, step: int, steps_per_epoch: int) -> float:
    """Compute the factor on the peak learning rate at a step.

    Args:
        train: The recipe's [train] table.
        step: Number of the step in the whole run, from 0.
        steps_per_epoch: Number of steps of one epoch.

    Returns:
        Value in [0, 1].
    """
    epoch = step // steps_per_epoch
    total = train.epochs * steps_per_epoch
    if train.schedule == "cosine":
        climb = train.warmup * total
        if step < climb:
            return (step + 1) / (climb + 1)
        return _cosine((step - climb) / max(total - climb, 1))
    if train.schedule == "one-cycle":
        climb = max(train.warmup * total, 1)
        if step < climb:
            return 1 - (1 - _ONE_CYCLE_START) * _cosine(step / climb)
        return _ONE_CYCLE_END + (1 - _ONE_CYCLE_END) * _cosine((step - climb) / max(total - climb, 1))
    if train.schedule == "cosine-annealing":
        return _cosine(epoch / train.t_max)
    if train.schedule == "step":
        climb = train.warmup_epochs * steps_per_epoch
        if step < climb:
            return train.warmup_start + (1 - train.warmup_start) * step / climb
        counted = epoch - train.warmup_epochs if train.step_after_warmup else epoch
        return train.step_factor ** (counted // train.step_epochs)
    return 1.0


def _cosine(progress: float) -> float:
    """Return half a cosine, from 1 at progress 0 to 0 at progress 1."""
    return (1 + math.cos(math.pi * progress)) / 2
