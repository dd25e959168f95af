"""Sizes and open choices of PFD-IQA and of its teacher, in the records that checkpoints store."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, get_args

from iqametrics.common.fields import read_fields
from iqametrics.errors import RecipeError
from iqametrics.nn.levels import CELL, LEVELS

CropSpace = Literal["image", "feature"]
Norm = Literal["batch", "group"]
Alignment = Literal["equation", "variance_preserving"]
TimeGrid = Literal["start", "half"]
GammaHead = Literal["sigmoid", "softmax"]
TimeEmbedding = Literal["sinusoid", "table"]
CropAverage = Literal["probabilities", "logits"]
TextTower = Literal["frozen", "trained"]

ENCODER_WIDTHS: Mapping[str, int | None] = {
    "deit3_small_patch16_224": 384,
    "clip_vit_b16": 512,
    "clip_vit_b32": 512,
    "efficientnet_lite0": None,
}
"""The encoders and the width of their map; None where a projection gives any width, as for "timm/NAME"."""

TIME_TABLE = 1280
"""Entries of a learned table of time steps, as many as DiffKD's has."""

_CHOICES = {
    "crop_space": get_args(CropSpace),
    "norm": get_args(Norm),
    "alignment": get_args(Alignment),
    "time_grid": get_args(TimeGrid),
    "gamma_head": get_args(GammaHead),
    "time_embedding": get_args(TimeEmbedding),
    "denoiser_norm": get_args(Norm),
    "crop_average": get_args(CropAverage),
    "text_tower": get_args(TextTower),
}
_Config = TypeVar("_Config", bound="EncoderConfig")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Config fields of both student and teacher: an image encoder, windows, and a text space.

    Attributes:
        encoder: One of `ENCODER_WIDTHS`, or a network of timm with five levels as "timm/NAME".
        frozen_levels: Number k of the lowest levels of a convolutional encoder that are not trained, 0 to 5.
        pixel_mean: Mean of red, green and blue, in [0, 1], that the encoder's weights expect.
        pixel_std: Standard deviation that goes with it.
        standardise_levels: Whether each channel of a convolutional encoder's levels is first standardised, by stored
            means and deviations.
        text_width: Width C_t of the text space, in which the diffusion runs too.
        grid: Number of rows, and of columns, of the map of a window.
        crop_size: Side of a window in pixels.
        crop_space: Whether windows are cut from the image, each encoded by itself, or from the maps of the whole
            image, encoded once.
        n_crops: Number of windows by which a whole image is scored (fewer where the image is too small for as many).
        logit_scale: Factor of a cosine before a softmax; CLIP's is 100.

    Raises:
        RecipeError: If a value is impossible.
    """

    encoder: str
    frozen_levels: int = 0
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    standardise_levels: bool = False
    text_width: int = 512
    grid: int = 14
    crop_size: int = 224
    crop_space: CropSpace = "image"
    n_crops: int = 10
    logit_scale: float = 100.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            _check_value(name, value)
        self._check_encoder()
        if len(self.pixel_mean) != 3 or len(self.pixel_std) != 3 or min(self.pixel_std) <= 0:
            raise RecipeError(
                f"pixel_mean = {self.pixel_mean}, pixel_std = {self.pixel_std} do not normalise RGB; "
                "give three numbers each, deviations above 0"
            )

    @property
    def map_width(self) -> int:
        """Channels of the encoder's map."""
        return self.text_width

    @property
    def window(self) -> int:
        """Side of a window, in pixels or in cells, by what it is cut from."""
        return self.crop_size if self.crop_space == "image" else self.grid

    def _check_encoder(self) -> None:
        if self.encoder not in ENCODER_WIDTHS and not self.encoder.startswith("timm/"):
            raise RecipeError(
                f"encoder = {self.encoder!r} is not known; choose one of {', '.join(ENCODER_WIDTHS)}, or timm/NAME"
            )
        width = ENCODER_WIDTHS.get(self.encoder)
        if width is not None and width != self.map_width:
            raise RecipeError(f"{self.encoder} gives maps of width {width}, not {self.map_width}; change the width")
        cell = CELL if width is None else CELL // 2
        if self.crop_size != self.grid * cell:
            raise RecipeError(
                f"crop_size = {self.crop_size} does not give {self.encoder} a grid of {self.grid}; "
                f"give {self.grid * cell}"
            )
        if width is not None and self.crop_space != "image":
            raise RecipeError(f"{self.encoder} sees one size only; set crop_space = 'image'")
        if self.crop_space == "image" and self.frozen_levels:
            raise RecipeError(
                f"frozen_levels = {self.frozen_levels} needs windows of the maps; set crop_space = 'feature'"
            )

    @classmethod
    def from_dict(cls: type[_Config], values: Mapping[str, Any]) -> _Config:
        """Read a config from a TOML table or a checkpoint's metadata.

        Raises:
            RecipeError: If a key is unknown, or a value has the wrong type or is impossible.
        """
        return read_fields(cls, values, "model", error=RecipeError)

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-compatible values, which `from_dict` reads back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class PfdIqaConfig(EncoderConfig):
    """Everything but the weights that determines the function `PfdIqa` computes.

    The defaults are the paper's or, where the paper is silent, this project's reading of it.

    Attributes:
        encoder_width: Width D of the encoder's map F_s.
        mask_ratio: Probability beta that a channel is masked in training, eq. 1.
        norm: BatchNorm (paper) or GroupNorm between the convolutions of a reconstructor, eq. 2.
        alignment: How eq. 10 mixes: gamma and 1 - gamma ("equation"), or gamma and sqrt(1 - gamma^2).
        timesteps: Length T of the noise schedule.
        start_step: Time step t0 at which denoising starts, where `time_grid` is "start".
        time_grid: Time steps of DDIM: from `start_step` down, evenly spaced, never 0 ("start"), or the lower half of a
            grid of 2 S steps, 0 included ("half", as in DiffKD).
        gamma_head: How gamma of eq. 10 is predicted: one output and a sigmoid, or two and a softmax (DiffKD).
        gamma_reduction: Divisor of the width inside gamma's bottleneck; DiffKD's is 8.
        time_embedding: How the time step enters the denoiser: sinusoids through an MLP, or a learned table of
            `TIME_TABLE` entries (DiffKD).
        denoiser_norm: Norm of the bottlenecks of denoiser and gamma: GroupNorm before each convolution, or BatchNorm
            after each, also after the denoiser's last ("batch", DiffKD).
        feature_projection: Whether F_0 passes a 1x1 convolution and a BatchNorm before the feature loss (DiffKD).
        sampling_steps: Number S of DDIM steps.
        beta_start: First variance of the linear schedule.
        beta_end: Last variance of the linear schedule.
        denoiser_heads: Heads of the cross-attention to the text; divides `text_width`.
        panel: Number of queries of the decoder; each gives one opinion.
        decoder_heads: Heads of the decoder; divides `encoder_width`.
        seed: Seed of the noise in scoring.
        n_samples: Number of draws of that noise over which a score is averaged.
        use_pda: False for the ablation without priors and without text (table 3).
        use_pdr: False for the ablation without diffusion (table 3).
        use_ana: False for the ablation without noise alignment, gamma = 1 (table 4).
        use_ppa: False for the ablation without aggregated prompts: the mean prompt is the condition (table 4).
    """

    encoder: str = "deit3_small_patch16_224"
    encoder_width: int = 384
    mask_ratio: float = 0.15
    norm: Norm = "batch"
    alignment: Alignment = "equation"
    timesteps: int = 1000
    start_step: int = 500
    time_grid: TimeGrid = "start"
    gamma_head: GammaHead = "sigmoid"
    gamma_reduction: int = 4
    time_embedding: TimeEmbedding = "sinusoid"
    denoiser_norm: Norm = "group"
    feature_projection: bool = False
    sampling_steps: int = 5
    beta_start: float = 1e-4
    beta_end: float = 0.02
    denoiser_heads: int = 8
    panel: int = 6
    decoder_heads: int = 6
    seed: int = 0
    n_samples: int = 1
    use_pda: bool = True
    use_pdr: bool = True
    use_ana: bool = True
    use_ppa: bool = True

    @property
    def map_width(self) -> int:
        """Channels of the encoder's map."""
        return self.encoder_width

    def __post_init__(self) -> None:
        super().__post_init__()
        for width, heads in (("encoder_width", "decoder_heads"), ("text_width", "denoiser_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise RecipeError(
                    f"{width} = {getattr(self, width)} is not divisible by {heads} = {getattr(self, heads)}; change one"
                )
        self._check_times()
        denoisings = self.n_crops * self.n_samples * self.sampling_steps
        if denoisings > _MAXIMUM_DENOISINGS:
            raise RecipeError(
                f"n_crops * n_samples * sampling_steps = {denoisings} steps of denoising for one image are impossible; "
                f"give {_MAXIMUM_DENOISINGS} at most"
            )
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise RecipeError(
                f"beta_start = {self.beta_start}, beta_end = {self.beta_end}: give 0 < beta_start <= beta_end < 1"
            )

    def _check_times(self) -> None:
        if not self.sampling_steps <= self.start_step < self.timesteps:
            raise RecipeError(
                f"start_step = {self.start_step} must lie from sampling_steps = {self.sampling_steps} up to, "
                f"but not including, timesteps = {self.timesteps}"
            )
        if self.time_grid == "half" and 2 * self.sampling_steps > self.timesteps:
            raise RecipeError(
                f"time_grid = 'half' has no {self.sampling_steps} steps in half of timesteps = {self.timesteps}; "
                "lower sampling_steps"
            )
        if self.time_embedding == "table" and self.timesteps > TIME_TABLE:
            raise RecipeError(
                f"time_embedding = 'table' has {TIME_TABLE} entries, not {self.timesteps}; lower timesteps"
            )


@dataclass(frozen=True, kw_only=True)
class PfdTeacherConfig(EncoderConfig):
    """Everything but the weights that determines the function `PfdTeacher` computes.

    The encoder is the paper's, CLIP ViT-B/16 with CLIP's pixel statistics.

    Attributes:
        scenes: Whether the prompts name one of LIQE's nine scenes too: 495 prompts in place of 55.
        crop_average: What is averaged over the crops of an image: their probabilities, or their logits before the
            softmax, as in LIQE. In training it matters where `train.views_together` keeps an image's crops together.
        text_tower: Whether CLIP's text tower is trained too, as in LIQE, or the prompts stay what it made of them.
    """

    encoder: str = "clip_vit_b16"
    pixel_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    pixel_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    n_crops: int = 15
    scenes: bool = False
    crop_average: CropAverage = "probabilities"
    text_tower: TextTower = "frozen"


_MINIMUM = {
    **dict.fromkeys(("text_width", "grid", "crop_size", "n_crops", "encoder_width", "n_samples"), 1),
    **dict.fromkeys(("timesteps", "sampling_steps", "denoiser_heads", "decoder_heads", "panel", "gamma_reduction"), 1),
    "frozen_levels": 0,
    "seed": 0,
}
# Fields that the sizes of the tensors do not bound: a hostile checkpoint could otherwise cost hours or all memory.
_MAXIMUM = {
    "frozen_levels": LEVELS,
    "timesteps": 100_000,
    "n_crops": 100,
    "n_samples": 100,
    "sampling_steps": 100,
    "seed": 2**40,
}
_MAXIMUM_DENOISINGS = 2500


def _check_value(name: str, value: Any) -> None:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise RecipeError(f"{name} = {value!r} is not known; choose one of {', '.join(_CHOICES[name])}")
    if name in _MINIMUM and value < _MINIMUM[name]:
        raise RecipeError(f"{name} = {value} is impossible; give a whole number from {_MINIMUM[name]} up")
    if name in _MAXIMUM and value > _MAXIMUM[name]:
        raise RecipeError(f"{name} = {value} is impossible; give a number from {_MINIMUM[name]} to {_MAXIMUM[name]}")
    if name == "mask_ratio" and not 0 <= value < 1:
        raise RecipeError(f"mask_ratio = {value} is no probability; give 0 up to, but not including, 1")
    if name == "logit_scale" and not 0 < value <= 1e6:
        raise RecipeError(f"logit_scale = {value} is impossible; give a number above 0, and 1e6 at most")
