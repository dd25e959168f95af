"""Publishing: what goes to the Hub stands alone, says what the run measured, and tells nothing private.

The client is the real huggingface_hub, the server a small one on loopback.
"""

import hashlib
import json
import re

import pytest
import torch
from fakes import metadata, seeded_model
from hub_server import TOKEN, HubServer
from safetensors.torch import load_file, save_file

from iqametrics import WeightsError, create_metric
from iqametrics.cli.main import main
from iqametrics.publishing import privacy, upload
from iqametrics.publishing.upload import publish_checkpoint
from iqametrics.weights import checkpoint as checkpoint_module
from iqametrics.weights.checkpoint import read_metadata, save_checkpoint
from iqametrics.weights.manifest import WEIGHTS_FOLDER, read_manifest

# The client hands the body of an upload to httpx in a way that httpx deprecates.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]

MEASURED = {
    "test": {"n": 40, "srcc": 0.71234, "plcc": 0.7, "krcc": 0.5, "rmse": 0.1, "srcc_low": 0.6, "srcc_high": 0.8}
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with HubServer() as server, server.client(tmp_path / "home"):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def file(tmp_path, fake_metrics):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, seeded_model(seed=5).state_dict(), metadata("fake-nr", tag="mine", results=MEASURED))
    return path


def send(path, repo="org/mine", **options):
    return publish_checkpoint(path, repo, **options)


def score(path, name="fake-nr"):
    image = torch.rand((1, 3, 40, 30), generator=torch.Generator().manual_seed(3))
    return create_metric(name, weights=str(path))(*([image] if name != "bpclip-fr" else [image, image.flip(3)]))


