"""Sizes and open choices of BPCLIP, in the record that a checkpoint stores."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from iqametrics.common.fields import read_fields
from iqametrics.errors import RecipeError
from iqametrics.nn.levels import LEVELS
from iqametrics.spec import Mode

NrGate = Literal["linear", "gelu"]
Propagation = Literal["equation", "progressive"]
Similarity = Literal["softmax", "pairs", "cosine", "scaled_cosine"]

_CHOICES = {
    "mode": get_args(Mode),
    "nr_gate": get_args(NrGate),
    "propagation": get_args(Propagation),
    "similarity": get_args(Similarity),
}


@dataclass(frozen=True, kw_only=True)
class BpclipConfig:
    """Everything but the weights that determines the function `Bpclip` computes.

    The defaults are the paper's or, where the paper is silent, this project's reading of it.

    Attributes:
        mode: "fr" compares with a reference (eq. 1), "nr" sees the distorted image only (eq. 2).
        backbone: "resnet50", "efficientnet_lite0" or "timm/NAME", see `iqametrics.nn.backbones.build_backbone`.
        frozen_levels: Number k of the lowest backbone levels that are not trained, 0 to 5.
        frozen_pooling: Whether the gates and W_f of eq. 2 are not trained either, so that what the training stores of
            an image is its gated window means, a fiftieth of its levels; "nr" with a frozen backbone only.
        pixel_mean: Mean of red, green and blue, in [0, 1], that the backbone's weights expect.
        pixel_std: Standard deviation that goes with it.
        width: Width D of a token.
        heads: Attention heads of both branches; divides `width`.
        gate_max_width: Largest number of channels inside a gate phi_i.
        gate_reduction: Divisor r: a gate has C_i / r channels inside, `gate_max_width` at most.
        nr_gate: Whether W_f of eq. 2 is linear, as printed, or followed by a GELU.
        standardise_levels: Whether each channel of each level is first standardised, by stored means and deviations.
        position_size: Length of the learnable height and width encodings, in tokens.
        propagation: Query of the information branch: G_i ("equation", eq. 4 as printed) or G_i + G'_{i-1}
            ("progressive", the text's bottom-up propagation).
        feed_forward: Width of a feed-forward part after the attention of both branches, as a multiple of D; 0 for
            none, as eq. 4 and 5 print it. TOPIQ's blocks have 4.
        dropout: Probability of dropping an attention weight in training.
        information_branch: False for the ablation without MSCA: the weight branch's tokens are used as they are.
        weight_branch: False for the ablation without SA: the information branch's tokens are not weighted.
        text_anchors: False for the ablation without CLIP's texts: the score is regressed from the features x_i.
        text_width: Width C_t of the text space.
        n_anchors: Number K of text anchors.
        similarity: Softmax over the anchors of tau * cosine (Figure 1), softmax within each antonym pair (as CLIP-IQA
            does), the plain cosine (eq. 8), or tau * cosine.
        logit_scale: Initial value of tau.
        similarity_norm: Whether a LayerNorm precedes the score MLP.
        score_hidden: Hidden width of the score MLP.
        relative: Whether the score is 1 + s(dist, ref) - s(ref, ref), and 1 at most, s being eq. 9, in place of
            s(dist, ref), so that an identical pair scores 1 on any content and no other more; "fr" only.

    Raises:
        RecipeError: If a value is impossible.
    """

    mode: Mode
    backbone: str = "resnet50"
    frozen_levels: int = 0
    frozen_pooling: bool = False
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    width: int = 256
    heads: int = 4
    gate_max_width: int = 64
    gate_reduction: int = 4
    nr_gate: NrGate = "linear"
    standardise_levels: bool = False
    position_size: int = 32
    propagation: Propagation = "equation"
    feed_forward: int = 0
    dropout: float = 0.1
    information_branch: bool = True
    weight_branch: bool = True
    text_anchors: bool = True
    text_width: int = 1024
    n_anchors: int = 40
    similarity: Similarity = "softmax"
    logit_scale: float = 100.0
    similarity_norm: bool = False
    score_hidden: int = 64
    relative: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise RecipeError(f"{name} = {getattr(self, name)!r} is not known; choose one of {', '.join(choices)}")
        for name, (possible, remedy) in _RANGES.items():
            if not possible(getattr(self, name)):
                raise RecipeError(f"{name} = {getattr(self, name)} is impossible; give {remedy}")
        if self.width % self.heads or self.width % 2:
            raise RecipeError(f"width = {self.width} must be even and divisible by heads = {self.heads}; change one")
        if len(self.pixel_mean) != 3 or len(self.pixel_std) != 3 or min(self.pixel_std) <= 0:
            raise RecipeError(
                f"pixel_mean = {self.pixel_mean}, pixel_std = {self.pixel_std} do not normalise RGB; "
                "give three numbers each, deviations above 0"
            )
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.similarity == "pairs" and self.n_anchors % 2:
            raise RecipeError(f"n_anchors = {self.n_anchors} cannot be paired; give an even number")
        if self.frozen_pooling and (self.mode == "fr" or self.frozen_levels < LEVELS):
            raise RecipeError(
                f"frozen_pooling = true needs mode = 'nr' and frozen_levels = {LEVELS}: a gate that sees a pair, or "
                "features that still change, cannot be computed once; leave it out"
            )
        if self.relative and self.mode == "nr":
            raise RecipeError("relative = true compares with a reference, but mode = 'nr'; leave it out")
        if not (self.information_branch or self.weight_branch):
            raise RecipeError("information_branch and weight_branch are both false; leave at least one of them on")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "BpclipConfig":
        """Read a config from a TOML table or a checkpoint's metadata.

        Raises:
            RecipeError: If a key is unknown, `mode` is missing, or a value has the wrong type or is impossible.
        """
        return read_fields(cls, values, "model", error=RecipeError)

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-compatible values, which `from_dict` reads back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


_SIZES = (
    *("width", "heads", "gate_max_width", "gate_reduction"),
    *("position_size", "text_width", "n_anchors", "score_hidden"),
)
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    **{name: (lambda value: value >= 1, "a whole number from 1 up") for name in _SIZES},
    "frozen_levels": (lambda value: 0 <= value <= LEVELS, f"0 to {LEVELS}"),
    "feed_forward": (lambda value: value >= 0, "0 or more"),
    "dropout": (lambda value: 0 <= value < 1, "a probability below 1"),
    "logit_scale": (lambda value: value > 0, "a number above 0"),
}
