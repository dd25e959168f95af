"""Checkpoints and the manifest: what is written is read back, and what is hostile is refused quickly."""

import hashlib
import json
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import pytest
import torch
from fakes import FakeNr, TinyModel, metadata, seeded_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from iqametrics import WeightsError
from iqametrics.weights.checkpoint import build_and_fill, load_checkpoint, read_metadata, save_checkpoint
from iqametrics.weights.manifest import read_manifest, verified_bytes


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, seeded_model().state_dict(), metadata("fake-nr"))
    return path


def build():
    return TinyModel()


class TestRoundTrip:
    def test_bit_for_bit(self, saved):
        recorded, tensors = load_checkpoint(saved)
        assert recorded.pop("fingerprint")["metric"] == "fake-nr"
        assert recorded == {"format": 1, **metadata("fake-nr")}
        original = seeded_model().state_dict()
        assert tensors.keys() == original.keys()
        assert all(torch.equal(tensors[name], original[name]) for name in original)
        assert read_metadata(saved) == load_checkpoint(saved)[0]

    def test_another_library_reads_it(self, saved):
        with safe_open(saved, framework="pt") as file:
            assert set(file.keys()) == set(seeded_model().state_dict())
            assert json.loads(file.metadata()["iqametrics"])["metric"] == "fake-nr"

    def test_half_precision_becomes_float32(self, tmp_path):
        path = tmp_path / "half.safetensors"
        save_checkpoint(path, seeded_model().state_dict(), metadata("fake-nr"), dtype=torch.float16)
        recorded, tensors = load_checkpoint(path)
        assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
        metric = FakeNr.from_checkpoint(FakeNr.spec, recorded, tensors, "tiny")
        assert all(parameter.dtype == torch.float32 for parameter in metric.parameters())
        assert torch.equal(
            metric.model.state_dict()["conv.weight"], seeded_model().state_dict()["conv.weight"].half().float()
        )

    def test_shared_and_strided_tensors(self, tmp_path):
        weight = torch.arange(12.0).reshape(3, 4)
        path = tmp_path / "shared.safetensors"
        save_checkpoint(path, {"a": weight, "b": weight.T, "n": torch.tensor(3)}, metadata("fake-nr"))
        _, tensors = load_checkpoint(path)
        assert torch.equal(tensors["b"], weight.T)
        assert tensors["n"].dtype == torch.int64

    def test_integers_keep_their_dtype_in_half(self, tmp_path):
        path = tmp_path / "n.safetensors"
        save_checkpoint(path, {"n": torch.tensor([70_000])}, metadata("fake-nr"), dtype=torch.float16)
        assert load_checkpoint(path)[1]["n"].item() == 70_000

    def test_parameters_are_not_initialised_and_other_buffers_are(self):
        tensors = seeded_model(seed=3).state_dict()
        state = torch.get_rng_state()
        model = build_and_fill(build, tensors, source="test")
        assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn
        assert torch.equal(dict(model.named_buffers())["mean"], dict(TinyModel().named_buffers())["mean"])
        assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())

    def test_large_values_whose_sum_overflows_are_finite(self, tmp_path):
        path = tmp_path / "large.safetensors"
        state = {name: torch.full_like(tensor, 3e38) for name, tensor in seeded_model().state_dict().items()}
        save_checkpoint(path, state, metadata("fake-nr"))
        recorded, tensors = load_checkpoint(path)
        metric = FakeNr.from_checkpoint(FakeNr.spec, recorded, tensors, "tiny")
        assert torch.equal(metric.model.state_dict()["conv.weight"], state["conv.weight"])

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
    def test_what_cannot_be_stored(self, tmp_path, value):
        path = tmp_path / "bad.safetensors"
        with pytest.raises(WeightsError, match="holds NaN or infinity"):
            save_checkpoint(path, {"w": torch.tensor([value])}, metadata("fake-nr"), dtype=torch.float16)
        assert list(tmp_path.iterdir()) == []

    def test_its_mode_is_that_of_any_new_file(self, saved):
        """Others of the group may read a model, as they may read the files beside it."""
        (saved.parent / "neighbour").touch()
        assert saved.stat().st_mode == (saved.parent / "neighbour").stat().st_mode

    def test_a_failed_write_leaves_the_old_file(self, saved):
        before = saved.read_bytes()
        with pytest.raises(WeightsError, match="cannot be written"):
            save_checkpoint(saved, seeded_model().state_dict(), metadata("fake-nr", results={"srcc": object()}))
        with pytest.raises(WeightsError, match="cannot be written"):
            save_checkpoint(saved / "below", seeded_model().state_dict(), metadata("fake-nr"))
        assert saved.read_bytes() == before
        assert [path.name for path in saved.parent.iterdir()] == [saved.name]

    @pytest.mark.parametrize(
        "changes",
        [
            {"config": None},
            {"sizing": [8, 64]},
            {"metric": 3},
            {"format": 2},
            {"format": True},
            {"backbone": {"name": "x"}},
            {"backbone": {"name": "x", "sha256": 5}},
            {"surprise": 1},
        ],
    )
    def test_metadata_is_checked_on_writing(self, tmp_path, changes):
        with pytest.raises(WeightsError):
            save_checkpoint(tmp_path / "x.safetensors", {}, metadata("fake-nr", **changes))

    def test_read_metadata_needs_no_torch(self, saved):
        code = (
            "import sys; from iqametrics.weights.untrusted import read_metadata; "
            f"print(read_metadata({str(saved)!r})['tag'], 'torch' in sys.modules)"
        )
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert answer.stdout.split() == ["tiny", "False"]


