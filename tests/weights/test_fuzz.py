"""Hostile checkpoints, manifests and states: each is refused in one line, quickly, without a large allocation."""

import json
import os
import struct
import time
import tracemalloc
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from fakes import FakeNr, TinyModel, metadata, seeded_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load, save, save_file

from iqametrics import TrainingError, WeightsError, create_metric
from iqametrics.errors import RecipeError
from iqametrics.methods import named_class
from iqametrics.publishing.card import card
from iqametrics.registry import metric_spec
from iqametrics.training.recipe import parse_recipe
from iqametrics.training.resume import Average, Progress, load_state, save_state
from iqametrics.weights.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest
from iqametrics.weights.untrusted import read_sizes

FUZZ: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
SECONDS, MEGABYTES, LONGEST_LINE = 1.0, 20, 1200


@contextmanager
def cheaply(megabytes=MEGABYTES):
    """Fail if what is within takes long or allocates much; tensors are not counted, arrays of Python are."""
    tracemalloc.start()
    begin = time.process_time()
    try:
        yield
    finally:
        seconds, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert seconds < SECONDS
    assert peak < megabytes * 1e6


def assert_one_line(error):
    assert "\n" not in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < LONGEST_LINE


def refused(read, *arguments, error=WeightsError, **options):
    with cheaply(), pytest.raises(error) as caught:
        read(*arguments, **options)
    assert_one_line(caught.value)


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def own(**changes):
    return {"iqametrics": json.dumps({"format": 1, **metadata("fake-nr", **changes)})}


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def raw_record(text):
    """A header whose record is this very text."""
    return file_of({"__metadata__": {"iqametrics": text}})


RECORD = json.dumps({"format": 1, **metadata("fake-nr")})

