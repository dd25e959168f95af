"""What a metric costs: counts against sums by hand, memory against blocks of a known size."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from iqametrics import InputError, create_metric
from iqametrics.benchmark import cost
from iqametrics.cli import benchmark_cost
from iqametrics.cli.main import main

pytestmark = pytest.mark.slow


class TestOperations:
    def test_a_convolution_and_a_matrix(self):
        convolution, linear = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)
        image = torch.rand(2, 3, 16, 20)

        def call():
            with torch.no_grad():
                return linear(convolution(image).mean((2, 3)))

        flops, others = cost.count_operations(call)
        # Two for each weight and place; the mean is not counted, its 2 x 8 numbers are.
        assert flops == 2 * (2 * 14 * 18 * 8 * 27 + 2 * 8 * 5)
        assert dict(others) == {"mean": 16}

    def test_attention(self):
        heads, tokens, width = 3, 10, 16
        query, key, value = torch.rand(3, 1, heads, tokens, width)
        flops, _ = cost.count_operations(lambda: nn.functional.scaled_dot_product_attention(query, key, value))
        assert flops == 2 * 2 * heads * tokens * tokens * width

    def test_what_the_counter_does_not_see(self):
        x = torch.rand(4, 6)
        flops, others = cost.count_operations(lambda: (torch.fft.fft(x).abs() + 1).T.reshape(3, 8).relu_())
        assert flops == 0
        assert others["_fft_r2c"] == others["abs"] == others["add"] == others["relu_"] == 24
        assert "t" not in others
        assert "view" not in others

    def test_nothing_is_kept_between_counts(self):
        x = torch.rand(4, 4)
        assert cost.count_operations(lambda: x @ x)[0] == cost.count_operations(lambda: x @ x)[0] == 2 * 4**3


class TestHere:
    def test_by_hand(self, fake_metrics):
        row = cost.measure_here(create_metric("fake-fr.lite"), (40, 96), repeats=3)
        # A 3x3 convolution of stride 2 from 3 to 4 channels, for both images, after sizing to 27 x 64, and the head.
        places = 14 * 32
        assert row["looked_at"] == [27, 64]
        assert row["parameters"] == 4 * 27 + 4 + 4 + 1
        assert row["weight_bytes"] == 4 * row["parameters"]
        assert row["flops"] == 2 * (2 * places * 4 * 27) + 2 * 4
        assert 0 < row["seconds_min"] <= row["seconds"] <= row["seconds_max"]

    def test_time(self, fake_metrics, monkeypatch):
        metric = create_metric("fake-nr.lite")
        calls = []

        def slow(dist, ref):
            calls.append(time.sleep(0.03))
            return torch.zeros(len(dist))

        monkeypatch.setattr(metric, "score_images", slow, raising=True)
        row = cost.measure_here(metric, (40, 40), repeats=3)
        assert 0.03 <= row["seconds"] < 0.3
        assert len(calls) == cost.WARM_UP + 3 + 1  # the last one is counted

    @pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be forgotten on Linux only")
    def test_memory(self):
        """In a process of its own, as cost is measured: this one has freed memory to give out again."""
        code = """if True:
            import numpy as np, torch
            from iqametrics.benchmark import cost
            np.ones(18_000_000).sum()  # a peak of 144 MB that must be forgotten
            before = cost.start_memory(torch.device("cpu"))
            block = np.ones(6_000_000)
            block += 1
            print(cost.memory_peak() - before)
        """
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert 0.9 * 48_000_000 < int(done.stdout) < 1.5 * 48_000_000

    def test_pictures(self):
        one, other = cost.picture((30, 40), 0), cost.picture((30, 40), 1)
        assert one.shape == (1, 3, 30, 40)
        assert 0 <= one.min() < one.max() <= 1
        assert 0 < (one - other).abs().mean() < 0.2
        assert torch.equal(one, cost.picture((30, 40), 0))


class TestProcess:
    def test_a_metric_of_piq(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        if sys.version_info >= (3, 11):  # which can be told not to import from the current folder
            (tmp_path / "statistics.py").write_text("raise SystemExit('a file of the user was run')")
        row = cost.measure("piq/psnr", size=(48, 64), device="cpu", threads=1, repeats=1)
        assert (row["metric"], row["mode"], row["height"], row["width"]) == ("piq/psnr", "fr", 48, 64)
        assert (row["parameters"], row["flops"], row["weight_bytes"]) == (0, 0, 0)
        assert (row["device"], row["threads"], row["repeats"]) == ("cpu", 1, 1)
        assert row["memory"] >= 0
        assert row["memory_process"] > 10**8  # torch alone takes more

    def test_a_failure_is_one_line(self, fake_metrics, capsys, monkeypatch):
        def refuse(dist, ref=None):
            raise InputError("too small, give 161x161\nand more")

        metric = create_metric("fake-fr.lite")
        monkeypatch.setattr(type(metric), "forward", lambda self, dist, ref=None: refuse(dist, ref))
        assert cost.main(["fake-fr.lite", "--size", "48x64"]) == 1
        out, err = capsys.readouterr()
        assert (out, err) == ("", "too small, give 161x161\n")
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", f"a\n{err}"))
        with pytest.raises(InputError, match=r"fake-fr: its cost cannot be measured .*161x161") as caught:
            cost.measure("fake-fr", size=(48, 64), device="cpu")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("text", ["12", "0x5", "ax5", "5x", ""])
    def test_sizes_that_cannot_be(self, text):
        with pytest.raises(ValueError, match=r"is not HxW|invalid literal"):
            cost.parse_size(text)


@pytest.fixture
def measured(monkeypatch):
    """What would be measured; nothing is."""
    asked = []

    def measure(name, *, size, untrained, **keywords):
        asked.append((name, untrained, size))
        if name == "piq/vsi":
            raise InputError("piq/vsi: its cost cannot be measured (it is too tired)")
        numbers = dict.fromkeys(("parameters", "flops", "memory", "weight_bytes"), 2_000_000_000)
        place = {"height": size[0], "width": size[1], "looked_at": list(size)}
        return {"metric": name, **numbers, **place, "seconds": 0.5, "uncounted_operations": ["add", "mul"]}

    monkeypatch.setattr(benchmark_cost, "measure", measure)
    return asked


class TestCommand:
    def test_what_is_asked_for(self, measured, capsys):
        command = ["benchmark", "cost", "--metric", "piq/psnr", "--untrained", "bpclip-fr"]
        assert main([*command, "--size", "64x48", "--size", "512x512", "--format", "json"]) == 0
        expected = [("bpclip-fr", True), ("piq/psnr", False)]
        assert measured == [(*job, size) for size in ((64, 48), (512, 512)) for job in expected]
        rows = json.loads(capsys.readouterr().out)
        assert rows[0]["size"] == "64x48"
        assert rows[0]["gflops"] == 2
        assert rows[0]["memory_mb"] == 2000

    def test_all_that_there_are(self, measured, capsys, tmp_path):
        path = tmp_path / "cost.json"
        assert main(["benchmark", "cost", "--output", str(path)]) == 1
        untrained = [name for name, chosen, _ in measured if chosen]
        assert {"bpclip-fr", "bpclip-nr", "pfd-iqa"} <= set(untrained)
        assert {"bpclip-fr.lite", "bpclip-nr.lite", "pfd-iqa.lite", *benchmark_cost.BASELINES} <= {
            name for name, chosen, _ in measured if not chosen
        }
        assert "too tired" in capsys.readouterr().err
        # One that fails costs its row; the machine is told with the others.
        written = json.loads(path.read_text())
        assert len(written["rows"]) == len(measured) - 1
        assert {"command", "commit", "date", "hardware", "processor", "packages"} <= set(written)

    def test_what_was_measured_is_kept(self, measured, monkeypatch, capsys, tmp_path):
        """Interrupted at the second metric; and a file that cannot be written is told as such."""
        path = tmp_path / "cost.json"
        first = benchmark_cost.measure

        def measure(name, **keywords):
            if measured:
                raise KeyboardInterrupt
            return first(name, **keywords)

        monkeypatch.setattr(benchmark_cost, "measure", measure)
        command = ["benchmark", "cost", "--metric", "piq/psnr", "--metric", "piq/ssim", "--output"]
        assert main([*command, str(path)]) == 130
        assert [row["metric"] for row in json.loads(path.read_text())["rows"]] == ["piq/psnr"]
        measured.clear()
        assert main([*command, str(tmp_path / ("n" * 256))]) == 1
        assert "cannot be written (File name too long); give another --output" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--metric", "nothing"], "unknown metric 'nothing'"),
            (["--untrained", "piq/psnr"], "others have no paper size"),
            (["--untrained", "bpclip-fr.lite"], "others have no paper size"),
            (["--size", "4x"], "'4x' is not HxW"),
            (["--output", "no/such/folder/cost.json"], "does not exist"),
        ],
    )
    def test_mistakes(self, measured, capsys, arguments, message):
        assert main(["benchmark", "cost", *arguments]) == 2
        assert message in capsys.readouterr().err
        assert measured == []

    def test_help_needs_no_torch(self):
        code = (
            "import sys; from iqametrics.cli.main import main; status = main(['benchmark', 'cost', '--help'])\n"
            "sys.exit(status or ('torch' in sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "--untrained" in done.stdout
