"""What is refused before anything is trained: data from which nothing could be learnt, chosen or compared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError, InputError, RecipeError
from iqametrics.images import check_sizes, image_size
from iqametrics.training.recipe import Recipe

if TYPE_CHECKING:
    from iqametrics.training.data import RunData, RunImage

_FEWEST = 3
_CHOSEN_BY = {"best-val": "validation", "best-test": "test"}


def check_learnable(samples: Sequence[Sample], title: str) -> None:
    """Make sure that there is something to learn.

    Raises:
        DataError: If there are too few images, or the scores are all equal.
    """
    if len(samples) < _FEWEST:
        raise DataError(f"{title}: {len(samples)} images are too few to train on; give at least {_FEWEST}")
    if len({sample.mos for sample in samples}) == 1:
        raise DataError(
            f"{title}: all {len(samples)} scores are {samples[0].mos:g}; there is nothing to learn from them"
        )


def check_parts(data: "RunData", recipe: Recipe) -> None:
    """Make sure that the parts can be trained on, measured on and chosen by.

    Raises:
        DataError: If a part is empty or too small, or the scores of the one that chooses the epoch are all equal.
    """
    title = recipe.data.images.title
    if not data.train:
        raise DataError(f"{title}: no image is left to train on; change [split]")
    for name, part in (("validation", data.validation), ("test", data.test)):
        if 0 < len(part) < _FEWEST:
            raise DataError(f"{title}: {len(part)} {name} images have no correlation; hold out more (split.{name})")
    if recipe.train.selection in _CHOSEN_BY:
        _check_choice(data, _CHOSEN_BY[recipe.train.selection], title)


def _check_choice(data: "RunData", name: str, title: str) -> None:
    part: list[RunImage] = getattr(data, name)
    if not part:
        raise DataError(
            f"{title}: no {name} images to choose an epoch by; hold some out (split.{name}) or set train.selection = "
            "'last'"
        )
    if len({item.sample.mos for item in part}) == 1:
        raise DataError(
            f"{title}: all {len(part)} {name} images have the same score, so no epoch can be chosen by their SRCC; "
            f"hold out more or others (split.{name}, split.seed), or set train.selection = 'last'"
        )


def check_ranked(recipe: Recipe, *, learns_order: bool) -> None:
    """Make sure that ranks are not taken for opinion scores.

    Raises:
        RecipeError: If data are ranked, and the loss does not read it.
    """
    if not learns_order and any(extra.ranked for extra in recipe.data.extra):
        raise RecipeError(
            f"data.extra.ranked = true: the loss of {recipe.metric.name} compares no ranks as it stands; "
            "set model.loss.order_weight where the method has it, else leave these data out"
        )


def check_references(recipe: Recipe, data: "RunData") -> None:
    """Make sure that every image has a reference of its own size.

    Raises:
        DataError: If one has none, or another size than its reference.
    """
    sizes: dict[object, tuple[int, int]] = {}
    for item in data.all_items:
        image, reference = item.sample.image, item.sample.reference
        if reference is None:
            raise DataError(
                f"{recipe.images[item.source].title}: the metric compares with references, but a row has none; fill "
                "the reference column"
            )
        for path in (image, reference):
            if path not in sizes:
                sizes[path] = image_size(path)
        try:
            check_sizes(sizes[image], sizes[reference], str(image))
        except InputError as error:
            raise DataError(str(error)) from error
