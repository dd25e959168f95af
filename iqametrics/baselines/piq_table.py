"""The metrics of piq that score an image: the table is ours, checked against piq 0.8; no torch.

piq's own names are long (`multi_scale_ssim`) or are those of classes (`CLIPIQA`); the names here are those that its
documentation uses. Options are piq's defaults, with `data_range` 1, on RGB in [0, 1].
"""

from dataclasses import dataclass
from math import inf

from iqametrics.spec import MetricSpec, Mode


@dataclass(frozen=True, kw_only=True)
class PiqEntry:
    """A metric of piq.

    Attributes:
        mode: "fr" or "nr".
        call: Name of a function of piq, or of a class where it begins with a capital.
        better: "higher" or "lower".
        score_range: Nominal range: what piq's documentation or the formula says.
        paper: Authors and year; the title is behind the link.
        url: Where the paper is, as piq's documentation has it.
        downloads: Whether piq fetches weights from the network when it is first used.
        differentiable: Whether the score has a useful gradient.
        options: Keyword arguments besides `reduction`.
    """

    mode: Mode
    call: str
    better: str
    score_range: tuple[float, float]
    paper: str
    url: str
    downloads: bool = False
    differentiable: bool = True
    options: tuple[tuple[str, object], ...] = ()


PIQ: dict[str, PiqEntry] = {
    # piq adds 1e-8 to the mean squared error, so equal images score 80 dB and not infinity.
    "psnr": PiqEntry(
        mode="fr",
        call="psnr",
        better="higher",
        score_range=(0.0, 80.0),
        paper="Peak signal-to-noise ratio in decibels, over the three channels",
        url="https://en.wikipedia.org/wiki/Peak_signal-to-noise_ratio",
    ),
    "ssim": PiqEntry(
        mode="fr",
        call="ssim",
        better="higher",
        score_range=(0.0, 1.0),
        paper="SSIM (Wang et al., 2004)",
        url="https://ece.uwaterloo.ca/~z70wang/publications/ssim.pdf",
    ),
    "ms_ssim": PiqEntry(
        mode="fr",
        call="multi_scale_ssim",
        better="higher",
        score_range=(0.0, 1.0),
        paper="MS-SSIM (Wang et al., 2003)",
        url="https://ieeexplore.ieee.org/document/1292216",
    ),
    "iw_ssim": PiqEntry(
        mode="fr",
        call="information_weighted_ssim",
        better="higher",
        score_range=(0.0, 1.0),
        paper="IW-SSIM (Wang and Li, 2011)",
        url="https://ece.uwaterloo.ca/~z70wang/publications/IWSSIM.pdf",
    ),
    "vif_p": PiqEntry(
        mode="fr",
        call="vif_p",
        better="higher",
        score_range=(0.0, 1.0),
        paper="VIF in the pixel domain (Sheikh and Bovik, 2006)",
        url="https://ieeexplore.ieee.org/abstract/document/1576816/",
    ),
    "fsim": PiqEntry(
        mode="fr",
        call="fsim",
        better="higher",
        score_range=(0.0, 1.0),
        paper="FSIMc, with colour (Zhang et al., 2011)",
        url="https://ieeexplore.ieee.org/document/5705575",
    ),
    "vsi": PiqEntry(
        mode="fr",
        call="vsi",
        better="higher",
        score_range=(0.0, 1.0),
        paper="VSI (Zhang et al., 2014)",
        url="https://ieeexplore.ieee.org/document/6873260",
    ),
    "srsim": PiqEntry(
        mode="fr",
        call="srsim",
        better="higher",
        score_range=(0.0, 1.0),
        paper="SR-SIM, without colour (Zhang and Li, 2012)",
        url="https://sse.tongji.edu.cn/linzhang/ICIP12/ICIP-SR-SIM.pdf",
    ),
    "gmsd": PiqEntry(
        mode="fr",
        call="gmsd",
        better="lower",
        score_range=(0.0, 1.0),
        paper="GMSD (Xue et al., 2014)",
        url="https://arxiv.org/abs/1308.3052",
    ),
    "ms_gmsd": PiqEntry(
        mode="fr",
        call="multi_scale_gmsd",
        better="lower",
        score_range=(0.0, 1.0),
        paper="MS-GMSD, without colour (Zhang et al., 2017)",
        url="http://www.cse.ust.hk/~psander/docs/gradsim.pdf",
    ),
    "ms_gmsdc": PiqEntry(
        mode="fr",
        call="multi_scale_gmsd",
        better="lower",
        score_range=(0.0, inf),
        paper="MS-GMSDc, with colour (Zhang et al., 2017)",
        url="http://www.cse.ust.hk/~psander/docs/gradsim.pdf",
        options=(("chromatic", True),),
    ),
    "mdsi": PiqEntry(
        mode="fr",
        call="mdsi",
        better="lower",
        score_range=(0.0, inf),
        paper="MDSI (Ziaei Nafchi et al., 2016)",
        url="https://arxiv.org/abs/1608.07433",
    ),
    "haarpsi": PiqEntry(
        mode="fr",
        call="haarpsi",
        better="higher",
        score_range=(0.0, 1.0),
        paper="HaarPSI (Reisenhofer et al., 2018)",
        url="http://www.math.uni-bremen.de/cda/HaarPSI/publications/HaarPSI_preprint_v4.pdf",
    ),
    "dss": PiqEntry(
        mode="fr",
        call="dss",
        better="higher",
        score_range=(0.0, 1.0),
        paper="DSS (Balanov et al., 2015)",
        url="https://doi.org/10.1109/ICIP.2015.7351172",
    ),
    "content": PiqEntry(
        mode="fr",
        call="ContentLoss",
        better="lower",
        score_range=(0.0, inf),
        paper="Content loss of neural style transfer, VGG-16 (Gatys et al., 2015)",
        url="https://arxiv.org/abs/1508.06576",
        downloads=True,
    ),
    "style": PiqEntry(
        mode="fr",
        call="StyleLoss",
        better="lower",
        score_range=(0.0, inf),
        paper="Style loss of neural style transfer, VGG-16 (Gatys et al., 2015)",
        url="https://arxiv.org/abs/1508.06576",
        downloads=True,
    ),
    "lpips": PiqEntry(
        mode="fr",
        call="LPIPS",
        better="lower",
        score_range=(0.0, inf),
        paper="LPIPS, VGG-16 (Zhang et al., 2018)",
        url="https://arxiv.org/abs/1801.03924",
        downloads=True,
    ),
    "dists": PiqEntry(
        mode="fr",
        call="DISTS",
        better="lower",
        score_range=(0.0, 1.0),
        paper="DISTS (Ding et al., 2020)",
        url="https://arxiv.org/abs/2004.07728",
        downloads=True,
    ),
    "pieapp": PiqEntry(
        mode="fr",
        call="PieAPP",
        better="lower",
        score_range=(0.0, inf),
        paper="PieAPP (Prashnani et al., 2018)",
        url="https://arxiv.org/abs/1806.02067",
        downloads=True,
        options=(("enable_grad", True),),
    ),
    "brisque": PiqEntry(
        mode="nr",
        call="brisque",
        better="lower",
        score_range=(0.0, 100.0),
        paper="BRISQUE (Mittal et al., 2012)",
        url="https://live.ece.utexas.edu/publications/2012/TIP%20BRISQUE.pdf",
        downloads=True,
        differentiable=False,  # pixels are rounded, as in the authors' program
    ),
    "clip_iqa": PiqEntry(
        mode="nr",
        call="CLIPIQA",
        better="higher",
        score_range=(0.0, 1.0),
        paper="CLIP-IQA (Wang et al., 2023)",
        url="https://arxiv.org/abs/2207.12396",
        downloads=True,
        differentiable=False,
    ),
    # piq minimises it as a loss on noise; as a measure of quality it prefers a blurred image.
    "total_variation": PiqEntry(
        mode="nr",
        call="total_variation",
        better="lower",
        score_range=(0.0, inf),
        paper="Total variation, a loss that smooths: it is no measure of quality",
        url="https://www.wikiwand.com/en/Total_variation_denoising",
    ),
}


def piq_specs() -> dict[str, MetricSpec]:
    """Return the constants of piq's metrics, by the name after the slash."""
    return {
        name: MetricSpec(
            name=f"piq/{name}",
            mode=entry.mode,
            higher_is_better=entry.better == "higher",
            score_range=entry.score_range,
            range_is_bound=False,
            differentiable=entry.differentiable,
            paper=f"{entry.paper}; as piq computes it",
            paper_url=entry.url,
            factory="iqametrics.baselines.adapter:PiqMetric",
        )
        for name, entry in PIQ.items()
    }
