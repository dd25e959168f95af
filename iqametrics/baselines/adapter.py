"""Any metric of piq or pyiqa as a `Metric`: images in any form in, one score an image out.

The package gets one image at a time, since some of its metrics score an image differently in a batch. Some draw crops
at random, so the random generators are seeded for each image and restored. A score then depends on its image alone, as
with our own metrics.
"""

import contextlib
import importlib
import os
import random
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import torch
from huggingface_hub import constants
from torch import Tensor, nn

from iqametrics.baselines.piq_table import PIQ
from iqametrics.errors import InputError, IqaError, MissingExtraError, WeightsError
from iqametrics.images import ImageSource, to_image_list
from iqametrics.metric import Metric, ReferenceFeatures, Sizing
from iqametrics.spec import MetricSpec

CONNECT_SECONDS = 10.0
"""Seconds in which a server that has a package's weights must answer."""
_SEED = 0


class BaselineMetric(Metric):
    """A metric of another package. It is made by `from_package`; there is no checkpoint of ours."""

    model: "Network"
    default_sizing: ClassVar[Sizing] = Sizing(min_side=1)

    @classmethod
    def from_package(cls, spec: MetricSpec) -> "BaselineMetric":
        """Make a metric with the weights that its package has or fetches.

        Args:
            spec: The metric that was asked for.

        Raises:
            MissingExtraError: If the package, or something that it needs for this metric, is not installed.
            WeightsError: If its weights can be neither found nor fetched.
        """
        package, _, after = spec.name.partition("/")
        with quiet(), _impatient(), _explained(spec.name, package):
            network = cls.network(after)
        # The constants of a metric belong to its class; here a class serves many metrics.
        derived: type[BaselineMetric] = type(cls.__name__, (cls,), {"spec": spec, "__doc__": cls.__doc__})
        return derived(network, cls.default_sizing, tag="")

    @classmethod
    def network(cls, name: str) -> "Network":
        """Import the package and make the module that scores an image or a pair."""
        raise NotImplementedError

    @property
    def full_name(self) -> str:
        """Name as it was asked for, e.g. "piq/fsim": the package has one set of weights for each name."""
        return self.spec.name

    def forward(
        self,
        dist: ImageSource | Sequence[ImageSource],
        ref: ImageSource | Sequence[ImageSource] | ReferenceFeatures | None = None,
    ) -> Tensor:
        """Score images, as `Metric.forward` does.

        If the better end of the metric's range is open, there is no distance from it: with `as_loss`, the value to
        minimise is the mean score, negated where higher is better.

        Raises:
            InputError: If an image cannot be scored; a reference is missing, superfluous or of another size.
        """
        if not self.as_loss or isfinite(self.score_range[self.higher_is_better]):
            return super().forward(dist, ref)
        mean = self._scores(to_image_list(dist), ref).mean()
        return -mean if self.higher_is_better else mean

    def encode_images(self, ref: Tensor) -> Sequence[Tensor]:
        """Return the references (n,3,H,W) unchanged: the package computes all that it needs with each image."""
        return (ref,)

    def score_images(self, dist: Tensor, ref: ReferenceFeatures | None) -> Tensor:
        """Score images (n,3,H,W) in [0, 1], against references of the same size where there are any: (n,).

        Raises:
            InputError: If the package refuses an image, most often because it is too small, or there is no gradient.
        """
        references: Sequence[Tensor | None] = [None] * len(dist) if ref is None else ref.levels[0].split(1)
        pairs = zip(dist.split(1), references, strict=True)
        scores = torch.cat([self._score(image, reference) for image, reference in pairs])
        if self.as_loss and dist.requires_grad and not scores.requires_grad:
            raise InputError(f"{self.name} gives no gradient, so it cannot be a loss; leave out as_loss")
        return scores if self.as_loss else scores.detach()

    def _score(self, image: Tensor, reference: Tensor | None) -> Tensor:
        try:
            with quiet(), _same_draws(image.device):
                output = self.model(image, reference, with_gradient=self.as_loss)
        except (torch.cuda.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            height, width = image.shape[-2:]
            raise InputError(
                f"{self.name} cannot score an image of {width}x{height} in {image.dtype} on {image.device} "
                f"({_reason(error)}); try a larger one, float32 or the CPU"
            ) from error
        return output.reshape(1).to(image.dtype)


class PiqMetric(BaselineMetric):
    """A metric of piq, with piq's own defaults."""

    @classmethod
    def network(cls, name: str) -> "Network":
        """Make a metric of piq; one that fetches weights does so now."""
        entry = PIQ[name]
        made = getattr(importlib.import_module("piq"), entry.call)
        options = dict(entry.options)
        if name != "clip_iqa":  # gives a score for each image and has no such option
            options["reduction"] = "none"
        network = Network(made(**options)) if isinstance(made, type) else Network(made, options)
        if entry.downloads and not isinstance(made, type):
            # A function would fetch its weights with the first image, which is too late to report that it cannot.
            network(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(_SEED)), None, with_gradient=False)
        return network