class TestStrictLoading:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda t: t.pop("head.bias"), "missing head.bias"),
            (lambda t: t.update(extra=torch.ones(1)), "surplus extra"),
            (lambda t: t.update({"head.bias": torch.ones(2)}), "unfit head.bias is float32 2, not float32 1"),
            (lambda t: t.update({"head.bias": torch.ones(1, dtype=torch.int64)}), "unfit head.bias is int64 1"),
            (lambda t: t["conv.weight"].view(-1)[5:6].fill_(float("nan")), "conv.weight holds NaN"),
            (lambda t: t.update({f"extra{i}": torch.ones(1) for i in range(9)}), "and 5 more"),
        ],
    )
    def test_each_misfit_is_named(self, change, message):
        tensors = {name: tensor.clone() for name, tensor in seeded_model().state_dict().items()}
        change(tensors)
        with pytest.raises(WeightsError, match=message):
            build_and_fill(build, tensors, source="test")

    @pytest.mark.parametrize("channels", [10**9, 10**15, -4, "many", 2.5, None, [4]])
    def test_absurd_config_costs_nothing(self, channels):
        tracemalloc.start()
        with pytest.raises(WeightsError):
            build_and_fill(lambda: TinyModel(channels), seeded_model().state_dict(), source="test")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6

    def test_a_config_of_too_many_layers_ends_early(self):
        made = []

        def endless():
            while True:
                made.append(torch.nn.Linear(100, 100))

        with pytest.raises(WeightsError, match="larger model than it holds"):
            build_and_fill(endless, seeded_model().state_dict(), source="test")
        assert len(made) < 1000

    def test_unknown_config_key(self, saved):
        recorded, tensors = load_checkpoint(saved)
        recorded["config"] = {"chanels": 4}
        with pytest.raises(WeightsError, match="chanels"):
            FakeNr.from_checkpoint(FakeNr.spec, recorded, tensors, "tiny")


