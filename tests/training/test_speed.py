"""Fields of [train] that change how fast a run is: what a CPU can show of them is that results stay."""

import dataclasses
import json
import os

import pytest
import torch
import training_fake
import training_real
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from training_fake import assert_same_weights, history, weights, write_recipe

from iqametrics.errors import RecipeError, TrainingError, WeightsError
from iqametrics.objective import Batch
from iqametrics.training import run, tables
from iqametrics.training.distributed import Loss
from iqametrics.training.optimizer import make_optimizer
from iqametrics.training.precision import Precision, check_compiler, device_settings
from iqametrics.training.recipe import read_recipe
from iqametrics.training.tables import TrainTable
from iqametrics.weights.checkpoint import load_checkpoint


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    with training_fake.registered(monkeypatch):
        yield


def settings():
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    strict = torch.are_deterministic_algorithms_enabled()
    return (products.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic, strict)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (False, True, False, False, False)),
        ({"tf32": "none"}, (False, False, False, False, False)),
        ({"tf32": "all"}, (True, True, False, False, False)),
        ({"cudnn_benchmark": True}, (False, True, True, False, False)),
        ({"deterministic": True}, (False, True, False, True, True)),
    ],
)
def test_what_torch_keeps_for_the_process_is_set_and_restored(changes, expected):
    before, workspace = settings(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    with device_settings(TrainTable(**changes)):
        assert settings() == expected
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) >= ("deterministic" in changes)
    assert settings() == before
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == workspace


def test_the_default_is_what_torch_does_by_itself():
    before = settings()
    with device_settings(TrainTable()):
        assert settings() == before


def test_workers_are_the_processors_divided_among_the_processes(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(tables, "processors", lambda: 12)
    assert (TrainTable().threads, TrainTable(workers=3).threads, TrainTable(workers=0).threads) == (12, 3, 0)
    monkeypatch.setattr(tables, "processors", lambda: 96)
    assert TrainTable().threads == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert TrainTable().threads == 12
    monkeypatch.setattr(tables, "processors", lambda: 2)
    assert TrainTable().threads == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.tf32=yes"], r"train\.tf32"),
        (["train.compile=fast"], r"train\.compile"),
        (["train.workers=many"], r"train\.workers"),
        (["train.workers=-1"], r"train\.workers = -1: give 0 or more, or 'auto'"),
        (["train.workers=1000"], r"train\.workers = 1000: give 256 or less"),
        (["train.save_minutes=-1"], r"train\.save_minutes"),
        (["cache.images_gb=-1"], r"cache\.images_gb"),
        (["train.cudnn_benchmark=true", "train.deterministic=true"], "only one of them can hold"),
    ],
)
def test_impossible_values_are_refused(tmp_path, overrides, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(write_recipe(tmp_path, dataset=False), overrides)


def test_a_backend_that_cannot_compile_is_told_before_the_run(monkeypatch):
    def compile_nothing(function, backend):
        raise OSError(f"{backend}: no compiler\nis here")

    monkeypatch.setattr(torch, "compile", compile_nothing)
    check_compiler("none", torch.device("cpu"))
    with pytest.raises(
        RecipeError, match=r"^train\.compile = 'inductor': cannot compile here \(inductor: no compiler is"
    ):
        check_compiler("inductor", torch.device("cpu"))


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
def test_without_half_precision_no_autocast_is_made(monkeypatch, device):
    """torch 2.4 knows no autocast of MPS, not even one that is off."""
    monkeypatch.setattr(torch, "autocast", None)
    with Precision("none", torch.device(device)).autocast():
        pass


def test_a_device_without_a_fused_step_is_told(monkeypatch):
    def refuse(*_, fused, **__):
        raise RuntimeError("`fused=True` requires a GPU")

    monkeypatch.setattr(torch.optim, "AdamW", refuse)
    with pytest.raises(RecipeError, match=r"^train\.fused = true: cpu has no fused AdamW"):
        make_optimizer([{"params": [], "lr": 1.0}], TrainTable(fused=True), torch.device("cpu"))


@pytest.mark.parametrize(("device", "fused"), [("cpu", False), ("cuda", True), ("mps", False)])
def test_adamw_is_fused_by_itself_on_an_nvidia_gpu_only(monkeypatch, device, fused):
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, fused: (groups, fused))
    found = make_optimizer([{"params": [], "lr": 0.5}], TrainTable(), torch.device(device))
    assert found == ([{"params": [], "lr": 0.5, "peak_lr": 0.5}], fused)


