#!/usr/bin/env bash
# Sets up the machine it runs on and trains there, as one of all workers of a
# TPU slice, or alone. It creates and deletes no machine.
#
# Usage: ./scripts/tpu_vm.sh [--dry-run] [--extra tpu|cuda|test] [--tries N]
#            [--coordinator auto|none] -- --config C --workdir W [...]
#
# On every worker of a slice at once, from any machine with gcloud:
#   gcloud compute tpus tpu-vm ssh NAME --zone ZONE --worker=all \
#     --command 'cd rsna_jax && ./scripts/tpu_vm.sh -- \
#       --config configs/xception_meta.py --workdir /mnt/runs/xm \
#       --config.parallel.mode=shard_map --config.data.dir=/mnt/data'
# W has to be a folder that all workers see; the data may be a copy on each.
# The same command goes on from the last checkpoint: after a preemption, run it
# again on the slice that came back, or make it the start-up script of the VMs.
#
# A training whose peer has gone (code 75), or that was killed, is started again
# up to N times, here as on the other workers. It ends with the training's code
# on success (0), bad input (2), or a signal (130, 143).
set -euo pipefail

dry_run=false
extra=tpu
tries=20
coordinator=auto
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=true ;;
    --extra) extra=${2:?--extra NAME, as setup.py has them}; shift ;;
    --tries) tries=${2:?--tries N}; shift ;;
    --coordinator) coordinator=${2:?--coordinator auto or none}; shift ;;
    --) shift; break ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "error: $1: unknown; options of the training follow --" >&2; exit 2 ;;
  esac
  shift
done
case $tries in '' | *[!0-9]*)
  echo "error: --tries $tries: a whole number" >&2; exit 2 ;;
esac
if [ $# -eq 0 ]; then
  echo "error: nothing to train: give --config and --workdir after --" >&2
  exit 2
fi

cd "$(dirname "$0")/.."

. scripts/environment.sh
if "$dry_run"; then
  echo "+ make_environment $extra"
else
  make_environment "$extra"
fi

options=()
if [ "$coordinator" != none ]; then options=(--coordinator "$coordinator"); fi
# A signal to this script is one to the training, which saves and ends.
child=
forward() { if [ -n "$child" ]; then kill -s "$1" "$child" || true; fi; }
trap 'forward TERM' TERM
trap 'forward INT' INT
for ((try = 1; ; try++)); do
  echo "+ .venv/bin/python -m rsna_jax.main $* ${options[*]-}"
  if "$dry_run"; then exit 0; fi
  .venv/bin/python -m rsna_jax.main "$@" ${options[@]+"${options[@]}"} &
  child=$!
  code=0
  wait "$child" || code=$?
  # A trapped signal ends the wait before the training has saved.
  while kill -0 "$child" 2> /dev/null; do
    code=0
    wait "$child" || code=$?
  done
  case $code in
    0 | 2 | 130 | 143) exit "$code" ;;
  esac
  if [ "$try" -ge "$tries" ]; then exit "$code"; fi
  echo "ended with code $code; starting again in 10 s ($try of $tries)" >&2
  sleep 10
done
