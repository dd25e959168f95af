"""The contract of every metric: images in, one score an image out, and what is constant about it."""

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from iqametrics.errors import InputError
from iqametrics.fingerprint import Fingerprint, make_fingerprint
from iqametrics.images import ImageSource, Sizing, check_pair, to_image_list
from iqametrics.nn.folding import scoring
from iqametrics.nn.precision import float32_copy, without_autocast
from iqametrics.novelty import NoveltyStatistics, find_novelty
from iqametrics.spec import MetricSpec, Mode, View
from iqametrics.tiles import TileScores, cut, starts, weigh
from iqametrics.weights.manifest import WEIGHTS_FOLDER
from iqametrics.weights.meaning import ScoreMeaning, find_meaning
from iqametrics.words import WordReadout, find_words


@dataclass(frozen=True)
class ReferenceFeatures:
    """What a full-reference metric computes of N references, cached so that it is computed once.

    Attributes:
        size: Height and width of the references before sizing; distorted images must have the same.
        levels: Tensors whose meaning is the method's, all with N as their first dimension.
    """

    size: tuple[int, int]
    levels: tuple[Tensor, ...]

    @classmethod
    def cat(cls, parts: "Sequence[ReferenceFeatures]") -> "ReferenceFeatures":
        """Join the features of references of one size."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(part.levels for part in parts), strict=True)
        return cls(parts[0].size, tuple(torch.cat(column) for column in columns))

    def expand(self, count: int) -> "ReferenceFeatures":
        """Repeat the features of one reference, without a copy; `count` references are returned unchanged."""
        return ReferenceFeatures(self.size, tuple(level.expand(count, *level.shape[1:]) for level in self.levels))

    @property
    def nbytes(self) -> int:
        """Memory that the features take."""
        return sum(level.nbytes for level in self.levels)


def _compute_on_one_thread() -> None:
    torch.set_num_threads(1)


# The threads of OpenMP do not survive a fork, and a forked process that waits for them hangs. torch's own DataLoader
# sets its workers to one thread for this reason.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_on_one_thread)


@contextmanager
def _computing_scores() -> Iterator[None]:
    with torch.no_grad(), scoring():
        yield


_MetricT = TypeVar("_MetricT", bound="Metric")
_Compute = Callable[[Tensor, ReferenceFeatures | None], Tensor]
_HALVES = (torch.float16, torch.bfloat16)


_COMPILED = "use torch.compile(metric), which keeps its checks and sizes"


def _refuse_tracing(name: str) -> None:
    if torch.jit.is_tracing():
        raise InputError(f"{name}: torch.jit.trace would freeze the size and the checks of one picture; {_COMPILED}")


class Metric(nn.Module):
    """A metric with its weights: `metric(dist)` or `metric(dist, ref)`.

    A metric is made by `create_metric`, is always in evaluation mode and has no trainable parameter. A method derives
    a class, declares `spec` and implements `build`, `score_images` and, for a full-reference metric, `encode_images`.

    Args:
        model: The network; its floating dtype and device are the metric's.
        sizing: The size at which it looks at images.
        tag: Name of the checkpoint, "untrained" where there is none.

    Attributes:
        model: The network.
        sizing: The size at which it looks at images, or at their tiles (see `look`).
        tag: Name of the checkpoint.
        as_loss: Whether calls return a loss with gradients in place of scores.
        alias: What it is called in place of name and tag, where two checkpoints have the same; None where they do not.
        base: Name of the bundled backbone that its checkpoint refers to; None where it holds its own.
        weights_sha256: SHA-256 of the checkpoint's file; None where it was not made from one.
    """

    spec: ClassVar[MetricSpec]
    default_sizing: ClassVar[Sizing]
    exact_in_half: ClassVar[bool] = True
    """Whether half precision costs a score little; where not, weights in half precision compute in float32."""

    def __init__(self, model: nn.Module, sizing: Sizing, *, tag: str) -> None:
        super().__init__()
        self.model = model
        self.sizing = self._whole = sizing
        self.tag = tag
        self.as_loss = False
        self.alias: str | None = None
        self.base: str | None = None
        self.weights_sha256: str | None = None
        self.requires_grad_(False)
        self.eval()

    # What a method implements.

    @classmethod
    def build(cls, config: Mapping[str, Any] | None) -> nn.Module:
        """Make the network of a checkpoint's config; of None, the paper-size one, freshly initialised."""
        raise NotImplementedError

    def score_images(self, dist: Tensor, ref: ReferenceFeatures | None) -> Tensor:
        """Score images of one size.

        Args:
            dist: (n,3,H,W) in [0, 1], sized, of the model's dtype and device.
            ref: Features of the n references; None for a no-reference metric.

        Returns:
            (n,) scores.
        """
        raise NotImplementedError

    def encode_images(self, ref: Tensor) -> Sequence[Tensor]:
        """Compute what `score_images` needs of references, n first: (n,3,H,W) as in `score_images`."""
        raise NotImplementedError

    def loss_images(self, dist: Tensor, ref: ReferenceFeatures | None) -> Tensor:
        """Compute what a call returns the mean of with `as_loss`: (n,), arguments as in `score_images`.

        It is the distance of the scores from the better end of `score_range`, unless `loss_is_of_score` says otherwise.
        """
        low, high = self.score_range
        scores = self.score_images(dist, ref)
        return high - scores if self.higher_is_better else scores - low

    @property
    def loss_is_of_score(self) -> bool:
        """Whether what is minimised with `as_loss` is the distance of the score from its better end."""
        return True

    def picture_levels(self, images: Tensor) -> Sequence[Tensor]:
        """Compute the levels of the backbone that `uncertainty` judges by; images as in `score_images`."""
        raise NotImplementedError

    # How a metric is made.

    @classmethod
    def from_checkpoint(
        cls, spec: MetricSpec, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], tag: str
    ) -> "Metric":
        """Make the metric that a checkpoint describes.

        Args:
            spec: The metric that was asked for.
            metadata: The checkpoint's own record (see `iqametrics.weights.checkpoint`).
            tensors: All tensors of the model, by name.
            tag: Name of the checkpoint.

        Raises:
            WeightsError: If the config makes no model, or the tensors do not fit it.
        """
        from iqametrics.weights.checkpoint import build_and_fill

        cls._check_spec(spec)
        model = build_and_fill(lambda: cls.build(metadata["config"]), tensors, source=f"{spec.name}.{tag}")
        metric = cls(model, Sizing.from_dict(metadata["sizing"]), tag=tag)
        metric.base = (metadata.get("backbone") or {}).get("name")
        return metric

    @classmethod
    def untrained(cls, spec: MetricSpec) -> "Metric":
        """Make the paper-size metric with random weights, to be trained or to be measured for speed."""
        cls._check_spec(spec)
        with torch.random.fork_rng(devices=[]):
            model = cls.build(None)
        return cls(model, cls.default_sizing, tag="untrained")

    @classmethod
    def _check_spec(cls, spec: MetricSpec) -> None:
        if spec != cls.spec:
            raise TypeError(f"{cls.__name__} is the metric {cls.spec.name}, not {spec.name}")

    def look(self, view: View) -> None:
        """Choose how images are looked at.

        Args:
            view: "fit": whole, at the checkpoint's size; "native": at their own size, in tiles (`iqametrics.tiles`).
        """
        self.sizing = self._whole.native() if view == "native" else self._whole

    # What is constant.

    @property
    def name(self) -> str:
        """Registered name, e.g. "pfd-iqa"."""
        return self.spec.name

    @property
    def full_name(self) -> str:
        """Name with the checkpoint's tag, e.g. "pfd-iqa.lite"."""
        return self.alias or f"{self.spec.name}.{self.tag}"

    @property
    def mode(self) -> Mode:
        """Whether it compares with a reference: "fr" does, "nr" does not."""
        return self.spec.mode

    @property
    def higher_is_better(self) -> bool:
        """Direction of the score."""
        return self.spec.higher_is_better

    @property
    def score_range(self) -> tuple[float, float]:
        """Nominal range, ascending."""
        return self.spec.score_range

    @property
    def range_is_bound(self) -> bool:
        """Whether scores can never leave `score_range`."""
        return self.spec.range_is_bound

    @property
    def differentiable(self) -> bool:
        """Whether the score has a useful gradient with respect to the distorted image."""
        return self.spec.differentiable

    @property
    def fingerprint(self) -> Fingerprint:
        """What its scores are made with: name, weights, versions and preprocessing."""
        parameter = next(self.parameters(), None)
        return make_fingerprint(
            self.spec.name,
            tag=self.tag,
            weights=self.weights_sha256,
            preprocessing=self.sizing.to_dict(),
            dtype="float32" if parameter is None else str(parameter.dtype).removeprefix("torch."),
        )

    def __setattr__(self, name: str, value: Any) -> None:
        # The others are properties, which refuse by themselves.
        if name in ("spec", "default_sizing"):
            raise AttributeError(f"{name} of {type(self).__name__} is constant")
        super().__setattr__(name, value)

    def train(self, mode: bool = True) -> "Metric":
        """Stay in evaluation mode, also as a part of a module that is being trained: a score has no dropout."""
        return super().train(False)

    @property
    def knows_uncertainty(self) -> bool:
        """Whether it is stored what its training photographs are like, so that `uncertainty` can tell."""
        return self._novelty() is not None

    @property
    def meaning(self) -> ScoreMeaning | None:
        """What its scores mean, by pictures that people have scored; None where nobody has measured it."""
        if self.weights_sha256 is None or self.sizing.tile is not None:
            return None
        return find_meaning(self.weights_sha256, WEIGHTS_FOLDER)

    def _novelty(self) -> NoveltyStatistics | None:
        return None if self.base is None else find_novelty(self.base)

    # What a user calls.

    if TYPE_CHECKING:

        def __call__(
            self,
            dist: ImageSource | Sequence[ImageSource],
            ref: ImageSource | Sequence[ImageSource] | ReferenceFeatures | None = None,
        ) -> Tensor:
            """Score images; see `forward`."""
            ...

    def forward(
        self,
        dist: ImageSource | Sequence[ImageSource],
        ref: ImageSource | Sequence[ImageSource] | ReferenceFeatures | None = None,
    ) -> Tensor:
        """Score images.

        Args:
            dist: A float tensor (N,3,H,W) or (3,H,W) in [0, 1], a path, the bytes of a file, a PIL image, an array, or
                a list of these of any sizes.
            ref: The references, for a full-reference metric: as many as there are distorted images, or one for all of
                them, or what `encode_reference` returned.

        Returns:
            (N,) scores in the order of `dist`, float32 (float64 where the model is), on the metric's device. With
            `as_loss`, a value to minimise: the mean distance of the scores from the better end of `score_range`, or of
            features where that restores better (`loss_is_of_score`); no gradient goes to the references.

        Raises:
            InputError: If an image cannot be scored, its score would not be a finite number, or a reference is missing,
                superfluous or of another size.
        """
        _refuse_tracing(self.full_name)
        if self.as_loss:
            return self.checked(self._computed(to_image_list(dist), ref, loss=True)).mean()
        with _computing_scores():
            return self.checked(self._computed(to_image_list(dist), ref))

    def score_with_gradient(
        self,
        dist: ImageSource | Sequence[ImageSource],
        ref: ImageSource | Sequence[ImageSource] | ReferenceFeatures | None = None,
    ) -> Tensor:
        """Score images, with gradients to them, for a loss of your own; the metric is made with `as_loss=True`.

        Args:
            dist: As for a call of the metric.
            ref: As for a call of the metric; no gradient goes to it.

        Returns:
            (N,) scores as the metric means them: higher or lower is better, see `higher_is_better`.

        Raises:
            InputError: If a call of the metric would refuse the images, or the metric was made without `as_loss`.
        """
        if not self.as_loss:
            raise InputError(f"{self.name} was made to score; make it with as_loss=True to have gradients")
        return self._computed(to_image_list(dist), ref)

    @_computing_scores()
    def uncertainty(self, dist: ImageSource | Sequence[ImageSource]) -> Tensor:
        """Tell how unlike the photographs of training images are, of which a score is therefore less certain.

        Args:
            dist: Images, as a call of the metric takes them.

        Returns:
            For each image, (N,), the share of photographs like those of training, but not used in it, that are less
            unlike them: 0.5 for a usual photograph, above 0.99 for what only one photograph in a hundred is. It says
            nothing of how far people differ about an image.

        Raises:
            InputError: If an image cannot be scored, or nothing is stored of the features of training.
        """
        statistics = self._novelty()
        if statistics is None:
            raise InputError(
                f"{self.full_name}: what its training photographs are like is not stored, so uncertainty is not known; "
                "bpclip-nr.lite and pfd-iqa.lite have it"
            )
        metric = self.in_working_precision()
        shares = [
            statistics.shares(metric.picture_levels(metric._prepare([image], self._whole)))
            for image in to_image_list(dist)
        ]
        return self.checked(torch.cat(shares))

    @torch.no_grad()
    def words(self, dist: ImageSource | Sequence[ImageSource]) -> list[dict[str, float]]:
        """Tell which words are true of images, by a readout beside the metric that changes no score.

        Args:
            dist: Images, as a call of the metric takes them.

        Returns:
            For each image the words, such as "blurry", with the probability that each stands for, the surest first.
            Only those that told their damage from other pictures with an area under the ROC curve of 0.9 or more.

        Raises:
            InputError: If an image cannot be read, or no readout is stored for the backbone.
        """
        readout = self._readout()
        if readout is None:
            raise InputError(
                f"{self.full_name}: no readout of words is stored for its backbone; bpclip-nr.lite and pfd-iqa.lite "
                "have one"
            )
        return [readout.words(self.picture_levels(self._prepare([image])))[0] for image in to_image_list(dist)]

    def _readout(self) -> WordReadout | None:
        return None if self.base is None else find_words(self.base)

    def told(self, image: Tensor, score: float) -> dict[str, str]:
        """Say what is known of an image besides what the network itself shows, as facts of its explanation.

        Args:
            image: One image as `score_images` takes it, (1, 3, H, W).
            score: Its score.
        """
        facts = {} if self.meaning is None else {"means": self.meaning.text(score)}
        readout = self._readout()
        if readout is not None:
            with torch.no_grad():
                (words,) = readout.words(self.picture_levels(image))
            said = ", ".join(f"{word} ({share:.2f})" for word, share in words.items())
            facts["looks"] = said or "no damage that it has a true word for"
        return facts

    @_computing_scores()
    def encode_reference(self, ref: ImageSource) -> ReferenceFeatures:
        """Compute what the metric needs of a reference, to be given as `ref` for any number of distorted images.

        Args:
            ref: One image.

        Raises:
            InputError: If the image cannot be read, there is more than one, or the metric takes no reference.
        """
        self._check_mode(has_reference=True)
        images = to_image_list(ref)
        if len(images) != 1:
            raise InputError(f"encode_reference takes one image, not {len(images)}; call it once a reference")
        return self.in_working_precision()._encode(images)

    def checked(self, values: Tensor) -> Tensor:
        """Return values of N images, (N,), once each is known to be finite.

        Raises:
            InputError: If a value is NaN or infinite, which finite weights can cause, and so can half precision.
        """
        finite = values.isfinite()
        if not finite.all():
            index = int(finite.logical_not().nonzero()[0])
            which = f"image {index}" if len(values) > 1 else "the image"
            raise InputError(
                f"{self.full_name} gives {values[index].item()} for {which}; the checkpoint or the dtype does not suit "
                "it, try float32"
            )
        return values

    def __repr__(self) -> str:
        # One line, not the network: that is `print(metric.model)`.
        parameter = next(self.parameters(), None)
        where = "" if parameter is None else f", {parameter.dtype} on {parameter.device}".replace("torch.", "")
        better = "higher" if self.higher_is_better else "lower"
        loss = ", as a loss" if self.as_loss else ""
        return f"<{type(self).__name__} {self.full_name}: {self.mode}, {better} is better{loss}{where}>"

    def in_working_precision(self: _MetricT) -> _MetricT:
        """Return what computes the scores: the metric itself, or a copy in float32 of one in half precision.

        A CPU is up to ten times slower in half precision than in float32, and a score that is made of differences of
        nearly equal features loses its digits in it (`exact_in_half`). Then half precision is that of the weights only.
        """
        parameter = next(self.model.parameters(), None)
        if parameter is None or parameter.dtype not in _HALVES:
            return self
        if parameter.device.type != "cpu" and self.exact_in_half:
            return self
        twin = copy.copy(self)
        twin.__dict__["_modules"] = {**self._modules, "model": float32_copy(self.model)}
        return twin

    def _computed(
        self,
        images: list[Tensor],
        ref: ImageSource | Sequence[ImageSource] | ReferenceFeatures | None,
        *,
        loss: bool = False,
    ) -> Tensor:
        parameter = next(self.model.parameters(), None)
        inexact = parameter is not None and not self.exact_in_half
        with without_autocast(parameter) if inexact and parameter is not None else nullcontext():
            return self.in_working_precision()._scores(images, ref, loss=loss)

    def __prepare_scriptable__(self) -> None:
        """Refuse torch.jit.script, which asks for this first."""
        raise InputError(f"{self.full_name}: torch.jit.script cannot compile a metric; {_COMPILED}")

    def _check_mode(self, *, has_reference: bool) -> None:
        if self.mode == "fr" and not has_reference:
            raise InputError(f"{self.name} compares with a reference: call metric(dist, ref)")
        if self.mode == "nr" and has_reference:
            raise InputError(f"{self.name} takes no reference: call metric(dist)")

    def _scores(
        self,
        images: list[Tensor],
        ref: ImageSource | Sequence[ImageSource] | ReferenceFeatures | None,
        *,
        loss: bool = False,
    ) -> Tensor:
        self._check_mode(has_reference=ref is not None)
        references = self._reference_getter(images, ref)
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(tuple(image.shape[-2:]), []).append(index)
        compute = self.loss_images if loss else self.score_images
        parts = [self._group([images[i] for i in group], references(group), compute) for group in groups.values()]
        order = [index for group in groups.values() for index in group]
        scores = torch.cat(parts)[torch.tensor(order, device="cpu").argsort().to(parts[0].device)]
        return scores if scores.dtype == torch.float64 else scores.float()

    def _group(self, images: list[Tensor], ref: ReferenceFeatures | None, compute: _Compute) -> Tensor:
        if self.sizing.tile is None:
            return compute(self._prepare(images), ref)
        pixels = [None] * len(images) if ref is None else ref.levels[0]
        pairs = zip(images, pixels, strict=True)
        return torch.stack([self._tiles(image, of_it, compute).score for image, of_it in pairs])

    def _tiles(self, image: Tensor, ref: Tensor | None, compute: _Compute) -> TileScores:
        """Score an image (3,H,W) tile by tile; `ref` are the pixels of its reference."""
        tile = self.sizing.tile or max(image.shape[-2:])
        rows, columns = starts(image.shape[-2], tile), starts(image.shape[-1], tile)
        judged = image if ref is None else ref
        weights, scores = [], []
        for top in rows:
            for left in columns:
                features = None
                if ref is not None:
                    with torch.no_grad():
                        features = self._features([cut(ref, top, left, tile)])
                scores.append(compute(self._prepare([cut(image, top, left, tile)]), features))
                weights.append(weigh(cut(judged, top, left, tile)).to(scores[-1]))
        shape = (len(rows), len(columns))
        return TileScores(torch.cat(scores).reshape(shape), torch.stack(weights).reshape(shape), image)

    @_computing_scores()
    def tile_scores(self, dist: ImageSource, ref: ImageSource | None = None) -> TileScores:
        """Score the tiles of one image, which tells where in a large picture the damage is.

        Args:
            dist: One image.
            ref: Its reference, for a full-reference metric.

        Raises:
            InputError: If the metric looks at whole images (make it with `view="native"`), there is not exactly one
                image, or its reference is missing, superfluous or of another size.
        """
        if self.sizing.tile is None:
            raise InputError(f'{self.full_name} looks at whole images; make it with view="native" to have tiles')
        images = to_image_list(dist)
        if len(images) != 1:
            raise InputError(f"tile_scores takes one image, not {len(images)}; call it once for each")
        self._check_mode(has_reference=ref is not None)
        metric = self.in_working_precision()
        features = metric._reference_getter(images, ref)([0])
        return metric._tiles(images[0], None if features is None else features.levels[0][0], metric.score_images)

    def _reference_getter(
        self, images: list[Tensor], ref: ImageSource | Sequence[ImageSource] | ReferenceFeatures | None
    ) -> Callable[[list[int]], ReferenceFeatures | None]:
        """Check the references against the images; return what gives the features for a group of images."""
        if ref is None:
            return lambda group: None
        if not isinstance(ref, ReferenceFeatures):
            refs = to_image_list(ref)
            if len(refs) not in (1, len(images)):
                raise InputError(f"{len(images)} images and {len(refs)} references: give one for each, or one for all")
            if len(refs) == len(images):
                for index, (image, reference) in enumerate(zip(images, refs, strict=True)):
                    check_pair(image, reference, f"image {index}" if len(images) > 1 else "image")
                return lambda group: self._encode([refs[i] for i in group])
            ref = self._encode(refs)
        held, count = ref, len(ref.levels[0])
        if count not in (1, len(images)) or any(tuple(image.shape[-2:]) != held.size for image in images):
            sizes = sorted({f"{image.shape[-1]}x{image.shape[-2]}" for image in images})
            raise InputError(
                f"{len(images)} images of {', '.join(sizes)} do not fit {count} reference(s) of "
                f"{held.size[1]}x{held.size[0]}; crop or resize them to the same width x height first"
            )
        return lambda group: held.expand(len(group))

    @_computing_scores()
    def _encode(self, images: list[Tensor]) -> ReferenceFeatures:
        height, width = images[0].shape[-2:]
        if self.sizing.tile is not None:
            # Tiles are encoded one at a time, when they are needed: features of all would take gigabytes.
            return ReferenceFeatures((height, width), (torch.stack(images),))
        return self._features(images)

    def _features(self, ref: list[Tensor]) -> ReferenceFeatures:
        height, width = ref[0].shape[-2:]
        return ReferenceFeatures((height, width), tuple(self.encode_images(self._prepare(ref))))

    def _check_whole(self, what: str) -> None:
        if self.sizing.tile is not None:
            raise InputError(f'{what} is of a whole image; make the metric with view="fit", or call tile_scores')

    def _prepare(self, images: list[Tensor], sizing: Sizing | None = None) -> Tensor:
        """Bring images of one size to the model's device, size and dtype: (n,3,H',W'); None: the metric's sizing."""
        parameter = next(self.model.parameters())
        # Scaling is done in full precision also for a half-precision model.
        working = torch.float64 if parameter.dtype == torch.float64 else torch.float32
        moved = [image.to(parameter.device, working) for image in images]
        # One image is not copied to be a batch of one: that of a camera takes a hundred megabytes.
        batch = moved[0][None] if len(moved) == 1 else torch.stack(moved)
        return (sizing or self.sizing).apply(batch).to(parameter.dtype)