HOSTILE = {
    "a key twice in the header": file_of(b'{"w": %s, "w": %s}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
    "a key twice in the record": raw_record(RECORD[:-1] + ', "tag": "other"}'),
    "NaN in the record": raw_record(RECORD.replace('"channels": 4', '"channels": NaN')),
    "1e999 in the record": raw_record(RECORD.replace('"channels": 4', '"channels": 1e999')),
    "a whole number of 5000 digits": raw_record(RECORD.replace('"channels": 4', '"channels": ' + "9" * 5000)),
    "deep record": raw_record(RECORD.replace('"channels": 4', '"channels": ' + "[" * 90 + "]" * 90)),
    "very deep record": raw_record(RECORD.replace('"channels": 4', '"channels": ' + "[" * 10**5 + "]" * 10**5)),
    "bytes after the last tensor": file_of({"__metadata__": own(), "w": entry()}, bytes(9)),
    "a hole at the start": file_of({"__metadata__": own(), "w": entry(offsets=(4, 12))}, bytes(12)),
    "partly overlapping": file_of({"__metadata__": own(), "v": entry(), "w": entry(offsets=(4, 12))}, bytes(12)),
    "a reversed place": file_of({"__metadata__": own(), "w": entry(offsets=(8, 0))}, bytes(8)),
    "three offsets": file_of({"__metadata__": own(), "w": entry(offsets=(0, 8, 8))}, bytes(8)),
    "offsets of numbers with a point": file_of({"__metadata__": own(), "w": entry(offsets=(0.0, 8.0))}, bytes(8)),
    "a million dimensions": file_of({"__metadata__": own(), "w": entry(shape=[2**62] * 10**5)}, bytes(8)),
    "shape a word": file_of({"__metadata__": own(), "w": {**entry(), "shape": "22"}}, bytes(8)),
    "shape true": file_of({"__metadata__": own(), "w": entry(shape=[True, 2])}, bytes(8)),
    "an unknown field with a line break": file_of({"__metadata__": own(**{"a\nb\x1b[2J": 1})}),
    "many unknown fields": file_of({"__metadata__": own(**{f"field {'x' * 500} {i}": 1 for i in range(2000)})}),
    "a tag with a line break": file_of({"__metadata__": own(tag="a\nb")}),
    "a tag of a kilometre": file_of({"__metadata__": own(tag="x" * 10**5)}),
    "a metric with an escape sequence": file_of({"__metadata__": own(metric="\x1b[2J")}),
    "a path for a tag": file_of({"__metadata__": own(tag="../../etc/passwd")}),
    "a format of 4000 digits": file_of({"__metadata__": own(format=10**4000)}),
    "an unknown base with a line break": file_of({"__metadata__": own(backbone={"name": "a\nb", "sha256": "0" * 64})}),
    "a long unknown base": file_of({"__metadata__": own(backbone={"name": "a" * 10**6, "sha256": "0" * 64})}),
}


class TestFiles:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_refused(self, tmp_path, name):
        path = tmp_path / "hostile.safetensors"
        path.write_bytes(HOSTILE[name])
        refused(load_checkpoint, path)
        assert [file.name for file in tmp_path.iterdir()] == [path.name]

    @pytest.mark.parametrize("reader", [read_metadata, load_checkpoint, read_sizes])
    def test_what_is_no_file(self, tmp_path, reader):
        pipe, loop, folder = tmp_path / "pipe.safetensors", tmp_path / "loop.safetensors", tmp_path / "d.safetensors"
        os.mkfifo(pipe)
        loop.symlink_to(loop)
        folder.mkdir()
        for path in (pipe, loop, folder, "/dev/zero", "/dev/null", tmp_path / "absent", "a\0b", "x" * 5000):
            with cheaply(), pytest.raises(WeightsError, match=r"cannot be read|not a regular file"):
                reader(path)

    def test_a_link_to_a_checkpoint_is_one(self, tmp_path):
        # The Hub's cache is made of such links.
        save_checkpoint(tmp_path / "a", seeded_model().state_dict(), metadata("fake-nr"))
        (tmp_path / "b").symlink_to(tmp_path / "a")
        assert read_metadata(tmp_path / "b") == read_metadata(tmp_path / "a")

    def test_a_sparse_file_of_a_terabyte(self, tmp_path):
        path = tmp_path / "sparse.safetensors"
        with path.open("wb") as file:
            file.write(file_of({"__metadata__": own(), "w": entry()}, bytes(8)))
            try:
                file.truncate(2**40)
            except OSError:
                pytest.skip("this file system has no such files")
        refused(load_checkpoint, path)
        refused(create_metric, "bpclip-nr", weights=path)

    def test_a_file_of_holes_with_a_header_that_fits_it(self, tmp_path):
        path, count = tmp_path / "holes.safetensors", 5 * 2**28
        start = file_of({"__metadata__": own(), "w": entry(shape=[count], offsets=[0, 4 * count])})
        with path.open("wb") as file:
            file.write(start)
            file.truncate(len(start) + 4 * count)
        refused(load_checkpoint, path)
        assert read_sizes(path) == {"w": count}  # the header itself is sound

    @settings(max_examples=70, **FUZZ)
    @given(st.binary(max_size=200), st.none() | st.integers(0, 2**64 - 1))
    def test_any_bytes(self, tmp_path, content, length):
        path = tmp_path / "any.safetensors"
        path.write_bytes(content if length is None else struct.pack("<Q", length) + content)
        refused(load_checkpoint, path)

    @settings(max_examples=90, **FUZZ)
    @given(
        st.dictionaries(
            st.text(max_size=4),
            st.fixed_dictionaries(
                {
                    "dtype": st.sampled_from(["F32", "F16", "I64", "BOOL", "F8_E4M3", "f32", None, 4]),
                    "shape": st.lists(st.integers(-1, 5), max_size=3),
                    "data_offsets": st.lists(st.integers(-1, 40), min_size=1, max_size=3).map(sorted),
                }
            ),
            max_size=3,
        ),
        st.integers(0, 40),
    )
    def test_what_passes_our_check_passes_that_of_safetensors(self, tmp_path, table, size):
        path = tmp_path / "table.safetensors"
        path.write_bytes(file_of({"__metadata__": own(), **table}, bytes(size)))
        try:
            read_metadata(path)
        except WeightsError as error:
            assert_one_line(error)
            return
        try:
            load(path.read_bytes())
        except SafetensorError as error:  # which wants its names otherwise ordered, or not of this dtype
            pytest.fail(f"only safetensors refuses it: {error}")

    @settings(max_examples=70, **FUZZ)
    @given(
        st.sampled_from(["F32", "F16", "I64", "U8"]),
        st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=4),
    )
    def test_what_safetensors_writes_passes_our_check(self, tmp_path, dtype, shapes):
        kinds = {"F32": torch.float32, "F16": torch.float16, "I64": torch.int64, "U8": torch.uint8}
        tensors = {f"t{i}": torch.zeros(shape, dtype=kinds[dtype]) for i, shape in enumerate(shapes)}
        path = tmp_path / "good.safetensors"
        path.write_bytes(save(tensors, metadata=own()))
        assert read_metadata(path)["tag"] == "tiny"
        assert read_sizes(path) == {name: tensor.numel() for name, tensor in tensors.items()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NASTY = st.sampled_from(
    [10**9, 10**18, 10**400, -1, 0, 2**31, 1e308, -1e308, True, None, "x" * 50, "\n\x1b[2J", [], {}, [[1]], [0, 0, 0]]
)


@pytest.fixture(scope="module", params=["bpclip-fr", "bpclip-nr", "pfd-iqa"])
def real(request):
    spec = metric_spec(request.param)
    return named_class(spec.factory), spec, *load_checkpoint(WEIGHTS_FOLDER / f"{request.param}.lite.safetensors")


class TestRecords:
    @pytest.mark.slow
    @settings(max_examples=70, **FUZZ)
    @given(st.dictionaries(st.sampled_from(sorted(metadata("x"))), JSON | NASTY, min_size=1, max_size=3))
    def test_any_record_is_read_or_refused_and_its_card_written(self, tmp_path, changes):
        path = tmp_path / "record.safetensors"
        path.write_bytes(file_of({"__metadata__": own(**changes)}))
        try:
            with cheaply():
                record = read_metadata(path)
        except WeightsError as error:
            assert_one_line(error)
            return
        with cheaply():
            text = card(record, sha256="0" * 64, elements=1)
        assert all(line.isprintable() for line in text.split("\n"))

    @pytest.mark.slow
    @settings(max_examples=45, **FUZZ)
    @given(JSON | NASTY, JSON | NASTY)
    def test_any_config_and_sizing(self, channels, side):
        record = {**metadata("fake-nr"), "config": {"channels": channels}, "sizing": {"min_side": side, "max_side": 64}}
        try:
            with cheaply():
                FakeNr.from_checkpoint(FakeNr.spec, record, seeded_model().state_dict(), "tiny")
        except WeightsError as error:
            assert_one_line(error)

    @pytest.mark.slow
    @settings(max_examples=15, **FUZZ)
    @given(st.data())
    def test_a_real_config_with_one_wrong_value(self, real, data):
        factory, spec, record, tensors = real
        key = data.draw(st.sampled_from(sorted(record["config"])), "key")
        config = {**record["config"], key: data.draw(NASTY | JSON, "value")}
        try:
            with cheaply():
                factory.from_checkpoint(spec, {**record, "config": config}, tensors, "lite")
        except WeightsError as error:
            assert_one_line(error)

    def test_a_float64_that_no_float32_holds(self):
        tensors = {name: tensor.double() for name, tensor in seeded_model().state_dict().items()}
        tensors["head.bias"] = torch.tensor([1e300], dtype=torch.float64)
        with pytest.raises(WeightsError, match=r"head\.bias holds NaN or infinity"):
            FakeNr.from_checkpoint(FakeNr.spec, metadata("fake-nr"), tensors, "tiny")

    @pytest.mark.parametrize("tag", ["a/b", "a\nb", "x" * 101])
    def test_a_tag_that_no_record_takes_is_refused_before_training(self, tmp_path, tag):
        tables = {"metric": {"name": "bpclip-nr", "tag": tag}, "data": {"csv": "x.csv"}}
        with pytest.raises(RecipeError, match=r"metric\.tag = .* is no name"):
            parse_recipe(tables, tmp_path)
        with pytest.raises(WeightsError, match="tag of its metadata is no name"):
            save_checkpoint(tmp_path / "x.safetensors", {}, metadata("fake-nr", tag=tag))

    def test_names_of_tensors_stay_on_one_line(self):
        tensors = {**seeded_model().state_dict(), "a\nb\x1b[2J": torch.ones(1), "n" * 10**5: torch.ones(1)}
        refused(FakeNr.from_checkpoint, FakeNr.spec, metadata("fake-nr"), tensors, "tiny")


GOOD = {
    "metric": "fake-nr",
    "tag": "tiny",
    "default": True,
    "source": "hub",
    "repo": "org/name",
    "revision": "0" * 40,
    "file": "model.safetensors",
    "sha256": "0" * 64,
    "bytes": 10,
    "licence": "CC0",
    "training_data": ["nothing"],
    "config": {},
    "results": {},
}


def manifest(folder, text):
    (folder / "manifest.json").write_text(text)
    read_manifest.cache_clear()
    return read_manifest(folder)


class TestManifests:
    def test_the_good_one_is_good(self, tmp_path):
        content = {"format": 1, "checkpoints": [GOOD], "bases": []}
        assert manifest(tmp_path, json.dumps(content)).checkpoints[0].repo == "org/name"

    @pytest.mark.parametrize(
        "changes",
        [
            {"file": "../model.safetensors"},
            {"file": "/etc/passwd"},
            {"file": "a/b.safetensors"},
            {"file": "model.pth"},
            {"file": "..safetensors"},
            {"repo": "../.."},
            {"repo": "org/../name"},
            {"repo": "https://example.org/x"},
            {"repo": None},
            {"revision": "main"},
            {"revision": None},
            {"revision": "0" * 39 + "\n"},
            {"sha256": ""},
            {"sha256": "0" * 64 + "\n"},
            {"sha256": None},
            {"bytes": "10"},
            {"bytes": True},
            {"bytes": -1},
            {"bytes": 10.0},
            {"default": 1},
            {"config": []},
            {"surprise": 1},
        ],
    )
    def test_refused(self, tmp_path, changes):
        refused(manifest, tmp_path, json.dumps({"format": 1, "checkpoints": [{**GOOD, **changes}], "bases": []}))

    @settings(max_examples=70, **FUZZ)
    @given(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON | NASTY, min_size=1, max_size=3))
    def test_any_entry(self, tmp_path, changes):
        try:
            with cheaply():
                manifest(tmp_path, json.dumps({"format": 1, "checkpoints": [{**GOOD, **changes}], "bases": []}))
        except WeightsError as error:
            assert_one_line(error)

    @settings(max_examples=45, **FUZZ)
    @given(JSON.map(json.dumps) | st.text(max_size=30))
    def test_any_text(self, tmp_path, text):
        (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        read_manifest.cache_clear()
        refused(read_manifest, tmp_path)

    @pytest.mark.parametrize("text", ["[" * 10**5, "9" * 10**5, '{"format": ' + "9" * 10**4 + "}"])
    def test_absurd_text(self, tmp_path, text):
        refused(manifest, tmp_path, text)


@pytest.fixture
def state(tmp_path):
    """A state of a run, and the objects that it is read into."""
    model = TinyModel()
    optimizer = torch.optim.AdamW(model.parameters())
    model.score(model.features(torch.rand(2, 3, 8, 8))).sum().backward()
    optimizer.step()
    average = Average(model, 0.9)
    path = tmp_path / "last.safetensors"
    save_state(path, model, Progress(epoch=1, history=[{"epoch": 1.0}]), optimizer=optimizer, average=average)
    return path, model, {"optimizer": optimizer, "average": average}


class TestStates:
    def test_the_good_one_is_good(self, state):
        path, model, objects = state
        assert load_state(path, model, **objects).epoch == 1

    @settings(max_examples=30, **FUZZ)
    @given(st.data())
    def test_truncated_or_flipped(self, state, data):
        path, model, objects = state
        content = bytearray(path.read_bytes())
        header = 8 + int.from_bytes(content[:8], "little")
        if data.draw(st.booleans(), "truncate"):
            content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
        else:
            content[data.draw(st.integers(0, header - 1), "position")] ^= 1 << data.draw(st.integers(0, 7), "bit")
        damaged = path.with_name("damaged.safetensors")
        damaged.write_bytes(content)
        try:
            with cheaply():
                load_state(damaged, model, **objects)
        except TrainingError as error:
            assert_one_line(error)

    @settings(max_examples=30, **FUZZ)
    @given(JSON | st.dictionaries(st.sampled_from(sorted(vars(Progress()))), JSON | NASTY, min_size=1, max_size=3))
    def test_any_progress(self, state, value):
        path, model, objects = state
        changed = path.with_name("changed.safetensors")
        save_file(load(path.read_bytes()), changed, metadata={"iqametrics-run": json.dumps(value)})
        try:
            with cheaply():
                progress = load_state(changed, model, **objects)
        except TrainingError as error:
            assert_one_line(error)
        else:
            assert type(progress.epoch) is int
            assert type(progress.history) is list

    @pytest.mark.parametrize(
        "change",
        [
            {"optimizer.nobody/exp_avg": torch.ones(1)},
            {"optimizer.head.bias/exp_avg": torch.ones(7)},
            {"average.nobody": torch.ones(1)},
            {"average.head.bias": torch.ones(7)},
            {"objective.a\nb": torch.ones(1)},
            {"objective.head.bias": torch.ones(7)},
        ],
    )
    def test_tensors_of_another_model(self, state, change):
        path, model, objects = state
        progress = json.dumps(vars(Progress()))
        save_file({**load(path.read_bytes()), **change}, path, metadata={"iqametrics-run": progress})
        refused(load_state, path, model, error=TrainingError, **objects)
