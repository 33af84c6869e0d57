#!/usr/bin/env bash
# Makes the environment and runs the whole test suite. Options go to pytest:
# ./scripts/test.sh -k dicom
# Tests of the page and of PostgreSQL are skipped where their programs are not
# installed; ./scripts/test_tools.sh installs them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
# Files are shared out whole, so that each process makes its fixtures once.
exec .venv/bin/python -m pytest -n 2 --dist loadfile --durations=10 "$@"