def with_header(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def record(**changes):
    return {"iqametrics": json.dumps({"format": 1, **metadata("fake-nr", **changes)})}


def tensor(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


HOSTILE = {
    "empty": b"",
    "three bytes": b"abc",
    "length beyond the file": with_header({}, length=2**63),
    "length of a terabyte": with_header({}, length=2**40),
    "not JSON": with_header(b"{" * 50),
    "not UTF-8": with_header(b'{"\xff\xfe": 1}'),
    "deep nesting": with_header(b"[" * 200_000),
    "a list": with_header([1, 2]),
    "no metadata": with_header({"w": tensor()}, bytes(8)),
    "metadata of another program": with_header({"__metadata__": {"format": "pt"}, "w": tensor()}, bytes(8)),
    "metadata not a string": with_header({"__metadata__": {"iqametrics": {"format": 1}}}),
    "metadata a list": with_header({"__metadata__": [1]}),
    "metadata not an object": with_header({"__metadata__": {"iqametrics": "[]"}}),
    "lone surrogate": with_header(b'{"__metadata__": {"iqametrics": "\\ud800"}}'),
    "offsets beyond the file": with_header({"__metadata__": record(), "w": tensor(data_offsets=[0, 2**50])}, bytes(8)),
    "shape of a petabyte": with_header({"__metadata__": record(), "w": tensor(shape=[2**48])}, bytes(8)),
    "negative shape": with_header({"__metadata__": record(), "w": tensor(shape=[-1, -2])}, bytes(8)),
    "unknown dtype": with_header({"__metadata__": record(), "w": tensor(dtype="Q7")}, bytes(8)),
    "dtype a list": with_header({"__metadata__": record(), "w": tensor(dtype=["F32"])}, bytes(8)),
    "no shape": with_header({"__metadata__": record(), "w": {"dtype": "F32"}}, bytes(8)),
    "entry not an object": with_header({"__metadata__": record(), "w": 5}, bytes(8)),
    "overlapping tensors": with_header({"__metadata__": record(), "v": tensor(), "w": tensor()}, bytes(8)),
    "a hole": with_header({"__metadata__": record(), "w": tensor(data_offsets=[8, 16])}, bytes(16)),
    "unknown base": with_header({"__metadata__": record(backbone={"name": "../../etc/passwd", "sha256": "0" * 64})}),
}


class TestHostileFiles:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_refused_without_a_big_allocation(self, tmp_path, name):
        path = tmp_path / "hostile.safetensors"
        path.write_bytes(HOSTILE[name])
        tracemalloc.start()
        with pytest.raises(WeightsError) as caught:
            load_checkpoint(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6
        assert "\n" not in str(caught.value)
        assert "hostile.safetensors" in str(caught.value) or name == "unknown base"

    @pytest.mark.parametrize("reader", [read_metadata, load_checkpoint])
    def test_missing_folder_zip_and_pickle(self, tmp_path, reader):
        with pytest.raises(WeightsError, match="cannot be read"):
            reader(tmp_path / "absent.safetensors")
        with pytest.raises(WeightsError, match="cannot be read"):
            reader(tmp_path)
        zipped, pickled = tmp_path / "zip.safetensors", tmp_path / "pickle.safetensors"
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.writestr("data.pkl", b"x" * 100)
        pickled.write_bytes(pickle.dumps({"w": [1.0]}))
        for path in (zipped, pickled):
            with pytest.raises(WeightsError, match="pickled"):
                reader(path)

    def test_a_long_header_is_not_read(self, tmp_path):
        path = tmp_path / "sparse.safetensors"
        with path.open("wb") as file:
            file.write(struct.pack("<Q", 2**32))
            file.truncate(2**32 + 100)
        tracemalloc.start()
        with pytest.raises(WeightsError, match="header of 4294967296 bytes"):
            read_metadata(path)
        assert tracemalloc.get_traced_memory()[1] < 1e6
        tracemalloc.stop()

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_truncated_or_flipped(self, saved, data):
        content = bytearray(saved.read_bytes())
        header = 8 + int.from_bytes(content[:8], "little")
        if data.draw(st.booleans(), "truncate"):
            content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
        else:
            content[data.draw(st.integers(0, header - 1), "position")] ^= 1 << data.draw(st.integers(0, 7), "bit")
        path = saved.with_name("damaged.safetensors")
        path.write_bytes(content)
        try:
            recorded, tensors = load_checkpoint(path)
            FakeNr.from_checkpoint(FakeNr.spec, recorded, tensors, "tiny")
        except WeightsError:
            pass  # anything else is a fault; a flipped bit in the digest's own name is not seen

    def test_a_bit_flipped_in_a_tensor_is_noticed(self, saved):
        content = bytearray(saved.read_bytes())
        for position in (8 + int.from_bytes(content[:8], "little"), len(content) - 4):
            content[position] ^= 1  # a value that is as good as the one that was written
            saved.write_bytes(content)
            recorded, tensors = load_checkpoint(saved)
            with pytest.raises(WeightsError, match="is damaged, it holds other weights than were written; get it anew"):
                FakeNr.from_checkpoint(FakeNr.spec, recorded, tensors, "tiny")
            content[position] ^= 1

    def test_a_digit_of_the_metadata_is_noticed(self, saved):
        content = saved.read_bytes()
        for digit, other in ((b'max_side\\": 64', b'max_side\\": 65'), (b'srcc\\": 0.5', b'srcc\\": 0.9')):
            assert content.count(digit) >= 1
            saved.write_bytes(content.replace(digit, other))
            recorded, tensors = load_checkpoint(saved)
            with pytest.raises(WeightsError, match="is damaged"):
                FakeNr.from_checkpoint(FakeNr.spec, recorded, tensors, "tiny")

    @pytest.mark.parametrize("fingerprint", [None, {}, {"weights": None}, {"weights": f"tensors {'0' * 64}"}])
    def test_a_file_without_a_digest_loads(self, saved, fingerprint):
        recorded, tensors = load_checkpoint(saved)
        recorded.pop("fingerprint")
        recorded |= {} if fingerprint is None else {"fingerprint": fingerprint}
        save_file(dict(tensors), saved, metadata={"iqametrics": json.dumps(recorded)})
        recorded, tensors = load_checkpoint(saved)
        assert FakeNr.from_checkpoint(FakeNr.spec, recorded, tensors, "tiny").tag == "tiny"


@pytest.fixture
def folder(tmp_path):
    """A weights folder whose checkpoint stores its convolution in a base file."""
    tensors = seeded_model().state_dict()
    base = tmp_path / "base.safetensors"
    save_file({"weight": tensors["conv.weight"], "bias": tensors["conv.bias"]}, base)
    digest = hashlib.sha256(base.read_bytes()).hexdigest()
    path = tmp_path / "head.safetensors"
    rest = {name: value for name, value in tensors.items() if not name.startswith("conv.")}
    save_checkpoint(path, rest, metadata("fake-nr", backbone={"name": "tiny-conv", "sha256": digest}))
    write_manifest(tmp_path, bases=[{"name": "tiny-conv", "file": base.name, "sha256": digest}])
    return tmp_path


def write_manifest(folder, **changes):
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "checkpoints": [], "bases": [], **changes}))
    read_manifest.cache_clear()