def batch(device: str = "cpu") -> Batch:
    """A batch of two images with everything that a batch may have."""
    return Batch(
        dist=[torch.zeros(2, 3, 4, 4, device=device)],
        ref=[torch.zeros(2, 3, 4, 4, device=device)],
        mos=torch.zeros(2, device=device),
        distortion=torch.zeros(2, dtype=torch.long, device=device),
        source=torch.zeros(2, dtype=torch.long, device=device),
        keys=["a", "b"],
        chains=torch.zeros(2, 2, dtype=torch.long, device=device),
        scenes=torch.zeros(2, 9, device=device),
        seeds=torch.tensor([3, 4]),
    )


def test_noise_is_drawn_on_the_device_of_the_batch(monkeypatch):
    made = []

    class Recorded:
        def __init__(self, device):
            made.append((device.type, self))

        def manual_seed(self, seed):
            self.seed = seed
            return self

    monkeypatch.setattr(torch, "Generator", Recorded)
    batch("meta").generators()
    assert [(device, generator.seed) for device, generator in made] == [("meta", 3), ("meta", 4)]


def test_every_tensor_is_pinned_and_copied_without_waiting_but_the_seeds(monkeypatch):
    pinned, moved = [], []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    one = batch()
    held = [*one.dist, *one.ref, one.mos, one.distortion, one.source, one.chains, one.scenes]
    assert one.pinned().seeds is one.seeds
    assert {id(tensor) for tensor in pinned} == {id(tensor) for tensor in held}
    move = Tensor.to
    monkeypatch.setattr(Tensor, "to", lambda tensor, *a, **k: moved.append(k) or move(tensor, *a, **k))
    assert batch().to("meta", non_blocking=True).mos.device.type == "meta"
    assert moved == [{"non_blocking": True}] * len(held)


def folding(graph, inputs):
    """Compile as inductor does in one point: what is only multiplied by 1 or detached is the tensor itself."""
    for node in graph.graph.nodes:
        same = node.target is torch.ops.aten.mul.Tensor and node.args[1] == 1
        if same or node.target in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            node.replace_all_uses_with(node.args[0])
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return make_boxed_func(graph.forward)


