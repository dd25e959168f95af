"""What a metric costs on the machine at hand: parameters, operations, time and memory of one image or pair.

    measure("bpclip-fr", size=(384, 512), untrained=True)

Every metric is measured in a process of its own, so that neither memory nor warm caches of one count for another:

    python -m iqametrics.benchmark.cost bpclip-fr --size 384x512 --untrained

Cost does not depend on the weights, so the papers' models are measured with random ones.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iqametrics.errors import InputError, IqaError

if TYPE_CHECKING:
    import torch

    from iqametrics.metric import Metric

DEFAULT_SIZE = (384, 512)
"""Height and width of KADID-10k's and TID2013's images."""
WARM_UP = 2
REPEATS = 7
_WORST_NAMES = 6


def measure(
    name: str,
    *,
    size: tuple[int, int] = DEFAULT_SIZE,
    untrained: bool = False,
    device: str = "cpu",
    threads: int | None = None,
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """Measure a metric in a new process.

    Args:
        name: The metric, with or without a checkpoint's tag; also one of another package: "piq/fsim".
        size: Height and width of the image in pixels.
        untrained: Take the architecture of the paper's size with random weights.
        device: "cpu", "cuda", "mps" or "auto".
        threads: Threads of torch; None for torch's own choice.
        repeats: Timed calls.

    Returns:
        `metric`, `mode`, `height`, `width`; `looked_at`, the height and width after sizing; `parameters`; `flops` of
        one call, twice the multiplications of matrix products, convolutions and attention, which is all that torch's
        counter knows; `uncounted`, how many numbers the other operations put out, and `uncounted_operations`, those
        that put out most; `seconds`, the median of the timed calls, with `seconds_min` and `seconds_max`;
        `weight_bytes`; `memory`, the bytes that calls take at their peak beyond what was there before them, weights
        and libraries included (on a CPU resident memory of the process, on CUDA what torch's allocator gave), and
        `memory_process`, the resident memory of the whole process at that peak; `device`, `threads`, `repeats`.

    Raises:
        InputError: If the measurement failed; the message says why.
    """
    command = [sys.executable, "-m", "iqametrics.benchmark.cost", name, "--size", f"{size[0]}x{size[1]}"]
    command += ["--device", device, "--repeats", str(repeats)]
    command += ["--untrained"] if untrained else []
    command += [] if threads is None else ["--threads", str(threads)]
    # Import what this process imports, and nothing from the current folder (from Python 3.11 on).
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"the process ended with status {done.returncode}"])[-1]
        raise InputError(f"{name}: its cost cannot be measured ({reason})")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def parse_size(text: str) -> tuple[int, int]:
    """Read "HxW", height first as in tensors.

    Raises:
        ValueError: If the text is not two whole numbers from 1 up.

    Examples:
        >>> parse_size("384x512")
        (384, 512)
    """
    height, _, width = text.lower().partition("x")
    size = int(height), int(width)
    if min(size) < 1:
        raise ValueError(f"{text} is not HxW, e.g. 384x512")
    return size


def measure_here(metric: "Metric", size: tuple[int, int], *, repeats: int = REPEATS) -> dict[str, Any]:
    """Measure a metric in this process; on a CPU, memory is right only in the first measurement of a process.

    Args:
        metric: The metric, on its device.
        size: Height and width of the image.
        repeats: Timed calls.

    Returns:
        What `measure` returns, except `repeats`.
    """
    import torch

    device = next(metric.parameters()).device
    images = [picture(size, seed).to(device) for seed in range(2 if metric.mode == "fr" else 1)]
    before = start_memory(device)
    for _ in range(WARM_UP):
        metric(*images)
    seconds = [_timed(lambda: metric(*images), device) for _ in range(repeats)]
    # Counting takes memory of its own, so it comes after the peak was read.
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else memory_peak()
    process = memory_peak()
    flops, uncounted = count_operations(lambda: metric(*images))
    return {
        "metric": metric.full_name,
        "mode": metric.mode,
        "height": size[0],
        "width": size[1],
        "looked_at": list(metric.sizing.fit(*size)),
        "parameters": sum(parameter.numel() for parameter in metric.parameters()),
        "flops": flops,
        "uncounted": sum(uncounted.values()),
        "uncounted_operations": [name for name, _ in uncounted.most_common(_WORST_NAMES)],
        "seconds": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "weight_bytes": sum(tensor.nbytes for tensor in metric.state_dict().values()),
        "memory": peak - before,
        "memory_process": process,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }


def count_operations(call: Callable[[], object]) -> tuple[int, Counter[str]]:
    """Count what a call computes.

    Args:
        call: What to run, once.

    Returns:
        FLOPs by torch's counter, which knows matrix products, convolutions and attention (a multiplication and its
        addition are two), and for each other operation by its name how many numbers it put out.
    """
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    from iqametrics.nn.flops import COUNTED

    others: Counter[str] = Counter()
    counter = FlopCounterMode(display=False, custom_mapping=COUNTED)

    class Others(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = func(*args, **(kwargs or {}))
            if func._overloadpacket not in counter.flop_registry and not _is_view(func):
                others[func._overloadpacket.__name__] += _numbers(output)
            return output

    with counter, Others():
        call()
    return counter.get_total_flops(), others


def picture(size: tuple[int, int], seed: int) -> "torch.Tensor":
    """Make an image (1,3,H,W) in [0, 1], smooth with some noise: some metrics refuse noise alone.

    Args:
        size: Height and width.
        seed: Seed of the noise.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    rows = torch.linspace(0, 12, size[0])[:, None]
    columns = torch.linspace(0, 9, size[1])[None, :]
    waves = torch.stack([torch.sin(rows + columns + phase) for phase in range(3)])
    noise = torch.randn(waves.shape, generator=generator)
    return (0.5 + 0.35 * waves + 0.05 * noise).clamp(0, 1)[None]


