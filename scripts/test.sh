#!/usr/bin/env bash
# Makes the environment and runs the whole test suite. Options go to pytest:
# ./scripts/test.sh -k dicom
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
exec .venv/bin/python -m pytest --durations=10 "$@"
