"""Every error that a user of the package can meet.

    IqaError
    ├── InputError            an image, tensor or pair that cannot be scored (also a ValueError)
    │   └── ImageReadError    a file or byte string that cannot be decoded
    ├── UnknownMetricError    a metric, tag or option name that does not exist (also a LookupError)
    ├── WeightsError          a checkpoint that is missing, damaged or does not fit the model
    ├── DataError             a dataset, CSV or score file that is missing or wrong
    ├── RecipeError           a training recipe with an unknown key or an impossible value
    ├── FleetError            workers that cannot be started, or could not finish
    ├── TrainingError         a training run that cannot go on (NaN loss, nothing to learn from)
    ├── ExportError           a metric that cannot be exported, or a file that does not compute what the metric does
    └── MissingExtraError     a feature whose optional dependency is not installed

Each message is one line: what (the file or value), what is wrong, what to do.

    try:
        score = metric("photo.jpg")
    except iqametrics.IqaError as error:
        print(error)
"""


class IqaError(Exception):
    """Base of all errors raised on purpose by this package."""


class InputError(IqaError, ValueError):
    """An image, tensor or pair that cannot be scored."""


class ImageReadError(InputError):
    """A file or byte string that cannot be decoded as an image."""


class UnknownMetricError(IqaError, LookupError):
    """A metric or tag that does not exist."""


class WeightsError(IqaError):
    """A checkpoint that is missing, damaged or does not fit the model."""


class DataError(IqaError):
    """A dataset, CSV or score file that is missing or wrong."""


class RecipeError(IqaError):
    """A training recipe with an unknown key or an impossible value."""


class TrainingError(IqaError):
    """A training run that cannot go on."""


class ExportError(IqaError):
    """A metric that cannot be exported, or a file that does not compute what the metric does."""


class FleetError(IqaError):
    """Workers that cannot be started, or could not finish."""


class MissingExtraError(IqaError, ImportError):
    """A feature whose optional dependency is not installed."""