class Weighted(nn.Module):
    """An objective whose loss is its one part with a weight of 1, and whose part is detached."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def loss(self, batch):
        part = (self.layer(batch.dist[0].mean((2, 3))).squeeze(1) - batch.mos).square().mean()
        return 1.0 * part, {"part": part.detach()}


BACKENDS = [aot_autograd(fw_compiler=folding), pytest.param("inductor", marks=pytest.mark.slow)]


def slopes(objective, batch, backend):
    """The gradient of a step by parameter, None where there is none."""
    torch._dynamo.reset()
    objective.zero_grad(set_to_none=True)
    torch.manual_seed(2)
    loss, _ = Loss(objective, backend)(batch)
    loss.backward()
    return {name: parameter.grad for name, parameter in objective.named_parameters()}


def assert_same_slopes(objective, batch, backend):
    expected, found = slopes(objective, batch, "none"), slopes(objective, batch, backend)
    assert any(slope is not None for slope in expected.values())
    for name, slope in expected.items():
        assert (slope is None) == (found[name] is None), name
        if slope is not None:
            torch.testing.assert_close(found[name], slope, rtol=1e-3, atol=1e-3 * float(slope.abs().max()) + 1e-7)


@pytest.mark.parametrize("backend", BACKENDS, ids=["folding", "inductor"])
def test_a_compiled_loss_keeps_its_gradient(backend):
    if backend == "inductor":
        try:
            check_compiler(backend, torch.device("cpu"))
        except RecipeError as error:
            pytest.skip(str(error))
    assert_same_slopes(Weighted(), dataclasses.replace(batch(), mos=torch.tensor([0.2, 0.7])), backend)


# torch hides this warning of its own where it makes it, which an error filter undoes.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.slow
@pytest.mark.parametrize("metric", training_real.MODELS)
def test_a_compiled_step_of_a_method_has_the_gradient_of_the_plain_one(metric):
    """For every trained parameter, with a backend that shares equal tensors."""
    objective, crops = training_real.step_of(metric)
    assert_same_slopes(objective, crops, BACKENDS[0])


@pytest.mark.slow
class TestRuns:
    @pytest.mark.parametrize(
        ("overrides", "exact"),
        [
            (["train.workers='auto'"], True),
            (["train.tf32='none'"], True),
            (["train.tf32='all'"], True),
            (["train.cudnn_benchmark=true"], True),
            (["train.deterministic=true"], True),
            (["train.channels_last=false"], False),
            (["train.fused=true"], False),
            (["train.compile='eager'"], False),
            (["train.compile='aot_eager'"], False),
            (["train.save_minutes=0", "train.save_every=0"], True),
        ],
    )
    def test_the_field_does_not_change_what_is_learnt(self, tmp_path, overrides, exact):
        recipe = write_recipe(tmp_path)
        plain = run.train(recipe, ["train.epochs=2"], tmp_path / "plain")
        other = run.train(recipe, ["train.epochs=2", *overrides], tmp_path / "other")
        if exact:
            assert_same_weights(plain, other)
        assert_close_weights(plain, other)
        losses = [[float(row["train_loss"]) for row in history(folder)] for folder in (plain, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)

    @pytest.mark.parametrize(("before", "after"), [("true", "false"), ("false", "true")])
    def test_a_fused_run_goes_on_unfused_and_the_other_way_round(self, tmp_path, monkeypatch, before, after):
        recipe = write_recipe(tmp_path)
        whole = run.train(recipe, [], tmp_path / "whole")
        with monkeypatch.context() as patch:
            patch.setattr(run.Trainer, "_validate", stop_in_epoch(2))
            with pytest.raises(KeyboardInterrupt):
                run.train(recipe, [f"train.fused={before}"], tmp_path / "run")
        folder = run.train(recipe, [f"train.fused={after}"], tmp_path / "run", resume=True)
        assert_close_weights(whole, folder)

    def test_states_are_saved_by_time(self, tmp_path):
        """With a minute's share that is over at each step, a run that fails in step 5 has the state of step 4."""
        recipe = write_recipe(tmp_path)
        recipe.write_text(recipe.read_text().replace("frozen_levels = 0", "frozen_levels = 0\nnan_at = 5"))
        for minutes, kept in (("1e-9", 4), ("60", 3), ("0", 3)):
            folder = tmp_path / f"run{minutes}"
            with pytest.raises(TrainingError, match="loss is nan in epoch 2, step 2"):
                run.train(recipe, ["train.save_every=0", f"train.save_minutes={minutes}"], folder)
            assert state(folder)["step"] == kept

    def test_checkpointing_is_refused_where_there_is_nothing_to_compute_again(self, tmp_path):
        with pytest.raises(RecipeError, match=r"^train\.checkpointing = true: only pfd-iqa"):
            run.train(write_recipe(tmp_path), ["train.checkpointing=true"], tmp_path / "run")


