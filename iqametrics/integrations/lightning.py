"""A callback of Lightning that logs the quality of what a network makes (extra `lightning`).

    from iqametrics.integrations.lightning import LogQuality

    restored = LogQuality("bpclip-fr", lambda outputs, batch: (outputs["restored"], batch["sharp"]))
    Trainer(callbacks=[restored])

docs/integrations.md says more.
"""

from collections.abc import Callable, Sequence
from typing import Any

from iqametrics.errors import InputError, MissingExtraError

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingExtraError(
        'iqametrics.integrations.lightning needs Lightning: pip install "iqametrics[lightning]"'
    ) from error

from torch import Tensor

from iqametrics.integrations.torchmetrics import QualityScore
from iqametrics.metric import Metric


class LogQuality(Callback):
    """Score what the validation and test steps give, and log the mean at the end of each epoch.

    The names in the log are the step and the metric: `val/bpclip-fr.lite`, `test/bpclip-fr.lite`; of several data
    loaders, Lightning adds which. Processes are put together. The metric is no part of the module: it is neither
    trained nor saved with it.

    Args:
        metric: Name of a metric, as `create_metric` takes it, or a metric that was made.
        images: Gives of a step's outputs and its batch the distorted images, or those and their references, all
            (N,3,H,W) in [0, 1].
        prog_bar: Whether the progress bar shows it too.

    Raises:
        IqaError: If `create_metric` cannot make the metric.
    """

    def __init__(
        self,
        metric: str | Metric,
        images: Callable[[Any, Any], Tensor | Sequence[Tensor]],
        *,
        prog_bar: bool = False,
    ) -> None:
        self.quality = QualityScore(metric)
        self.images = images
        self.prog_bar = prog_bar

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the scores of the epoch before."""
        self._start(pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the scores of the epoch before."""
        self._start(pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score what the step gave."""
        self._score(outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score what the step gave."""
        self._score(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the mean."""
        self._log(pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the mean."""
        self._log(pl_module, "test")

    def _start(self, pl_module: LightningModule) -> None:
        self.quality.reset()
        self.quality.to(pl_module.device)

    def _score(self, outputs: Any, batch: Any) -> None:
        given = self.images(outputs, batch)
        images = (given,) if isinstance(given, Tensor) else tuple(given)
        if not 1 <= len(images) <= 2:
            raise InputError(
                f"`images` gave {len(images)} tensors; give the distorted images, or those and the references"
            )
        self.quality.update(*(image.detach() for image in images))

    def _log(self, pl_module: LightningModule, step: str) -> None:
        name = f"{step}/{self.quality.metric.full_name}"
        pl_module.log(name, self.quality.compute(), prog_bar=self.prog_bar)
