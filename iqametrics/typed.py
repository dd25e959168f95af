"""`create_metric` as mypy and pyright see it: by a metric's name, its class. At run time it is that of `registry`."""

from typing import TYPE_CHECKING, Literal, overload

from iqametrics.registry import create_metric as _create_metric

if TYPE_CHECKING:
    import os

    import torch

    from iqametrics.bpclip.metric import BpclipFrMetric, BpclipNrMetric
    from iqametrics.metric import Metric
    from iqametrics.pfd_iqa.metric import PfdIqaMetric
    from iqametrics.spec import View

    _Weights = str | os.PathLike[str] | None
    _Device = str | torch.device | None
    _Dtype = str | torch.dtype | None

    @overload
    def create_metric(
        name: Literal["bpclip-fr", "bpclip-fr.lite", "bpclip-fr.lite2"],
        *,
        weights: _Weights = ...,
        device: _Device = ...,
        dtype: _Dtype = ...,
        as_loss: bool = ...,
        view: View = ...,
    ) -> BpclipFrMetric: ...
    @overload
    def create_metric(
        name: Literal["bpclip-nr", "bpclip-nr.lite", "bpclip-nr.lite2"],
        *,
        weights: _Weights = ...,
        device: _Device = ...,
        dtype: _Dtype = ...,
        as_loss: bool = ...,
        view: View = ...,
    ) -> BpclipNrMetric: ...
    @overload
    def create_metric(
        name: Literal["pfd-iqa", "pfd-iqa.lite", "pfd-iqa.lite2"],
        *,
        weights: _Weights = ...,
        device: _Device = ...,
        dtype: _Dtype = ...,
        as_loss: bool = ...,
        view: View = ...,
    ) -> PfdIqaMetric: ...
    @overload
    def create_metric(
        name: str,
        *,
        weights: _Weights = ...,
        device: _Device = ...,
        dtype: _Dtype = ...,
        as_loss: bool = ...,
        view: View = ...,
    ) -> Metric: ...
    def create_metric(
        name: str,
        *,
        weights: _Weights = "default",
        device: _Device = None,
        dtype: _Dtype = None,
        as_loss: bool = False,
        view: View = "fit",
    ) -> Metric:
        """Make a metric; see `iqametrics.registry.create_metric`."""
        return _create_metric(name, weights=weights, device=device, dtype=dtype, as_loss=as_loss, view=view)
else:
    create_metric = _create_metric