def start_memory(device: "torch.device") -> int:
    """Forget the peak so far, where the system can, and return the bytes in use now."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    with contextlib.suppress(OSError):
        # Making the metric may have taken more than it kept. See proc(5): 5 resets VmHWM.
        Path("/proc/self/clear_refs").write_text("5")
    return memory_peak()


def memory_peak() -> int:
    """Return the peak of this process's resident memory since it began, or since `start_memory`, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # The system call below counts what the parent had before this process was one of its own; this file does not.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one metric in this process and print it as one line of JSON.

    Args:
        argv: Arguments; None for those of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m iqametrics.benchmark.cost", description=measure.__doc__)
    parser.add_argument("name")
    parser.add_argument("--size", type=parse_size, default=DEFAULT_SIZE)
    parser.add_argument("--untrained", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    args = parser.parse_args(argv)
    import torch

    from iqametrics.registry import create_metric

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    try:
        weights = None if args.untrained else "default"
        metric = create_metric(args.name, weights=weights, device=args.device)
        row = measure_here(metric, args.size, repeats=args.repeats)
    except (IqaError, RuntimeError, MemoryError) as error:
        print(str(error).strip().splitlines()[0] if str(error) else type(error).__name__, file=sys.stderr)
        return 1
    print(json.dumps({**row, "repeats": args.repeats}))
    return 0


def _timed(call: Callable[[], object], device: "torch.device") -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: "torch.device") -> None:
    """Wait until a device has finished its work."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _is_view(operation: Any) -> bool:
    """Tell whether an operation only looks at memory that is there."""
    if operation._overloadpacket.__name__ == "_unsafe_view":  # a view that is not declared as one
        return True
    outputs = operation._schema.returns
    return bool(outputs) and all(out.alias_info is not None and not out.alias_info.is_write for out in outputs)


def _numbers(output: Any) -> int:
    import torch

    parts = output if isinstance(output, tuple | list) else (output,)
    return sum(part.numel() for part in parts if isinstance(part, torch.Tensor))


if __name__ == "__main__":
    sys.exit(main())
