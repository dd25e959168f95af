"""How the toy is trained: the squared error of its scores."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from iqametrics.errors import RecipeError
from iqametrics.objective import Batch, Objective, Statistics, check_init
from iqametrics_toy.metric import ToyModel


class ToyObjective(Objective):
    """The toy in training."""

    frozen_levels = 0

    def __init__(self, model: ToyModel) -> None:
        super().__init__()
        self.model: ToyModel = model

    @classmethod
    def from_recipe(cls, metric_name: str, model: dict[str, Any], init: dict[str, str]) -> "ToyObjective":
        """Build from a recipe's [model]; it starts from no files."""
        check_init(init, ())
        try:
            return cls(ToyModel(**model))
        except TypeError as error:
            raise RecipeError(f"[model]: {error}; known are scales and hidden") from error

    def trunk(self, images: Tensor) -> list[Tensor]:
        """Return the images themselves, since nothing is frozen."""
        return [images]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the value to minimise, and its parts for the history."""
        mse = F.mse_loss(self.model(batch.dist[0]), batch.mos)
        return mse, {"mse": mse.detach()}

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Return scores (N,) of whole images, as the metric does."""
        return self.model(batch.dist[0])

    def initialise(self, statistics: Statistics) -> None:
        """Start at the mean opinion score."""
        torch.nn.init.constant_(self.model.out.bias, statistics.mos_mean)

    def config(self) -> dict[str, Any]:
        """Return what `ToyMetric.build` reads back."""
        return dict(self.model.config)