def entry(**changes):
    return {
        "metric": "fake-nr",
        "tag": "tiny",
        "default": True,
        "source": "bundled",
        "file": "a.safetensors",
        "sha256": "0" * 64,
        "bytes": 10,
        "licence": "CC0",
        **changes,
    }


def hub_entry(**changes):
    """An entry on the Hub; a value of ... leaves the field out."""
    more = {
        "source": "hub",
        "repo": "org/name",
        "revision": "a" * 40,
        "training_data": ["kadid10k"],
        "config": {},
        "results": {"test": {"srcc": 0.5}},
    }
    return {name: value for name, value in entry(**{**more, **changes}).items() if value is not ...}


class TestBaseFile:
    def test_fills_what_the_checkpoint_lacks(self, folder):
        _, tensors = load_checkpoint(folder / "head.safetensors", folder=folder)
        expected = {name.replace("conv.", "backbone."): value for name, value in seeded_model().state_dict().items()}
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)

    def test_the_checkpoint_goes_first(self, folder):
        recorded, tensors = load_checkpoint(folder / "head.safetensors", folder=folder)
        own = {"backbone.bias": torch.full((4,), 7.0), **{k: v for k, v in tensors.items() if "backbone" not in k}}
        save_checkpoint(folder / "own.safetensors", own, recorded)
        _, tensors = load_checkpoint(folder / "own.safetensors", folder=folder)
        assert tensors["backbone.bias"].tolist() == [7.0] * 4

    def test_a_changed_base_is_refused(self, folder):
        base = folder / "base.safetensors"
        base.write_bytes(base.read_bytes()[:-1] + b"\x00")
        with pytest.raises(WeightsError, match="SHA-256"):
            load_checkpoint(folder / "head.safetensors", folder=folder)
        base.unlink()
        with pytest.raises(WeightsError, match="cannot be read"):
            load_checkpoint(folder / "head.safetensors", folder=folder)


