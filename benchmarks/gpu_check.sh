#!/usr/bin/env bash
# What only a GPU can show, on a machine that has one and nothing else, in under ten minutes:
#   bash benchmarks/gpu_check.sh [--device cuda|mps|cpu] [--small] [--minutes 9] [--output FILE]
# Nothing is needed but Python and, where iqametrics' dependencies are not installed, a package index.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1
# cuBLAS reads it when it starts; without it, its products are not deterministic.
export CUBLAS_WORKSPACE_CONFIG=:4096:8
if ! "$python" -c "import iqametrics.training.run" 2>/dev/null; then
    "$python" -m venv runs/gpu-check/venv
    python=runs/gpu-check/venv/bin/python
    "$python" -m pip install --quiet -e .
fi
exec "$python" benchmarks/gpu_check.py "$@"
