"""The loop over epochs and steps: seed, loss, gradient, step, validation, state."""

import csv
import dataclasses
import hashlib
import io
import itertools
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from iqametrics.common.interrupts import StopFlag, Stopped, flagged
from iqametrics.errors import TrainingError
from iqametrics.evaluation import plcc, srcc
from iqametrics.objective import Batch, Objective, Statistics
from iqametrics.training.batches import Batches
from iqametrics.training.curves import Events
from iqametrics.training.data import RunData, RunImage, epoch_steps, portions
from iqametrics.training.distributed import Ranks
from iqametrics.training.folder import BEST, LAST
from iqametrics.training.optimizer import make_optimizer
from iqametrics.training.pictures import to_unit
from iqametrics.training.precision import Precision
from iqametrics.training.resume import Average, Progress, load_state, save_state, write_run_file
from iqametrics.training.schedule import lr_factor
from iqametrics.training.tables import TrainTable
from iqametrics.training.telling import Count, Telling, say

HISTORY = "history.csv"
_KEYS_SHOWN = 3


class Trainer:
    """One run: an objective, its data and its folder.

    Args:
        objective: The objective, initialised and on its device.
        batches: Source of batches, of crops and of whole images.
        data: Training, validation and test images.
        train: The recipe's [train] table.
        folder: Folder of the run.
        ranks: The processes and the device of this one.

    Raises:
        RecipeError: If the device cannot compute in the half precision, or has not the optimiser, that the recipe asks
            for.
    """

    def __init__(
        self,
        objective: Objective,
        batches: Batches,
        data: RunData,
        train: TrainTable,
        folder: Path,
        ranks: Ranks,
    ) -> None:
        self.objective, self.batches, self.data = objective, batches, data
        self.train, self.folder, self.ranks = train, folder, ranks
        self.precision = Precision(train.amp, ranks.device)
        backbone_lr = train.lr if train.backbone_lr is None else train.backbone_lr
        groups = objective.parameter_groups(train.lr, backbone_lr, train.weight_decay)
        self.optimizer = make_optimizer(groups, train, ranks.device)
        self.saved = time.monotonic()
        self.average = Average(objective, train.ema) if train.ema else None
        self.progress = Progress()
        self.stopping = False
        self.signal: int = signal.SIGINT
        self.loss: torch.nn.Module | None = None
        self.telling = Telling(on=ranks.first)
        self.events = Events(folder)

    def begin(self, statistics: Statistics) -> None:
        """Initialise the objective by statistics of the training data, before the first step of a new run."""
        self.objective.initialise(statistics)
        if self.average is not None:
            self.average = Average(self.objective, self.train.ema)

    def resume(self) -> bool:
        """Load the last saved state; return False if there is none yet."""
        path = self.folder / LAST
        if not path.exists():
            return False
        self.progress = load_state(path, self.objective, optimizer=self.optimizer, average=self.average)
        if self.progress.epoch > self.train.epochs:
            raise TrainingError(
                f"{path}: says that {self.progress.epoch} of {self.train.epochs} epochs are done; start anew in "
                "another folder"
            )
        if self.progress.scaler:
            self.precision.scaler.load_state_dict(self.progress.scaler)
        self._write_history()
        return True

    def run(self) -> None:
        """Train the remaining epochs.

        Raises:
            TrainingError: If a loss or gradient is not finite, or the disk is full. The last good state is kept.
            KeyboardInterrupt: If Ctrl-C was pressed; the state is saved first.
        """
        # Only now: wrapping copies the weights of the first process to all others.
        self.loss = self.ranks.wrap(self.objective, self.train.compile)
        # torchrun passes on a Ctrl-C that its processes have already got from the terminal.
        with flagged(at_second=self.ranks.count == 1) as interrupt:
            while self.progress.epoch < self.train.epochs:
                self._epoch(interrupt)
        self.events.close()

    def predict(self, items: list[RunImage], batches: Batches | None = None) -> npt.NDArray[np.float64]:
        """Score whole images with the current weights, in float32 and in order; the processes divide the images.

        Args:
            items: The images.
            batches: Source of their batches; None for that of the run.

        Raises:
            TrainingError: If a score is not finite.
        """
        rank, count = self.ranks.rank, self.ranks.count
        self.ranks.share_buffers(self.objective)
        found = torch.zeros(len(items))
        own = items[rank::count]
        counted = Count(self.telling, "held-out images: {} of {} scored", len(own))
        self.objective.eval()
        with torch.no_grad():
            for indices, batch in (batches or self.batches).whole(own, self.train.eval_batch_size):
                positions = torch.tensor(indices) * count + rank
                found[positions] = self.objective.predict(self.prepare(batch)).float().cpu()
                counted.update(len(indices))
        scores = self.ranks.sum(found.to(self.ranks.device)).cpu().double().numpy()
        if not np.isfinite(scores).all():
            bad = items[int(np.flatnonzero(~np.isfinite(scores))[0])].sample.image
            raise TrainingError(f"{bad}: its score is not a finite number; lower train.lr or set train.grad_clip")
        return scores

    def use_selected(self) -> int:
        """Load the selected weights into the objective; return their epoch."""
        self.ranks.wait()
        if self.train.selection != "last":
            # The epoch is read from the file: a run killed between two writes may remember an older one.
            return load_state(self.folder / BEST, self.objective).best_epoch
        if self.average is not None:
            self.average.swap(self.objective)
        return self.progress.epoch - 1

    def _epoch(self, interrupt: StopFlag) -> None:
        progress, ranks = self.progress, self.ranks
        self.objective.begin_epoch(progress.history)
        steps = [
            portions(
                views,
                accumulate=self.train.accumulate,
                processes=ranks.count,
                rank=ranks.rank,
                together=self.train.crops_together,
            )
            for views in epoch_steps(self.data.train, self.train, progress.epoch)
        ]
        started = time.monotonic() - progress.seconds
        self.objective.train()
        if progress.step_in_epoch > len(steps):
            raise TrainingError(
                f"{self.folder / LAST}: says that {progress.step_in_epoch} steps of an epoch of {len(steps)} are done; "
                "start anew in another folder"
            )
        left = steps[progress.step_in_epoch :]
        ahead = self.batches.training(self.data.train, list(itertools.chain.from_iterable(left)))
        label, quiet = f"epoch {progress.epoch + 1}/{self.train.epochs}", not (ranks.first and sys.stderr.isatty())
        counted = Count(self.telling, f"{label}: step {{}} of {{}}", len(steps), progress.step_in_epoch)
        with tqdm(total=len(steps), initial=progress.step_in_epoch, desc=label, disable=quiet) as bar:
            for step in left:
                self._step(list(itertools.islice(ahead, len(step))), len(steps), interrupt)
                # One process stops at once; several stop only when all know, or they would wait for one another.
                self.stopping |= self.ranks.count == 1 and interrupt.is_set()
                self.signal = interrupt.number
                bar.update()
                loss = f"{progress.mean('loss'):.4f}"
                bar.set_postfix(loss=loss)
                counted.update(note=f", loss {loss}")
                progress.seconds = time.monotonic() - started
                self._maybe_save()
        self._close_epoch(len(steps), started)
        self._agree({}, interrupt)
        self.signal = interrupt.number
        if self.stopping:
            self._stop(f"after epoch {progress.epoch}")

    def _step(self, parts: list[Batch], steps_per_epoch: int, interrupt: StopFlag) -> None:
        """Take one step of the optimiser on a batch that comes in parts."""
        progress = self.progress
        # Counted by this epoch's length: images of fractional weight make epochs of different lengths.
        position = progress.epoch * steps_per_epoch + progress.step_in_epoch
        factor = lr_factor(self.train, position, steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        self.optimizer.zero_grad(set_to_none=True)
        images = sum(sum(part.counts) or len(part) for part in parts)
        values = self._agree(self._gradient(parts, images), interrupt)
        if self._update(values["loss"], parts):
            for name, value in values.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value * images
            progress.images += images
        progress.step += 1
        progress.step_in_epoch += 1

    def _update(self, loss: float, parts: list[Batch]) -> bool:
        """Step the optimiser by the gradient that was added up; return False if the loss overflowed float16.

        The scaler skips the step by itself where a gradient overflows, and lowers its scale. A loss that overflowed in
        the forward pass is treated likewise here: its gradient may be finite, and would then be stepped by.
        """
        scaler = self.precision.scaler
        retry = scaler.is_enabled() and not self.precision.exhausted
        if retry and not math.isfinite(loss):
            scaler.update(scaler.get_scale() * scaler.get_backoff_factor())
            return False
        self._check_finite(loss, "loss", parts)
        scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.train.grad_clip or math.inf))
        if not retry:
            self._check_finite(norm, "gradient", parts)
        scaler.step(self.optimizer)
        scaler.update()
        if self.average is not None:
            self.average.update(self.objective, self.progress.step)
        return True

    def _gradient(self, parts: list[Batch], images: int) -> dict[str, torch.Tensor]:
        """Add up the gradient of a step; return this process's share of its mean loss over images, by name."""
        assert self.loss is not None
        values: dict[str, torch.Tensor] = {}
        for number, part in enumerate(parts):
            torch.manual_seed(step_seed(self.train.seed, self.progress.step, number, self.ranks.rank))
            with self.ranks.gradients(self.loss, add=number == len(parts) - 1):
                with self.precision.autocast():
                    loss, named = self.loss(self.prepare(part))
                weight = len(part) / images
                # The gradients of the processes are averaged, but these are shares of one mean, to be added.
                self.precision.scaler.scale(loss * (weight * self.ranks.count)).backward()
            for name, value in {"loss": loss, **named}.items():
                share = value.detach() * weight
                values[name] = values[name] + share if name in values else share
        return values

    def _agree(self, values: dict[str, torch.Tensor], interrupt: StopFlag) -> dict[str, float]:
        """Add up the values of the processes; if one was interrupted, all of them stop at the same step."""
        interrupted = torch.tensor(float(interrupt.is_set()), device=self.ranks.device)
        *numbers, stop = self.ranks.sum(
            torch.stack([*(value.float() for value in values.values()), interrupted])
        ).tolist()
        self.stopping = bool(stop)
        return dict(zip(values, numbers, strict=True))

    def _check_finite(self, value: float, what: str, parts: list[Batch]) -> None:
        if math.isfinite(value):
            return
        keys = self._culprits(parts) or [key for part in parts for key in part.keys]
        names = ", ".join(keys[:_KEYS_SHOWN]) + (", ..." if len(keys) > _KEYS_SHOWN else "")
        raise TrainingError(
            f"{what} is {value} in epoch {self.progress.epoch + 1}, step {self.progress.step_in_epoch + 1} "
            f"({names}); the last good state in {self.folder} is kept, lower train.lr or set train.grad_clip"
        )

    def _culprits(self, parts: list[Batch]) -> list[str]:
        """Return the images whose loss, computed for each alone, is not finite."""
        self.objective.eval()
        found: list[str] = []
        with torch.no_grad():
            for single in (part.only(index) for part in parts for index in range(len(part))):
                with self.precision.autocast():
                    loss, _ = self.objective.loss(self.prepare(single))
                if not bool(torch.isfinite(loss)):
                    found += single.keys
        return found

    def prepare(self, batch: Batch) -> Batch:
        """Move a batch to the device and, where it holds images, run the frozen part on them."""
        # A batch that the threads pinned is copied while the GPU still computes; others are copied as ever.
        batch = batch.to(self.ranks.device, non_blocking=self.ranks.device.type == "cuda")
        if self.batches.source.is_trunk_output:
            return batch
        ref = None if batch.ref is None else self._trunk(batch.ref[0])
        return dataclasses.replace(batch, dist=self._trunk(batch.dist[0]), ref=ref)

    def _trunk(self, images: torch.Tensor) -> list[torch.Tensor]:
        images = to_unit(images)
        if self.train.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.objective.trunk(images)

    def _maybe_save(self) -> None:
        train = self.train
        due = train.save_every and self.progress.step_in_epoch % train.save_every == 0
        late = train.save_minutes and time.monotonic() - self.saved >= 60 * train.save_minutes
        if due or late or self.stopping:
            self._save_last()
        if self.stopping:
            self._stop(f"in epoch {self.progress.epoch + 1} after step {self.progress.step_in_epoch}")

    def _stop(self, where: str) -> NoReturn:
        # torchrun ends all processes as soon as one has ended, and the first may still be writing.
        self.ranks.wait()
        raise Stopped(
            f"stopped {where}; the state is in {self.folder}, continue with the same command and --resume",
            self.signal,
        )

    def _close_epoch(self, steps: int, started: float) -> None:
        progress = self.progress
        factor = lr_factor(self.train, (progress.epoch + 1) * steps - 1, steps)
        row: dict[str, Any] = {"epoch": progress.epoch + 1, "lr": self.train.lr * factor}
        row |= {f"train_{name}": progress.mean(name) for name in progress.sums or ("loss",)}
        last = progress.epoch + 1 == self.train.epochs
        if self._watched() and (last or (progress.epoch + 1) % self.train.validate_every == 0):
            row |= self._validate()
        row["seconds"] = round(time.monotonic() - started, 2)
        progress.history.append(row)
        progress.next_epoch()
        self._write_history()
        self._save_last()
        if self.ranks.first:
            self.events.add(row)
            say(_summary(row))

    def _watched(self) -> dict[str, list[RunImage]]:
        """Return the held-out parts that are scored during training; the last of them chooses the epoch."""
        parts = {"val": self.data.validation, "test": self.data.test if self.train.selection == "best-test" else []}
        return {name: items for name, items in parts.items() if items}

    def _validate(self) -> dict[str, float]:
        """Measure on the held-out parts, and store the weights if they are the best so far."""
        if self.average is not None:
            self.average.swap(self.objective)
        measured: dict[str, float] = {}
        value = math.nan
        for name, items in self._watched().items():
            mos = [item.sample.mos for item in items]
            scores = self.predict(items)
            value = srcc(scores, mos)
            measured |= {f"{name}_srcc": value, f"{name}_plcc": plcc(scores, mos)}
        # NaN (all scores equal) is worse than anything, but the first epoch must store some weights.
        value = -1.5 if math.isnan(value) else value
        if value > self.progress.best_srcc:
            self.progress.best_epoch, self.progress.best_srcc = self.progress.epoch, value
            if self.ranks.first:
                save_state(self.folder / BEST, self.objective, self.progress)
        if self.average is not None:
            self.average.swap(self.objective)
        return measured

    def _save_last(self) -> None:
        self.progress.scaler = dict(self.precision.scaler.state_dict())
        path = self.folder / LAST
        if self.ranks.first:
            save_state(path, self.objective, self.progress, optimizer=self.optimizer, average=self.average)
        self.saved = time.monotonic()

    def _write_history(self) -> None:
        if not self.ranks.first:
            return
        rows = self.progress.history
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_run_file(self.folder / HISTORY, text.getvalue())


def step_seed(seed: int, step: int, part: int = 0, rank: int = 0) -> int:
    """Return the seed of torch's generator for a part of a step of a run on one of its processes."""
    text = f"{seed}/step/{step}" + (f"/{part}/{rank}" if part or rank else "")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _summary(row: dict[str, Any]) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
    )
