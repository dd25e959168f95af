"""Rows of the papers' tables with other people's methods: which adapter runs each, and how far its result compares.

In the papers, a method with anything to train is trained anew on each dataset's training part. A package has one set of
weights, trained on one dataset: its result there is on images that it has seen, and its results elsewhere are across
datasets, unlike the papers' intra-dataset columns. What the weights were trained on is taken from the packages' names
and settings.
"""

from dataclasses import dataclass

from iqametrics.spec import Mode

_FITTED = "needs no training, so its result on any dataset is comparable"


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A method of the papers' tables.

    Attributes:
        adapter: Name for `create_metric`, e.g. "piq/fsim"; None where neither package offers the method.
        trained_on: Datasets, by our names or those of their papers, whose images its weights have seen; a result on
            these says nothing.
        caveat: Further differences from the paper's result.
    """

    adapter: str | None
    trained_on: tuple[str, ...] = ()
    caveat: str = ""


def _nothing(caveat: str = "neither piq nor pyiqa offers it") -> PaperRow:
    return PaperRow(adapter=None, caveat=caveat)


_WITHOUT_REFERENCE: dict[str, PaperRow] = {
    "TOPIQ": PaperRow(adapter="pyiqa/topiq_nr", trained_on=("koniq10k",)),
    "MANIQA": PaperRow(adapter="pyiqa/maniqa", trained_on=("koniq10k",)),
}

PAPER_ROWS: dict[str, PaperRow] = {
    # Full reference, nothing to train.
    "PSNR": PaperRow(adapter="piq/psnr", caveat="over the three channels; papers differ on this"),
    "SSIM": PaperRow(adapter="piq/ssim", caveat="per channel, shrunk so that the shorter side is about 256"),
    "MS-SSIM": PaperRow(adapter="piq/ms_ssim", caveat="per channel; needs 161 pixels on the shorter side"),
    "VIF": PaperRow(
        adapter="pyiqa/vif", caveat="in the wavelet domain as the authors; piq/vif_p is in the pixel domain"
    ),
    "FSIMc": PaperRow(adapter="piq/fsim", caveat=_FITTED),
    "MAD": PaperRow(adapter="pyiqa/mad", caveat=f"{_FITTED}; takes seconds for an image"),
    "VSI": PaperRow(adapter="piq/vsi", caveat=_FITTED),
    # Full reference, trained.
    "DeepQA": _nothing(),
    "PieAPP": PaperRow(adapter="pyiqa/pieapp", trained_on=("PieAPP",)),
    "LPIPS": PaperRow(adapter="pyiqa/lpips", trained_on=("BAPPS",), caveat="AlexNet, version 0.1"),
    "LPIPS-VGG": PaperRow(adapter="pyiqa/lpips-vgg", trained_on=("BAPPS",)),
    "DISTS": PaperRow(adapter="pyiqa/dists", trained_on=("kadid10k",)),
    "CVRKD": _nothing(),
    "JSPL": _nothing(),
    "AHIQ": PaperRow(adapter="pyiqa/ahiq", trained_on=("PIPAL",)),
    # These two have a row in full-reference tables and another meaning without a reference: see `paper_row`.
    "TOPIQ": PaperRow(adapter="pyiqa/topiq_fr", trained_on=("kadid10k",)),
    "MANIQA": _nothing("takes no reference in piq or pyiqa; the paper has it among full-reference methods"),
    # No reference, fitted to statistics of natural images or on LIVE.
    "DIIVINE": _nothing(),
    "BRISQUE": PaperRow(adapter="pyiqa/brisque", trained_on=("live",), caveat="the papers fitted it to each dataset"),
    "NIQE": PaperRow(adapter="pyiqa/niqe", caveat="fitted to pristine photographs only"),
    "ILNIQE": PaperRow(adapter="pyiqa/ilniqe", caveat="fitted to pristine photographs only"),
    # No reference, trained.
    "CONTRIQUE": _nothing(),
    "Re-IQA": _nothing(),
    "ARNIQA": PaperRow(adapter="pyiqa/arniqa", trained_on=("koniq10k",), caveat="only its regressor was trained there"),
    "CL-ML": _nothing(),
    "MUSIQ": PaperRow(adapter="pyiqa/musiq", trained_on=("koniq10k",)),
    "GRepQ": _nothing(),
    "CLIP-IQA": PaperRow(adapter="pyiqa/clipiqa", caveat="needs no opinion scores"),
    "LIQE": PaperRow(adapter="pyiqa/liqe", trained_on=("koniq10k",)),
    "KonCept512": _nothing(),
    "BIECON": _nothing(),
    "MEON": _nothing(),
    "WaDIQaM": PaperRow(adapter="pyiqa/wadiqam_nr", trained_on=("koniq10k",)),
    "DBCNN": PaperRow(adapter="pyiqa/dbcnn", trained_on=("koniq10k",)),
    "TIQA": _nothing(),
    "MetaIQa": PaperRow(adapter="pyiqa/metaiqa", trained_on=("clive", "tid2013", "kadid10k")),
    "P2P-BM": PaperRow(adapter="pyiqa/paq2piq", trained_on=("flive",)),
    "HyperIQa": PaperRow(adapter="pyiqa/hyperiqa", trained_on=("koniq10k",)),
    "TReS": PaperRow(adapter="pyiqa/tres", trained_on=("koniq10k",)),
    "DACNN": _nothing(),
    "DEIQT": _nothing(),
}
"""By the row's name as the papers print it, without the number of the reference."""


def paper_row(name: str, mode: Mode) -> PaperRow:
    """Find the adapter of a row.

    Args:
        name: The row's name as the paper prints it, without the number of the reference.
        mode: "fr" where the table's datasets have references, "nr" otherwise: TOPIQ and MANIQA differ.

    Returns:
        The row; one without an adapter where no package offers the method.

    Examples:
        >>> paper_row("TOPIQ", "nr").adapter, paper_row("DEIQT", "nr").adapter
        ('pyiqa/topiq_nr', None)
    """
    special = _WITHOUT_REFERENCE.get(name) if mode == "nr" else None
    return special or PAPER_ROWS.get(name) or _nothing()