class TestManifest:
    def test_the_packages_own(self):
        manifest = read_manifest()
        for listed in manifest.checkpoints:
            content = verified_bytes(listed.file, listed.sha256)
            assert len(content) == listed.bytes
        for base in manifest.bases:
            verified_bytes(base.file, base.sha256)

    def test_default_comes_first(self, tmp_path):
        write_manifest(tmp_path, checkpoints=[entry(default=False, tag="a"), entry(tag="b")])
        assert [e.tag for e in read_manifest(tmp_path).of_metric("fake-nr")] == ["b", "a"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"file": "../a.safetensors"},
            {"file": "/etc/a.safetensors"},
            {"file": "a.pth"},
            {"sha256": "0" * 63},
            {"bytes": "10"},
            {"default": 1},
            {"source": "https://example.org/a"},
            {"extra": 1},
            {"bytes": 0},
            {"repo": "org/name"},
            {"config": {}},
            {"results": None},
        ],
    )
    def test_wrong_entries(self, tmp_path, changes):
        write_manifest(tmp_path, checkpoints=[entry(**changes)])
        with pytest.raises(WeightsError, match="manifest"):
            read_manifest(tmp_path)

    def test_on_the_hub(self, tmp_path):
        write_manifest(tmp_path, checkpoints=[hub_entry()])
        listed = read_manifest(tmp_path).checkpoints[0]
        assert (listed.full_name, listed.repo, listed.revision) == ("fake-nr.tiny", "org/name", "a" * 40)
        assert listed.training_data == ["kadid10k"]

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"revision": ...}, "lacks revision"),
            ({"revision": None}, "revision is null; leave it out"),
            ({"revision": "main"}, "no commit of 40 digits"),
            ({"revision": "A" * 40}, "no commit of 40 digits"),
            ({"sha256": ...}, "sha256"),
            ({"sha256": "0" * 63}, "is not a SHA-256"),
            ({"repo": ...}, "lacks repo"),
            ({"repo": "name"}, "no repository's name"),
            ({"repo": "../../x"}, "no repository's name"),
            ({"repo": "org/.."}, "no repository's name"),
            ({"training_data": ...}, "lacks training_data"),
            ({"training_data": []}, "training_data is not a list of names"),
            ({"training_data": [1]}, r"training_data\[0\] = 1: should be of type str"),
            ({"config": ...}, "lacks config"),
            ({"results": ...}, "lacks results"),
            ({"results": []}, "results = .*should be a table"),
            ({"file": "sub/model.safetensors"}, "without a folder"),
        ],
    )
    def test_on_the_hub_without_a_pin_or_a_hash(self, tmp_path, changes, line):
        write_manifest(tmp_path, checkpoints=[hub_entry(**changes)])
        with pytest.raises(WeightsError, match=rf"manifest\.json: is not a readable manifest .*{line}"):
            read_manifest(tmp_path)

    @pytest.mark.parametrize("second", [entry(), entry(tag="other")])
    def test_twice(self, tmp_path, second):
        write_manifest(tmp_path, checkpoints=[entry(), second])
        with pytest.raises(WeightsError, match="twice"):
            read_manifest(tmp_path)

    @pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', "{"])
    def test_damaged(self, tmp_path, text):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(WeightsError, match="reinstall"):
            read_manifest(tmp_path)
