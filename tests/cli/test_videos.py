"""Frames of a video as rows of `score`, from clips that are encoded here."""

import json
import math
import sys

import numpy as np
import pytest
import torch

from iqametrics import create_metric
from iqametrics.cli.common import seconds
from iqametrics.cli.main import main
from iqametrics.errors import ImageReadError, InputError, MissingExtraError
from iqametrics.images.video import video_frames

av = pytest.importorskip("av")
GENERATOR = np.random.default_rng(0)
FRAMES = [GENERATOR.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(21)]


def encode(path, frames=FRAMES, rate=4, codec="ffv1", pix_fmt="bgr0", kind="rgb24", **options):
    """Write frames with no loss; at a rate of 4, 21 frames last from 0 to 5 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[-2:] if kind.startswith("yuv") else frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for name, value in options.items():
            setattr(stream.codec_context, name, value)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format=kind)
            for name, value in options.items():
                setattr(frame, name, value)
            frame.pts = number
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("video") / "clip.mkv")


@pytest.fixture
def run(fake_metrics, capsys, clip, monkeypatch):
    monkeypatch.chdir(clip.parent)

    def call(*words):
        status = main(["score", *map(str, words)])
        return status, *capsys.readouterr()

    return call


class TestFrames:
    @pytest.mark.parametrize(
        ("every", "wanted"),
        [
            (1.0, range(0, 21, 4)),
            (0.25, range(21)),
            (0.0, range(21)),
            (0.6, [0, 3, 5, 8, 10, 12, 15, 17, 20]),
            (9, [0]),
        ],
    )
    def test_the_first_frame_at_or_after_each_step(self, clip, every, wanted):
        found = list(video_frames(clip, every))
        assert [time for time, _ in found] == [number / 4 for number in wanted]
        for (_, pixels), number in zip(found, wanted, strict=True):
            assert np.array_equal(pixels, FRAMES[number])

    @pytest.mark.parametrize(
        ("height", "options", "red"),
        [
            # The weights of red and blue in luma: Rec. 709, Rec. 601.
            (64, {"colorspace": 1, "color_range": 1}, (0.2126, 0.0722)),
            (64, {"colorspace": 5, "color_range": 1}, (0.299, 0.114)),
            (64, {"colorspace": 1, "color_range": 2}, (0.2126, 0.0722)),
            (64, {}, (0.299, 0.114)),
            (720, {}, (0.2126, 0.0722)),
        ],
    )
    def test_colours_are_those_that_the_file_states(self, tmp_path, height, options, red):
        colour, (kr, kb) = np.array([0.8, 0.2, 0.1]), red
        luma = kr * colour[0] + (1 - kr - kb) * colour[1] + kb * colour[2]
        chroma = (colour[2] - luma) / (2 - 2 * kb), (colour[0] - luma) / (2 - 2 * kr)
        full = options.get("color_range") == 2
        scales = (255, 255, 255) if full else (219, 224, 224)
        yuv = [scale * value for scale, value in zip(scales, (luma, *chroma), strict=True)]
        planes = np.round(np.array(yuv) + ([0, 128, 128] if full else [16, 128, 128])).astype(np.uint8)
        frame = np.ascontiguousarray(np.broadcast_to(planes[:, None, None], (3, height, 64)))
        path = encode(tmp_path / "colour.mkv", [frame] * 2, pix_fmt="yuv444p", kind="yuv444p", **options)
        _, pixels = next(video_frames(path))
        assert np.abs(pixels.reshape(-1, 3) - 255 * colour).max() < 2.5

    def test_more_than_8_bits_are_kept(self, tmp_path):
        gray = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)
        path = encode(tmp_path / "deep.mkv", [np.stack([gray] * 3, -1)] * 2, pix_fmt="yuv444p10le", kind="rgb48le")
        _, pixels = next(video_frames(path))
        assert pixels.dtype == np.uint16
        assert len(np.unique(pixels)) > 800

    def test_high_dynamic_range_is_refused(self, tmp_path):
        path = encode(tmp_path / "hdr.mkv", FRAMES[:2], color_trc=16)
        with pytest.raises(ImageReadError, match=r"high dynamic range \(PQ\)"):
            next(video_frames(path))

    def test_files_that_are_no_videos(self, tmp_path, clip):
        (tmp_path / "text.mp4").write_text("no video " * 100)
        (tmp_path / "empty.mp4").write_bytes(b"")
        for name in ("text.mp4", "empty.mp4", "gone.mp4"):
            with pytest.raises(ImageReadError, match=name):
                next(video_frames(tmp_path / name))
        with pytest.raises(InputError, match="every"):
            next(video_frames(clip, -1))
        with av.open(str(tmp_path / "sound.mkv"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), layout="mono")
            sound.rate = 8000
            for packet in [*stream.encode(sound), *stream.encode(None)]:
                container.mux(packet)
        with pytest.raises(ImageReadError, match="no picture in it"):
            next(video_frames(tmp_path / "sound.mkv"))

    def test_one_that_is_cut_off_gives_its_frames_and_says_so(self, tmp_path):
        whole = encode(tmp_path / "whole.mkv")
        cut = tmp_path / "cut.mkv"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        frames = video_frames(cut, 1.0)
        assert [next(frames)[0] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ImageReadError, match=r"ends after 2\.\d+ s.*cut off"):
            next(frames)

    def test_without_pyav_the_command_is_told(self, clip, monkeypatch):
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(MissingExtraError, match=r'pip install "iqametrics\[video\]"'):
            next(video_frames(clip))


class TestScore:
    def test_a_row_a_frame_and_a_summary(self, run):
        status, out, err = run("clip.mkv", "--every", "1s", "--metric", "fake-nr", "--format", "json")
        assert status == 0
        rows = json.loads(out)
        assert [row["image"] for row in rows] == [f"clip.mkv#t={second}.000" for second in range(6)]
        wanted = create_metric("fake-nr")([FRAMES[4 * second] for second in range(6)]).tolist()
        assert [row["score"] for row in rows] == pytest.approx(wanted, abs=1e-6)
        worst = min(range(6), key=wanted.__getitem__)
        assert err.splitlines()[-1] == (
            f"iqametrics: clip.mkv: fake-nr.tiny: mean {sum(wanted) / 6:.4f} of 6 frames, worst 5% {wanted[worst]:.4f} "
            f"(1 frame, the worst at {worst}.000 s: {wanted[worst]:.4f})"
        )

    def test_the_worst_twentieth_is_on_the_side_of_the_metric(self, run, clip):
        av_frame = clip.parent / "ref.png"
        from PIL import Image

        Image.fromarray(FRAMES[0]).save(av_frame)
        status, out, err = run(
            "clip.mkv", "--every", "0", "--metric", "fake-fr", "--ref", "ref.png", "--format", "json"
        )
        assert status == 0
        scores = sorted((row["score"] for row in json.loads(out)), reverse=True)  # lower is better
        worst = scores[: math.ceil(0.05 * 21)]
        assert f"worst 5% {sum(worst) / 2:.4f} (2 frames" in err
        assert f": {worst[0]:.4f})" in err

    def test_frames_are_decoded_as_they_are_needed(self, run, monkeypatch):
        from iqametrics.images import video

        held, most = [0], [0]
        pixels = video._pixels

        def counted(frame, path):
            held[0] += 1
            most[0] = max(most[0], held[0])
            return pixels(frame, path)

        metric = type(create_metric("fake-nr"))
        score = metric.score_images

        def scored(self, dist, ref):
            held[0] -= len(dist)
            return score(self, dist, ref)

        monkeypatch.setattr(video, "_pixels", counted)
        monkeypatch.setattr(metric, "score_images", scored)
        assert run("clip.mkv", "--every", "0", "--metric", "fake-nr", "--batch-size", "1")[0] == 0
        assert most[0] <= 4

    def test_faults_cost_their_own_row(self, run, clip):
        (clip.parent / "text.mp4").write_text("no video")
        status, out, err = run("text.mp4", "clip.mkv", "--every", "5s", "--metric", "fake-nr", "--format", "json")
        assert status == 1
        assert [row["score"] is None for row in json.loads(out)] == [True, False, False]
        assert err.count("text.mp4") == 1
        (clip.parent / "refs").mkdir()
        status, out, _ = run(
            "clip.mkv", "--every", "5s", "--metric", "fake-fr", "--ref-dir", "refs", "--format", "json"
        )
        assert status == 1
        assert "not paired" in json.loads(out)[0]["error"]

    @pytest.mark.parametrize("text", ["1s", "0.5s", "500ms", "0", "2"])
    def test_steps(self, text):
        assert seconds(text) == {"1s": 1.0, "0.5s": 0.5, "500ms": 0.5, "0": 0.0, "2": 2.0}[text]

    @pytest.mark.parametrize("text", ["-1s", "1m", "", "nan", "inf", "s", "1 s"])
    def test_steps_that_are_none(self, run, text):
        status, _, err = run("clip.mkv", f"--every={text}", "--metric", "fake-nr")
        assert status == 2
        assert err.count("\n") == 1


def test_sideways_frames_are_turned(monkeypatch):
    """A phone's clip states a rotation; counter-clockwise degrees, as FFmpeg gives them."""
    from iqametrics.images import video

    class Frame:
        color_trc, colorspace, height = 2, 1, 48
        format = av.VideoFormat("rgb24")
        rotation = -90

        def to_ndarray(self, **_):
            return FRAMES[0]

    assert np.array_equal(video._pixels(Frame(), "x"), np.rot90(FRAMES[0], -1))
    assert torch.from_numpy(video._pixels(Frame(), "x")).shape == (64, 48, 3)
