"""Sizes and open choices of PFD-IQA and of its teacher, in records that a checkpoint stores."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, get_args

from iqametrics.config import typed_value
from iqametrics.errors import RecipeError

CropSpace = Literal["image", "feature"]
Norm = Literal["batch", "group"]
Alignment = Literal["equation", "variance_preserving"]

CELL = 32
"""Side in pixels of a cell, the smallest step of a window in feature space."""

ENCODER_WIDTHS: Mapping[str, int | None] = {
    "deit3_small_patch16_224": 384,
    "clip_vit_b16": 512,
    "efficientnet_lite0": None,
}
"""The encoders and the width of the map that they give; None where a projection gives any width, as for "timm/NAME"."""

_CHOICES = {
    "crop_space": get_args(CropSpace),
    "norm": get_args(Norm),
    "alignment": get_args(Alignment),
}
_Config = TypeVar("_Config", bound="EncoderConfig")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What student and teacher both have: an image encoder, windows to look through, and a text space.

    Attributes:
        encoder: one of `ENCODER_WIDTHS`, or a network of timm with five levels as "timm/NAME".
        frozen_levels: number k of levels, 0 to 5, below which a convolutional encoder is not trained.
        pixel_mean: mean of red, green and blue, in [0, 1], that the encoder's weights expect.
        pixel_std: standard deviation that goes with it.
        standardise_levels: whether each channel of a convolutional encoder's levels is brought to the stored mean 0
            and deviation 1 first.
        text_width: width C_t of the text space, which is that of the diffusion too.
        grid: rows and columns of the map that a window gives.
        crop_size: side of a window in pixels.
        crop_space: whether windows are cut from the image, each encoded by itself, or from the maps of the whole
            image, encoded once.
        n_crops: windows in which a whole image is scored (fewer where the image has no room for as many).
        logit_scale: factor of a cosine before a softmax; CLIP's is 100.

    Raises:
        RecipeError: if a value is impossible.
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
        """Channels of the map that the encoder gives."""
        return self.text_width

    @property
    def window(self) -> int:
        """Side of a window, in pixels or cells, whichever it is cut from."""
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
            RecipeError: if a key is unknown, or a value has the wrong type or is impossible.
        """
        known = {field.name: field for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise RecipeError(f"unknown model keys: {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**{name: typed_value(name, value, known[name].default) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Give the config as JSON can hold it; `from_dict` reads it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class PfdIqaConfig(EncoderConfig):
    """Everything that decides which function `PfdIqa` computes, apart from its weights.

    The defaults are the paper's, and where the paper is silent this project's reading of it.

    Attributes:
        encoder_width: width D of the encoder's map F_s.
        mask_ratio: probability beta that a channel is masked in training, eq. 1.
        norm: BatchNorm (paper) or GroupNorm between the convolutions of a reconstructor, eq. 2.
        alignment: how eq. 10 mixes: gamma and 1 - gamma ("equation"), or gamma and sqrt(1 - gamma^2).
        timesteps: length T of the noise schedule.
        start_step: time step t0 at which denoising starts.
        sampling_steps: number S of DDIM steps.
        beta_start: first variance of the linear schedule.
        beta_end: last variance of the linear schedule.
        denoiser_heads: heads of the cross-attention to the text; divides `text_width`.
        panel: number of queries, and so of opinions, of the decoder.
        decoder_heads: heads of the decoder; divides `encoder_width`.
        seed: seed of the noise that scoring draws.
        n_samples: draws of that noise that are averaged.
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
        """Channels of the map that the encoder gives."""
        return self.encoder_width

    def __post_init__(self) -> None:
        super().__post_init__()
        for width, heads in (("encoder_width", "decoder_heads"), ("text_width", "denoiser_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise RecipeError(
                    f"{width} = {getattr(self, width)} is not divisible by {heads} = {getattr(self, heads)}; change one"
                )
        if not self.sampling_steps <= self.start_step < self.timesteps:
            raise RecipeError(
                f"start_step = {self.start_step} must lie from sampling_steps = {self.sampling_steps} up to, "
                f"but not including, timesteps = {self.timesteps}"
            )
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise RecipeError(
                f"beta_start = {self.beta_start}, beta_end = {self.beta_end}: give 0 < beta_start <= beta_end < 1"
            )


@dataclass(frozen=True, kw_only=True)
class PfdTeacherConfig(EncoderConfig):
    """Everything that decides which function `PfdTeacher` computes, apart from its weights.

    The defaults are the paper's: CLIP ViT-B/16 with CLIP's pixel statistics, and fifteen windows in testing.
    """

    encoder: str = "clip_vit_b16"
    pixel_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    pixel_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    n_crops: int = 15


_MINIMUM = {
    **dict.fromkeys(("text_width", "grid", "crop_size", "n_crops", "encoder_width", "n_samples"), 1),
    **dict.fromkeys(("timesteps", "sampling_steps", "denoiser_heads", "decoder_heads", "panel"), 1),
    "frozen_levels": 0,
    "seed": 0,
}
# What no tensor's size contradicts: a hostile checkpoint could otherwise cost hours or all memory.
_MAXIMUM = {"frozen_levels": 5, "timesteps": 100_000, "n_crops": 10_000, "n_samples": 1000, "seed": 2**40}


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