class TestUpload:
    def test_one_commit_with_three_files(self, hub, file):
        done = send(file)
        (revision, files), *others = hub.repos["org/mine"].commits
        assert not others
        assert files.keys() == {"model.safetensors", "README.md", "config.json"}
        assert done.revision == revision
        assert re.fullmatch(r"[0-9a-f]{40}", revision)
        assert done.entry["sha256"] == hashlib.sha256(files["model.safetensors"]).hexdigest()
        assert done.entry["bytes"] == len(files["model.safetensors"])
        assert files["README.md"].decode() == done.card
        config = json.loads(files["config.json"])
        assert config.pop("fingerprint")["fingerprint"].startswith("fake-nr.mine:")
        assert config == {"format": 1, **metadata("fake-nr", tag="mine", results=MEASURED)}
        assert not hub.repos["org/mine"].private

    def test_what_arrives_scores_the_same(self, hub, file, tmp_path):
        send(file)
        copy = tmp_path / "copy.safetensors"
        copy.write_bytes(hub.files("org/mine")["model.safetensors"])
        assert torch.equal(score(copy), score(file))

    def test_private(self, hub, file):
        send(file, private=True)
        assert hub.repos["org/mine"].private

    def test_private_into_a_public_repository_is_refused_before_the_upload(self, hub, file):
        hub.add("org/mine", {"README.md": b"old"})
        with pytest.raises(WeightsError, match="exists and is public"):
            send(file, private=True)
        assert hub.files("org/mine") == {"README.md": b"old"}

    def test_a_second_time_is_a_second_commit(self, hub, file):
        first = send(file)
        second = send(file, licence="CC-BY-4.0")
        assert [revision for revision, _ in hub.repos["org/mine"].commits] == [first.revision, second.revision]
        assert second.entry["licence"] == "CC-BY-4.0"

    @pytest.mark.parametrize(
        ("path", "kind", "message"),
        [
            ("/api/repos/create", 401, "does not accept the token"),
            ("/api/repos/create", 500, "upload failed"),
            ("/commit/", 403, "may not write there"),
            ("/commit/", "drop", "upload failed"),
            ("/preupload/", 429, "no more requests"),
            ("/lfs/", 500, "upload failed"),
            ("/lfs/", "drop", "upload failed"),
            ("/lfs/", "half", "upload failed"),
            ("/commit/", "half", "upload failed"),
        ],
    )
    def test_a_failure_is_one_line_and_leaves_nothing(self, hub, file, path, kind, message):
        hub.fail(path, kind)
        with pytest.raises(WeightsError, match=message) as caught:
            send(file)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("org/mine: ")
        assert "org/mine" not in hub.repos or not hub.repos["org/mine"].commits
        assert ("stays" in str(caught.value)) == ("org/mine" in hub.repos)
        hub.heal()
        assert send(file).revision == hub.repos["org/mine"].commits[-1][0]

    def test_somebody_elses_namespace(self, hub, file):
        hub.add("stranger/mine", {"README.md": b"theirs"})
        with pytest.raises(WeightsError, match=r"token may not write there|knows no such repository"):
            send(file, "stranger/mine")
        assert hub.files("stranger/mine") == {"README.md": b"theirs"}

    def test_no_token(self, hub, file, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(WeightsError, match="no token for the Hub; set HF_TOKEN"):
            send(file)
        assert hub.requests == []

    def test_a_dry_run_needs_no_network_and_no_token(self, hub, file, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        done = send(file, dry_run=True)
        assert (done.revision, done.entry["revision"], hub.requests) == (None, None, [])
        assert "0.712 (0.600 to 0.800)" in done.card


class TestWhatIsChecked:
    def test_a_checkpoint_without_a_licence(self, tmp_path, fake_metrics):
        path = tmp_path / "mine.safetensors"
        save_checkpoint(path, seeded_model().state_dict(), metadata("fake-nr", licence=" "))
        with pytest.raises(WeightsError, match="states no licence; give --licence"):
            send(path, dry_run=True)
        assert send(path, dry_run=True, licence="MIT").card.startswith("---\nlicense: mit\n")

    @pytest.mark.parametrize("repo", ["mine", "a/b/c", "org/", "../../x", "org/a b", "org/..", "https://hub/org/mine"])
    def test_a_name_that_is_no_repository(self, file, repo):
        with pytest.raises(WeightsError, match="is no repository of the Hub"):
            send(file, repo, dry_run=True)

    @pytest.mark.parametrize("tag", ["a/b", "a.b", "", "a b"])
    def test_a_tag_that_is_no_name(self, file, tag):
        with pytest.raises(WeightsError, match="is no name for a checkpoint"):
            send(file, dry_run=True, tag=tag)

    def test_tensors_that_do_not_fit(self, tmp_path, fake_metrics):
        path = tmp_path / "mine.safetensors"
        save_checkpoint(path, seeded_model(channels=5).state_dict(), metadata("fake-nr"))
        with pytest.raises(WeightsError, match="do not fit the model"):
            send(path, dry_run=True)

    def test_a_metric_that_answers_differently_each_time(self, file, monkeypatch):
        def create(*arguments, **options):
            metric = create_metric(*arguments, **options)
            metric.model.drop.forward = lambda x: x + torch.rand(())
            return metric

        monkeypatch.setattr(upload, "create_metric", create)
        with pytest.raises(WeightsError, match="does not score a test image the same each time"):
            send(file, dry_run=True)

    def test_scores_that_are_not_finite(self, tmp_path, fake_metrics):
        path, tensors = tmp_path / "mine.safetensors", seeded_model().state_dict()
        huge = {"head.weight": torch.full((1, 4), 3e38), "conv.bias": torch.full((4,), 100.0)}
        save_checkpoint(path, {**tensors, **huge}, metadata("fake-nr"))
        with pytest.raises(WeightsError, match=r"cannot score a test image \(.* gives (nan|-?inf)"):
            send(path, dry_run=True)


class TestBaseFile:
    def test_the_published_file_stands_alone(self, tmp_path, fake_metrics, monkeypatch):
        tensors = {name.replace("conv.", "backbone."): value for name, value in seeded_model().state_dict().items()}
        base = fake_metrics / "base.safetensors"
        save_file({"weight": tensors["backbone.weight"], "bias": tensors["backbone.bias"]}, base)
        digest = hashlib.sha256(base.read_bytes()).hexdigest()
        manifest = json.loads((fake_metrics / "manifest.json").read_text())
        manifest["bases"] = [{"name": "tiny-conv", "file": base.name, "sha256": digest}]
        (fake_metrics / "manifest.json").write_text(json.dumps(manifest))
        read_manifest.cache_clear()
        path = tmp_path / "head.safetensors"
        rest = {name: value for name, value in tensors.items() if not name.startswith("backbone.")}
        save_checkpoint(path, rest, metadata("fake-nr", backbone={"name": "tiny-conv", "sha256": digest}))
        monkeypatch.setattr(checkpoint_module.load_checkpoint, "__kwdefaults__", {"folder": fake_metrics})
        kept = {}
        monkeypatch.setattr(upload, "create_metric", lambda name, **_: None)
        monkeypatch.setattr(upload, "_check_scores", lambda metric, file, whole: kept.update(load_file(whole)))
        send(path, dry_run=True)
        assert kept.keys() == tensors.keys()
        assert all(torch.equal(kept[name], tensors[name]) for name in tensors)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["bpclip-fr", "bpclip-nr", "pfd-iqa"])
    def test_publish_fetch_score_is_bit_equal(self, hub, name):
        path = WEIGHTS_FOLDER / f"{name}.lite.safetensors"
        done = send(path, f"org/{name}")
        assert read_metadata(path)["backbone"] is not None
        published = json.loads(hub.files(f"org/{name}", done.revision)["config.json"])
        assert published["backbone"] is None
        assert torch.equal(score(f"hub:org/{name}@{done.revision}", name), score(path, name))


class TestManifestEntry:
    def test_it_is_one_that_the_manifest_takes_and_fetches(self, hub, file, fake_metrics):
        entry = send(file).entry
        content = json.loads((fake_metrics / "manifest.json").read_text())
        content["checkpoints"].append(entry)
        (fake_metrics / "manifest.json").write_text(json.dumps(content))
        read_manifest.cache_clear()
        image = torch.rand((1, 3, 40, 30), generator=torch.Generator().manual_seed(3))
        assert torch.equal(create_metric("fake-nr.mine")(image), score(file))

    def test_a_checkpoint_that_says_little(self, tmp_path, fake_metrics):
        path, record = tmp_path / "mine.safetensors", metadata("fake-nr")
        for name in ("training", "results", "sources"):
            del record[name]
        save_checkpoint(path, seeded_model().state_dict(), record)
        done = send(path, dry_run=True)
        assert (done.entry["training_data"], done.entry["results"]) == (
            ["Images and scores: not stated", "Sources: not stated"],
            {},
        )
        assert "None were measured" in done.card


class TestCommandLine:
    def test_dry_run(self, file, capsys):
        assert main(["weights", "publish", str(file), "--repo", "org/mine", "--dry-run"]) == 0
        out = capsys.readouterr().out
        entry = json.loads(out[out.rindex("\n{\n") :])
        assert (entry["repo"], entry["revision"], entry["tag"]) == ("org/mine", None, "mine")
        assert out.startswith("---\nlicense: cc0-1.0\n")

    def test_publish(self, hub, file, capsys):
        assert main(["weights", "publish", str(file), "--repo", "org/mine", "--labels", "human"]) == 0
        done = capsys.readouterr()
        assert json.loads(done.out)["revision"] == hub.repos["org/mine"].commits[0][0]
        assert "published" in done.err
        assert "human opinion" in hub.files("org/mine")["README.md"].decode()

    def test_a_failure_is_one_line_and_status_1(self, hub, file, capsys):
        hub.fail("/commit/", 500)
        assert main(["weights", "publish", str(file), "--repo", "org/mine"]) == 1
        done = capsys.readouterr()
        assert done.out == ""
        assert re.fullmatch(r"iqametrics: error: org/mine: the upload failed .*\n", done.err)

    def test_convert(self, tmp_path, capsys):
        (tmp_path / "x.safetensors").write_bytes(b"nothing")
        arguments = ["weights", "convert", str(tmp_path / "x.safetensors"), "--to", str(tmp_path / "y.safetensors")]
        assert main([*arguments, "--kind", "resnet50"]) == 1
        assert "cut short or no safetensors file" in capsys.readouterr().err
        assert main([*arguments, "--kind", "vgg"]) == 2


@pytest.fixture
def run(tmp_path, fake_metrics):
    """The folder of a run whose recipe has paths."""
    folder = tmp_path / "run"
    folder.mkdir()
    record = {"data": ["scores.csv"], "images": {"train": 9, "validation": 0, "test": 40}, "selection": "last"}
    save_checkpoint(
        folder / "checkpoint.safetensors",
        seeded_model().state_dict(),
        metadata("fake-nr", training=record, results=MEASURED, sources=["from /secret/place/photos.zip, 3/4 of it"]),
    )
    (folder / "recipe.toml").write_text(
        '[data]\ncsv = "/secret/place/scores.csv"\nroot = "/secret/place with space"\n'
        '[init]\nbackbone = "C:\\\\secret\\\\b.safetensors"\n[train]\nlr = 0.001\n'
    )
    (folder / "results.json").write_text(json.dumps({"results": MEASURED}))
    return folder


class TestRunFolder:
    def test_recipe_without_paths(self, hub, run):
        send(run)
        files = hub.files("org/mine")
        recipe = json.loads(files["config.json"])["recipe"]
        assert recipe == {
            "data": {"csv": "scores.csv", "root": "place with space"},
            "init": {"backbone": "b.safetensors"},
            "train": {"lr": 0.001},
        }
        assert b"from photos.zip, 3/4 of it" in files["config.json"]
        assert all(b"secret" not in content for content in files.values())

    def test_home_folder_and_host_name(self, run, monkeypatch):
        monkeypatch.setattr(privacy.socket, "gethostname", lambda: "scores")
        with pytest.raises(WeightsError, match="holds 'scores', the name of this user or machine"):
            send(run, dry_run=True)

    @pytest.mark.parametrize(
        ("user", "host", "file", "found"),
        [
            ("jane.doe", "x", "images of jane.doe.csv", "jane.doe"),
            ("janedoe", "x", "scores_janedoe.csv", "janedoe"),
            ("nobody", "gpu-07.lab.example", "gpu-07.csv", "gpu-07"),
            ("nobody", "gpu-07.lab.example", "of gpu-07.lab.example", "gpu-07"),
            ("jane", "x", "janette.csv", None),
        ],
    )
    def test_names_in_any_writing(self, run, monkeypatch, user, host, file, found):
        monkeypatch.setattr(privacy.socket, "gethostname", lambda: host)
        monkeypatch.setattr(privacy.getpass, "getuser", lambda: user)
        (run / "recipe.toml").write_text(f'[data]\ncsv = "{file}"\n')
        if found is None:
            assert send(run, dry_run=True).entry["tag"]
            return
        with pytest.raises(WeightsError, match=f"holds '{found}', the name of this user or machine"):
            send(run, dry_run=True)

    @pytest.mark.parametrize(
        ("text", "left"),
        [
            ("csv:/home/secret/a.csv", "csv:a.csv"),
            ("file:///home/secret/a.csv", "a.csv"),
            ("--root=/home/secret/a", "--root=a"),
            ("see ~secret/b/c.png and ../../secret/d.png", "see c.png and d.png"),
            ("on //server/secret/e.png", "on e.png"),
            ("https://example.org/a/b 3/4 of it, and/or", "https://example.org/a/b 3/4 of it, and/or"),
            ("http://localhost:80/a/b", "http://localhost:80/a/b"),
        ],
    )
    def test_paths_in_any_writing(self, text, left):
        assert privacy.without_paths(text) == left

    def test_other_results(self, run):
        (run / "results.json").write_text(json.dumps({"results": {"test": {"n": 40, "srcc": 0.9}}}))
        with pytest.raises(WeightsError, match="hold different results"):
            send(run, dry_run=True)

    @pytest.mark.parametrize("name", ["results.json", "recipe.toml"])
    def test_damaged_record(self, run, name):
        (run / name).write_text("[[[")
        with pytest.raises(WeightsError, match=f"{name}: cannot be read"):
            send(run, dry_run=True)

    def test_unfinished(self, tmp_path):
        with pytest.raises(WeightsError, match=r"holds no checkpoint.safetensors"):
            send(tmp_path, dry_run=True)

    @pytest.mark.parametrize(
        ("made", "words"), [(True, "Agreement with made labels"), (False, "whether these are human opinion is not")]
    )
    def test_made_labels_are_known_by_their_folder(self, run, tmp_path, made, words):
        (run / "recipe.toml").write_text(f'[data]\ncsv = "{tmp_path}/labels.csv"\n')
        if made:
            (tmp_path / "recipe.json").write_text('{"version": 1, "seed": 0, "crops": 1, "references": []}')
        assert words in send(run, dry_run=True).card

    @pytest.mark.parametrize(
        ("recorded", "words"), [("made", "Agreement with made labels"), ("nonsense", "human opinion is not stated")]
    )
    def test_what_the_run_recorded_counts_when_its_data_are_gone(self, run, recorded, words):
        save_checkpoint(
            run / "checkpoint.safetensors",
            seeded_model().state_dict(),
            metadata("fake-nr", training={"labels": recorded}, results=MEASURED),
        )
        assert words in send(run, dry_run=True).card

    @pytest.mark.parametrize(
        ("made", "there", "words"),
        [
            (False, True, "Agreement with human opinion"),
            (True, True, "Agreement with made labels"),
            (False, False, "is not stated"),
        ],
    )
    def test_a_known_dataset_has_human_scores_unless_it_is_an_imitation(self, run, tmp_path, made, there, words):
        root = tmp_path / "kadid10k"
        if there:
            root.mkdir()
        if made:
            (root / "MADE-LABELS.txt").write_text("made")
        (run / "recipe.toml").write_text(f'[data]\ndataset = "kadid10k"\nroot = "{root}"\n')
        assert words in send(run, dry_run=True).card
