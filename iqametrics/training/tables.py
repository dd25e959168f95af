"""The tables of a recipe that say how it is trained: [train], [sizing], [cache] and [output]."""

import os
from dataclasses import dataclass
from typing import Literal

_MOST_THREADS = 16


@dataclass(frozen=True, kw_only=True)
class TrainTable:
    """How the model is trained.

    Attributes:
        epochs: Passes over the training part.
        batch_size: Crops a step, or images with `views_together`; batches of an epoch differ by at most one in size.
        steps_per_epoch: Steps of an epoch, from as many passes over the training part as they need, or a part of one;
            0 for one pass.
        lr: Peak learning rate of the head.
        backbone_lr: Peak learning rate of the backbone's trainable stages; none takes `lr`.
        weight_decay: Weight decay of AdamW, on matrices and kernels only.
        optimizer: "adamw".
        schedule: "cosine" (linear warm-up, then cosine to 0), "one-cycle" (cosine up from lr/25, cosine down to
            nearly 0), "cosine-annealing" (the closed form of PyTorch's CosineAnnealingLR, an epoch at a time, which
            climbs again after `t_max`), "step" (times `step_factor` every `step_epochs`) or "constant".
        warmup: Share of the steps in which the learning rate rises ("cosine", "one-cycle").
        warmup_epochs: Epochs of "step" in which the learning rate rises, a step at a time, before its drops.
        warmup_start: Factor of the learning rate at the first step of them.
        step_after_warmup: Whether the drops of "step" are counted from the end of its warm-up, so that the peak is kept
            for `step_epochs`; otherwise from the first epoch.
        t_max: Half period of "cosine-annealing" in epochs.
        step_epochs: Epochs between drops of "step".
        step_factor: Factor of one drop.
        crop: Side of the training crops in pixels; a multiple of 32 where features are cached.
        views: Crops of each image an epoch.
        views_together: Whether the crops of an image follow one another in one step, so that an objective that can
            may judge the image by all of them.
        flips: Any of "h", "v": flips with probability one half.
        grad_clip: Largest gradient norm; 0 for no clipping.
        ema: Decay of the moving average of the weights that is validated and kept; 0 for none.
        selection: Which epoch is kept: the "last", the one with the best validation SRCC, or the one with the best
            test SRCC, as some published code does, which makes the test result too good.
        seed: Seed of initial weights, order, crops and whatever the loss draws.
        validate_every: Epochs between validations (the last epoch is always validated).
        save_minutes: Minutes between saved states inside an epoch; 0 saves at the end of epochs only.
        save_every: Steps between saved states inside an epoch, beside `save_minutes`; 0 for none.
        keep_state: Whether the states stay when the run is done; else they are removed once its results are written.
        eval_batch_size: Whole images at a time in validation.
        amp: Precision of the forward pass: "none" (float32), "bfloat16", or "float16" with a loss scaler.
        accumulate: Number of parts of a batch, one forward and backward pass each, to save memory.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda" or "mps".
        workers: Threads that prepare batches; "auto" for one a processor, 16 at most, divided among the processes.
        tf32: Where an NVIDIA GPU may round float32 factors to TF32: in "convolutions" (torch's default), in "all"
            products of matrices too, or in "none".
        cudnn_benchmark: Whether cuDNN tries its algorithms for each new size and takes the fastest.
        deterministic: Whether a GPU computes the same bits in each run; slower.
        channels_last: Whether images and kernels have their channels last in memory.
        compile: Backend of torch.compile for the loss of a step, or "none".
        checkpointing: Whether activations of the denoising steps (PFD-IQA's student) are computed again in the
            backward pass in place of being kept.
        fused: Whether AdamW updates all parameters in one kernel; none for where there is an NVIDIA GPU.
    """

    epochs: int = 10
    batch_size: int = 32
    steps_per_epoch: int = 0
    lr: float = 1e-3
    backbone_lr: float | None = None
    weight_decay: float = 1e-5
    optimizer: Literal["adamw"] = "adamw"
    schedule: Literal["cosine", "one-cycle", "cosine-annealing", "step", "constant"] = "cosine"
    warmup: float = 0.05
    warmup_epochs: int = 0
    warmup_start: float = 1e-3
    step_after_warmup: bool = True
    t_max: int = 50
    step_epochs: int = 3
    step_factor: float = 0.1
    crop: int = 384
    views: int = 1
    views_together: bool = False
    flips: tuple[Literal["h", "v"], ...] = ("h",)
    grad_clip: float = 0.0
    ema: float = 0.0
    selection: Literal["last", "best-val", "best-test"] = "best-val"
    seed: int = 0
    validate_every: int = 1
    save_minutes: float = 10.0
    save_every: int = 0
    keep_state: bool = False
    eval_batch_size: int = 8
    amp: Literal["none", "bfloat16", "float16"] = "none"
    accumulate: int = 1
    device: str = "auto"
    workers: int | Literal["auto"] = "auto"
    tf32: Literal["none", "convolutions", "all"] = "convolutions"
    cudnn_benchmark: bool = False
    deterministic: bool = False
    channels_last: bool = True
    compile: Literal["none", "inductor", "aot_eager", "eager"] = "none"
    checkpointing: bool = False
    fused: bool | None = None

    @property
    def threads(self) -> int:
        """Number of threads that prepare batches."""
        if self.workers != "auto":
            return self.workers
        local = os.environ.get("LOCAL_WORLD_SIZE", "1")
        share = processors() // (int(local) if local.isdigit() else 1)
        return min(max(share, 1), _MOST_THREADS)

    @property
    def crops_together(self) -> int:
        """How many crops stand one after the other in each step."""
        return self.views if self.views_together else 1


@dataclass(frozen=True, kw_only=True)
class SizingTable:
    """The resizing of every image before anything else, in training and in the finished metric alike.

    Attributes:
        min_side: Images with a shorter side below this are scaled up to it; 0 for the side of the training crops.
        max_side: Images with a longer side above this are scaled down to it; 0 for no limit.
        short_side: Every image is scaled so that its shorter side has this length, before the other two; 0 for none.
    """

    min_side: int = 0
    max_side: int = 0
    short_side: int = 0


@dataclass(frozen=True, kw_only=True)
class CacheTable:
    """What is computed of the images once, and kept on the disk: features of the frozen levels, else pictures.

    Attributes:
        enabled: Whether the features are computed once and then read, instead of at each step.
        dtype: "float16" or "float32" on the disk.
        folder: Parent of the caches; empty for `cache` beside the run's folder.
        images: Whether images are decoded and sized once, and kept in 8 bits, where no features are.
        images_gb: Most that the pictures of one sizing may take, in GB; the others are decoded each time.
    """

    enabled: bool = False
    dtype: Literal["float16", "float32"] = "float16"
    folder: str = ""
    images: bool = True
    images_gb: float = 50.0


@dataclass(frozen=True, kw_only=True)
class OutputTable:
    """Metadata and format of the checkpoint.

    Attributes:
        licence: Terms of the weights.
        sources: Data and starting weights, one line each.
        dtype: "float32" or "float16" in the file.
    """

    licence: str = ""
    sources: tuple[str, ...] = ()
    dtype: Literal["float32", "float16"] = "float32"


def processors() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