@pytest.mark.slow
class TestStatesOfARunThatIsDone:
    DROP = ("train.epochs=2", "train.keep_state=false")

    def test_they_are_removed_and_the_run_is_still_done(self, tmp_path):
        recipe = write_recipe(tmp_path)
        folder = run.train(recipe, self.DROP, tmp_path / "run")
        assert not list(folder.glob("last*")) + list(folder.glob("best*"))
        written = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        assert run.train(recipe, self.DROP, tmp_path / "run", resume=True) == folder
        assert {path: path.stat().st_mtime_ns for path in written} == written

    def test_another_description_is_written_without_them(self, tmp_path):
        recipe = write_recipe(tmp_path)
        folder = run.train(recipe, self.DROP, tmp_path / "run")
        metadata, lazy = load_checkpoint(folder / "checkpoint.safetensors")
        before = (metadata, dict(lazy))
        changes = ["metric.tag='other'", "output.licence='CC0'", "output.sources=['mine']"]
        run.train(recipe, [*self.DROP, *changes], folder, resume=True)
        metadata, tensors = load_checkpoint(folder / "checkpoint.safetensors")
        assert metadata.pop("fingerprint")["tag"] == "other"
        before[0].pop("fingerprint")
        assert metadata == {**before[0], "tag": "other", "licence": "CC0", "sources": ["mine"]}
        assert all(torch.equal(tensors[name], tensor) for name, tensor in before[1].items())
        assert json.loads((folder / "results.json").read_text())["tag"] == "other"
        assert read_recipe(folder / "recipe.toml").metric.tag == "other"
        run.train(recipe, [*self.DROP, *changes, "output.dtype='float16'"], folder, resume=True)
        halves = load_checkpoint(folder / "checkpoint.safetensors")[1]
        assert torch.equal(halves["out.weight"], before[1]["out.weight"].half())
        with pytest.raises(RecipeError, match=r"output\.dtype: .* is in float16, and the state is gone"):
            run.train(recipe, [*self.DROP, *changes], folder, resume=True)
        content = bytearray((folder / "checkpoint.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "checkpoint.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match=r"checkpoint\.safetensors: is damaged"):
            run.train(recipe, [*self.DROP, "metric.tag='third'", "output.dtype='float16'"], folder, resume=True)

    def test_a_run_killed_between_its_results_and_the_end_is_tidied_up(self, tmp_path, monkeypatch):
        recipe = write_recipe(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(run, "remove_states", lambda folder: None)
            folder = run.train(recipe, self.DROP, tmp_path / "run")
        assert (folder / "last.safetensors").exists()
        run.train(recipe, self.DROP, folder, resume=True)
        assert not (folder / "last.safetensors").exists()

    def test_a_folder_of_an_older_version_goes_on(self, tmp_path, monkeypatch):
        """Its recipe knows none of the new fields, and has a number of workers."""
        recipe = write_recipe(tmp_path)
        whole = run.train(recipe, [], tmp_path / "whole")
        with monkeypatch.context() as patch:
            patch.setattr(run.Trainer, "_validate", stop_in_epoch(2))
            with pytest.raises(KeyboardInterrupt):
                run.train(recipe, [], tmp_path / "run")
        path = tmp_path / "run" / "recipe.toml"
        new = {field.name for field in dataclasses.fields(TrainTable)} & NEW | {"images", "images_gb"}
        lines = [line for line in path.read_text().splitlines() if line.partition(" ")[0] not in new]
        path.write_text("\n".join(lines))
        assert "compile" not in path.read_text()
        run.train(recipe, [], tmp_path / "run", resume=True)
        assert_same_weights(whole, tmp_path / "run")


NEW = {"save_minutes", "keep_state", "tf32", "cudnn_benchmark", "deterministic", "channels_last", "compile"}
NEW |= {"checkpointing", "fused"}


def assert_close_weights(one, other):
    """But for the bias before the norm and the mean that follows it: its gradient is rounding, which Adam enlarges."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    names = [name for name in first if name.startswith("objective.")]
    names = [name for name in names if not name.endswith(("backbone.1.bias", "running_mean"))]
    assert len(names) >= 8
    for name in names:
        assert torch.allclose(first[name], second[name], atol=1e-4), name


def stop_in_epoch(epoch):
    def stopping(trainer):
        if trainer.progress.epoch + 1 == epoch:
            raise KeyboardInterrupt
        return {}

    return stopping


def state(folder):
    from safetensors import safe_open

    with safe_open(folder / "last.safetensors", framework="pt") as stream:
        return json.loads(stream.metadata()["iqametrics-run"])
