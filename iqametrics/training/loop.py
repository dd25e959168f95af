"""The loop over epochs and steps: seed, loss, gradient, step, validation, state."""

import csv
import dataclasses
import hashlib
import io
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from iqametrics.errors import TrainingError
from iqametrics.evaluation import plcc, srcc
from iqametrics.objective import Batch, Objective
from iqametrics.training.batches import Batches
from iqametrics.training.data import Item, RunData, epoch_views, step_views
from iqametrics.training.files import write_atomic
from iqametrics.training.recipe import TrainTable
from iqametrics.training.resume import Average, Progress, load_state, save_state
from iqametrics.training.schedule import lr_factor

LAST, BEST, HISTORY = "last.safetensors", "best.safetensors", "history.csv"
_KEYS_SHOWN = 3


class Trainer:
    """One run: an objective, its data and its place on the disk.

    Args:
        objective: on its device, initialised.
        batches: of crops and whole images.
        data: the parts of the run.
        train: the recipe's [train] table.
        folder: of the run.
        device: where the steps are computed.
    """

    def __init__(
        self,
        objective: Objective,
        batches: Batches,
        data: RunData,
        train: TrainTable,
        folder: Path,
        device: torch.device,
    ) -> None:
        self.objective, self.batches, self.data = objective, batches, data
        self.train, self.folder, self.device = train, folder, device
        backbone_lr = train.lr if train.backbone_lr is None else train.backbone_lr
        groups = objective.parameter_groups(train.lr, backbone_lr, train.weight_decay)
        self.optimizer = torch.optim.AdamW([{**group, "peak_lr": group["lr"]} for group in groups])
        self.average = Average(objective, train.ema) if train.ema else None
        self.progress = Progress()

    def resume(self) -> bool:
        """Go back to the last saved state; False where there is none yet."""
        path = self.folder / LAST
        if not path.exists():
            return False
        self.progress = load_state(path, self.objective, optimizer=self.optimizer, average=self.average)
        self._write_history()
        return True

    def run(self) -> None:
        """Train the epochs that are left.

        Raises:
            TrainingError: a loss or gradient that is not finite; a full disk. The last good state is kept.
            KeyboardInterrupt: Ctrl-C, after the state was saved.
        """
        with _graceful_interrupt() as interrupt:
            while self.progress.epoch < self.train.epochs:
                self._epoch(interrupt)

    def predict(self, items: list[Item]) -> npt.NDArray[np.float64]:
        """Score whole images with the current weights, in the order of the items."""
        scores = np.zeros(len(items))
        self.objective.eval()
        with torch.no_grad():
            for indices, batch in self.batches.whole(items, self.train.eval_batch_size):
                scores[indices] = self.objective.predict(self.prepare(batch)).double().cpu().numpy()
        if not np.isfinite(scores).all():
            bad = items[int(np.flatnonzero(~np.isfinite(scores))[0])].sample.image
            raise TrainingError(f"{bad}: its score is not a finite number; lower train.lr or set train.grad_clip")
        return scores

    def use_selected(self) -> int:
        """Put the weights to ship into the objective and give their epoch."""
        if self.train.selection == "best-val":
            load_state(self.folder / BEST, self.objective)
            return self.progress.best_epoch
        if self.average is not None:
            self.average.swap(self.objective)
        return self.progress.epoch - 1

    def _epoch(self, interrupt: threading.Event) -> None:
        progress = self.progress
        steps = step_views(epoch_views(self.data.train, self.train, progress.epoch), self.train.batch_size)
        started = time.monotonic() - progress.seconds
        self.objective.train()
        ahead = self.batches.training(self.data.train, steps[progress.step_in_epoch :])
        label = f"epoch {progress.epoch + 1}/{self.train.epochs}"
        with tqdm(total=len(steps), initial=progress.step_in_epoch, desc=label, disable=not sys.stderr.isatty()) as bar:
            for batch in ahead:
                self._step(self.prepare(batch), len(steps))
                bar.update()
                bar.set_postfix(loss=f"{progress.sums['loss'] / progress.images:.4f}")
                progress.seconds = time.monotonic() - started
                self._maybe_save(interrupt)
        self._close_epoch(len(steps), started)

    def _step(self, batch: Batch, steps_per_epoch: int) -> None:
        progress = self.progress
        torch.manual_seed(step_seed(self.train.seed, progress.step))
        factor = lr_factor(self.train, progress.step, steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        loss, parts = self.objective.loss(batch)
        self._check_finite(loss.detach(), "loss", batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.train.grad_clip or math.inf)
        self._check_finite(norm, "gradient", batch)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.objective, progress.step)
        for name, value in {"loss": loss, **parts}.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + float(value.detach()) * len(batch)
        progress.images += len(batch)
        progress.step += 1
        progress.step_in_epoch += 1

    def _check_finite(self, value: torch.Tensor, what: str, batch: Batch) -> None:
        if bool(torch.isfinite(value)):
            return
        names = ", ".join(batch.keys[:_KEYS_SHOWN]) + (", ..." if len(batch.keys) > _KEYS_SHOWN else "")
        raise TrainingError(
            f"{what} is {float(value)} in epoch {self.progress.epoch + 1}, step {self.progress.step_in_epoch + 1} "
            f"({names}); the last good state in {self.folder} is kept, lower train.lr or set train.grad_clip"
        )

    def prepare(self, batch: Batch) -> Batch:
        """Move a batch to the device and, where it holds images, run the frozen part on them."""
        batch = batch.to(self.device)
        if self.batches.source.is_trunk_output:
            return batch
        ref = None if batch.ref is None else self.objective.trunk(batch.ref[0])
        return dataclasses.replace(batch, dist=self.objective.trunk(batch.dist[0]), ref=ref)

    def _maybe_save(self, interrupt: threading.Event) -> None:
        due = self.train.save_every and self.progress.step_in_epoch % self.train.save_every == 0
        if due or interrupt.is_set():
            self._save_last()
        if interrupt.is_set():
            raise KeyboardInterrupt(
                f"stopped in epoch {self.progress.epoch + 1} after step {self.progress.step_in_epoch}; the state is in "
                f"{self.folder}, go on with the same command and --resume"
            )

    def _close_epoch(self, steps: int, started: float) -> None:
        progress = self.progress
        factor = lr_factor(self.train, progress.step - 1, steps)
        row: dict[str, Any] = {"epoch": progress.epoch + 1, "lr": self.train.lr * factor}
        row |= {f"train_{name}": total / progress.images for name, total in progress.sums.items()}
        last = progress.epoch + 1 == self.train.epochs
        if self.data.validation and (last or (progress.epoch + 1) % self.train.validate_every == 0):
            row |= self._validate()
        row["seconds"] = round(time.monotonic() - started, 2)
        progress.history.append(row)
        progress.next_epoch()
        self._write_history()
        self._save_last()
        tqdm.write(_summary(row), file=sys.stderr)

    def _validate(self) -> dict[str, float]:
        """Measure on the validation part and keep the weights if they are the best so far."""
        if self.average is not None:
            self.average.swap(self.objective)
        mos = [item.sample.mos for item in self.data.validation]
        scores = self.predict(self.data.validation)
        measured = {"val_srcc": srcc(scores, mos), "val_plcc": plcc(scores, mos)}
        # NaN (all scores alike) is worse than anything, but the first epoch must leave some weights to ship.
        value = -1.5 if math.isnan(measured["val_srcc"]) else measured["val_srcc"]
        if value > self.progress.best_srcc:
            self.progress.best_epoch, self.progress.best_srcc = self.progress.epoch, value
            save_state(self.folder / BEST, self.objective, self.progress)
        if self.average is not None:
            self.average.swap(self.objective)
        return measured

    def _save_last(self) -> None:
        path = self.folder / LAST
        save_state(path, self.objective, self.progress, optimizer=self.optimizer, average=self.average)

    def _write_history(self) -> None:
        rows = self.progress.history
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.folder / HISTORY, text.getvalue())


def step_seed(seed: int, step: int) -> int:
    """Seed of torch's generator for a step of a run."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/step/{step}".encode(), digest_size=8).digest(), "big") >> 1


def _summary(row: dict[str, Any]) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
    )


@contextmanager
def _graceful_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag that is looked at between steps; the second one interrupts at once."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = signal.getsignal(signal.SIGINT)

    def remember(_signal: int, _frame: FrameType | None) -> None:
        flag.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, remember)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)