class PyiqaMetric(BaselineMetric):
    """A metric of pyiqa, with pyiqa's own defaults."""

    @classmethod
    def network(cls, name: str) -> "Network":
        """Make a metric of pyiqa, which fetches its weights now."""
        return PyiqaNetwork(importlib.import_module("pyiqa").create_metric(name, device="cpu"))


class Network(nn.Module):
    """What scores one image or pair in a package.

    Args:
        scorer: A function or module that takes (1,3,H,W) images in [0, 1].
        options: Its keyword arguments.
    """

    anchor: nn.Parameter

    def __init__(self, scorer: Callable[..., Any], options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.scorer = scorer
        self.options = dict(options or {})
        # An empty parameter: a metric's dtype and device are those of its parameters, and many here have none.
        self.anchor = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, image: Tensor, reference: Tensor | None, *, with_gradient: bool) -> Tensor:
        """Score (1,3,H,W), against (1,3,H,W) where there is one: one number, in whichever shape."""
        images = (image,) if reference is None else (image, reference)
        return self.scorer(*images, **self.options)


class PyiqaNetwork(Network):
    """A metric of pyiqa, which decides itself whether gradients are computed and may return more than the score."""

    scorer: Any

    def __init__(self, scorer: Any) -> None:
        super().__init__(scorer)
        # One metric of pyiqa needs gradients for its score, and is always a loss.
        self.needs_gradient = bool(scorer.as_loss)
        scorer.loss_reduction = "none"

    def forward(self, image: Tensor, reference: Tensor | None, *, with_gradient: bool) -> Tensor:
        """Score (1,3,H,W), against (1,3,H,W) where there is one: one number, in whichever shape."""
        self.scorer.as_loss = with_gradient or self.needs_gradient
        output = super().forward(image, reference, with_gradient=with_gradient)
        return output[0] if isinstance(output, tuple) else output


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep a package's prints off stdout, which is for scores, and its warnings, which a user of ours cannot act on."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _same_draws(device: torch.device) -> Iterator[None]:
    """Give every image the same random numbers, and restore the generators."""
    state, legacy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            random.seed(_SEED)
            np.random.seed(_SEED)
            torch.manual_seed(_SEED)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(legacy)


@contextlib.contextmanager
def _explained(name: str, package: str) -> Iterator[None]:
    """Turn any error of a package that makes a metric into one line of ours."""
    try:
        yield
    except IqaError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"{name}: {package} cannot be used for it as installed ({_reason(error)}); install what is missing"
        ) from error
    except Exception as error:
        raise WeightsError(
            f"{name}: {package} cannot make it; most likely its weights cannot be fetched ({_reason(error)}); connect "
            f"to the network once, or put the files into the cache that {package} reads"
        ) from error


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Limit the wait for servers; where the Hub cannot be reached, let its client use its cache alone.

    That client tries five times with growing pauses, most of a minute where there is no network.
    """
    patience, offline = socket.getdefaulttimeout(), constants.HF_HUB_OFFLINE
    socket.setdefaulttimeout(CONNECT_SECONDS)
    constants.HF_HUB_OFFLINE = offline or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(patience)
        constants.HF_HUB_OFFLINE = offline


def _reachable(address: str) -> bool:
    """Tell whether a server answers at all; behind a proxy that cannot be known, so it is assumed."""
    parts = urlsplit(address)
    if parts.scheme in getproxies():
        return True
    try:
        port = parts.port or {"http": 80}.get(parts.scheme, 443)
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _reason(error: BaseException) -> str:
    """Return type and first line of an error, without the path of the home folder."""
    first = (str(error).strip().splitlines() or [""])[0].replace(os.path.expanduser("~"), "~")
    return f"{type(error).__name__}: {first}"[:200] if first else type(error).__name__
