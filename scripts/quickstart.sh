#!/usr/bin/env bash
# From nothing to a trained and evaluated model on made-up mammograms, on a
# machine with Python and git. A second run reuses what is there.
# Usage: ./scripts/quickstart.sh [FOLDER]     (default: quickstart)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
out=${1:-quickstart}
start=$SECONDS

make_environment plots,serve
rsna_jax=.venv/bin/rsna-jax
mkdir -p "$out"

echo "writing made-up mammograms to $out/phantom"
"$rsna_jax" phantom "$out/phantom" --patients 160 --seed 0

echo "preparing them in $out/data"
"$rsna_jax" prepare "$out/phantom" --data-dir "$out/data" --size 256x128

echo "training and evaluating in $out/run"
.venv/bin/python -m rsna_jax.main --config configs/phantom.py \
  --workdir "$out/run" --config.data.dir="$out/data"

echo "predicting DICOM files that the model has not seen"
"$rsna_jax" predict "$out/phantom" --workdir "$out/run" \
  --out "$out/predictions"

cat <<TEXT

Done in $((SECONDS - start)) seconds. What there is now:
  mammograms   $out/phantom (made up; $out/phantom/findings.csv has the truth)
  data set     $out/data
  run          $out/run (checkpoints, metrics, curves)
  report       $out/run/eval/validation/report.html
  metrics      $out/run/eval/validation/metrics.json
  submission   $out/run/submission.csv
  predictions  $out/predictions/predictions.csv

Next: open the page on this model, then http://127.0.0.1:8000 in a browser:
  $rsna_jax serve --workdir $out/run --store $out/store
or train on real mammograms, see README.md.
Research use only, not a medical device.
TEXT
