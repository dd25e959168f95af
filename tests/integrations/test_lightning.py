"""Lightning logs the quality of what a network makes."""

import pytest
import torch
from torch import nn

from iqametrics import create_metric
from iqametrics.errors import InputError

pytest.importorskip("lightning", reason="the extra is not installed")

from lightning.pytorch import LightningModule, Trainer

from iqametrics.integrations.lightning import LogQuality

SHARP = torch.rand(5, 3, 40, 48, generator=torch.Generator().manual_seed(0))
LOADER = torch.utils.data.DataLoader(SHARP, batch_size=2)

# Lightning's own advice for longer runs than these.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


class Darken(LightningModule):
    """Makes images darker; learns nothing."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def validation_step(self, batch):
        return self.factor * batch

    test_step = validation_step


def trainer(tmp_path, *callbacks):
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=list(callbacks),
    )


def test_the_mean_of_each_epoch_is_logged(tmp_path):
    callbacks = [
        LogQuality("bpclip-fr.lite", lambda outputs, batch: (outputs, batch)),
        LogQuality("bpclip-nr.lite", lambda outputs, batch: outputs),
    ]
    run = trainer(tmp_path, *callbacks)
    expected = {
        "bpclip-fr.lite": create_metric("bpclip-fr.lite")(SHARP * 0.5, SHARP).mean().item(),
        "bpclip-nr.lite": create_metric("bpclip-nr.lite")(SHARP * 0.5).mean().item(),
    }
    for step, function in (("val", run.validate), ("test", run.test), ("val", run.validate)):
        (logged,) = function(Darken(), LOADER, verbose=False)
        assert logged == pytest.approx({f"{step}/{name}": value for name, value in expected.items()}, abs=1e-6)


def test_what_is_no_pair_is_refused(tmp_path):
    callback = LogQuality("bpclip-fr.lite", lambda outputs, batch: (outputs, batch, batch))
    with pytest.raises(InputError, match="gave 3 tensors"):
        trainer(tmp_path, callback).validate(Darken(), LOADER, verbose=False)


def test_the_metric_is_no_part_of_the_module(tmp_path):
    callback = LogQuality("bpclip-nr.lite", lambda outputs, batch: outputs)
    module = Darken()
    trainer(tmp_path, callback).validate(module, LOADER, verbose=False)
    assert list(module.state_dict()) == ["factor"]
    assert callback.state_dict() == {}
