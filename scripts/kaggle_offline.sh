#!/usr/bin/env bash
# Makes a folder that predicts a competition folder on a machine without a
# network: wheels, a run's weights and config, and run.sh.
# Usage: ./scripts/kaggle_offline.sh RUN OUT [PYTHON_VERSION] [ARCHITECTURE]
#   RUN: a run directory, or a folder of crossvalidate; OUT: must not exist yet
#   PYTHON_VERSION and ARCHITECTURE of the other machine (default: 3.11 x86_64,
#   Linux with glibc 2.28 or later)
# There: bash OUT/run.sh COMPETITION_FOLDER ANSWERS [options of predict]
# Set PYTHON to the interpreter that has pip (default: that of .venv, or
# python3).
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 2
}

[ $# -ge 2 ] && [ $# -le 4 ] \
  || fail 'usage: ./scripts/kaggle_offline.sh RUN OUT [3.11] [x86_64]'
run=$(realpath -m -- "$1") out=$(realpath -m -- "$2")
version=${3:-3.11} architecture=${4:-x86_64}
cd "$(dirname "$0")/.."
python=${PYTHON:-}
[ -n "$python" ] || python=.venv/bin/python
[ -x "$python" ] || python=$(command -v python3) \
  || fail 'no Python: set PYTHON to one that has pip'

[ -f "$run/config.json" ] || compgen -G "$run/fold*/config.json" >/dev/null \
  || fail "$run: no config.json: name the folder of a run"
compgen -G "$run/checkpoints/*" >/dev/null \
  || compgen -G "$run/fold*/checkpoints/*" >/dev/null \
  || fail "$run: no checkpoint: run the training first"
[[ $version =~ ^3\.1[1-3]$ ]] \
  || fail "Python $version: choose 3.11, 3.12 or 3.13"
[[ $architecture =~ ^(x86_64|aarch64)$ ]] \
  || fail "architecture $architecture: choose x86_64 or aarch64"
[ ! -e "$out" ] || fail "$out: is there already: choose another folder"

# It gets its name when it is whole.
mkdir -p "$(dirname "$out")"
part=$(mktemp -d "$out.part.XXXXXX")
trap 'rm -rf "$part"' EXIT
mkdir "$part/wheels" "$part/source"

echo 'building the wheel of the package'
# A copy, because a build leaves its files beside the source.
cp -r rsna_jax setup.py pyproject.toml README.md LICENSE "$part/source"
find "$part/source" -name __pycache__ -prune -exec rm -rf {} +
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$part/wheels" \
  "$part/source"
rm -r "$part/source"

# These are published as source alone; they are pure Python.
for name in promise; do
  pinned=$(grep "^$name==" constraints.txt)
  "$python" -m pip wheel --quiet --no-deps --wheel-dir "$part/wheels" "$pinned"
done

echo "fetching wheels for Python $version on $architecture"
platforms=(--platform "manylinux2014_$architecture")
for minor in $(seq 5 28); do
  platforms+=(--platform "manylinux_2_${minor}_$architecture")
done
"$python" -m pip download --quiet --only-binary :all: \
  --python-version "$version" --implementation cp "${platforms[@]}" \
  --constraint constraints.txt --find-links "$part/wheels" \
  --dest "$part/wheels" "$(echo "$part"/wheels/rsna_jax-*.whl)"
cp constraints.txt "$part"

echo "copying $run"
mkdir "$part/run"
# What a prediction needs, and the evaluation that chose its threshold.
tar -C "$run" -cf - --exclude='events.*' --exclude=plots --exclude='*.csv' \
  --exclude='*.html' --exclude='*.png' . | tar -C "$part/run" -xf -

cat > "$part/run.sh" <<TEXT
#!/usr/bin/env bash
# Predicts a competition folder (test.csv, test_images) without a network.
# Usage: bash run.sh COMPETITION_FOLDER ANSWERS [options of rsna-jax predict]
# The submission is ANSWERS/submission.csv. Python $version on $architecture;
# set PYTHON to another interpreter of that version.
set -euo pipefail
version=$version
TEXT
cat >> "$part/run.sh" <<'TEXT'
if [ $# -lt 2 ]; then
  echo 'error: usage: bash run.sh COMPETITION_FOLDER ANSWERS [options]' >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
source=$1 answers=$2
shift 2
python=${PYTHON:-$(command -v "python$version" || command -v python3 || true)}
found=$("${python:-false}" -c \
  'import sys; print("%d.%d" % sys.version_info[:2])' || true)
if [ "$found" != "$version" ]; then
  echo "error: ${python:-python3} is Python ${found:-(none)}, the wheels are" \
    "for $version: set PYTHON" >&2
  exit 2
fi
# A new environment, so that nothing of the notebook's own gets in the way.
environment=${ENVIRONMENT:-${TMPDIR:-/tmp}/rsna_jax_$(id -u)_$(cksum \
  < "$here/constraints.txt" | cut -d' ' -f1)}
if [ ! -f "$environment/ready" ]; then
  "$python" -m venv --clear --without-pip "$environment"
  "$python" -m pip --isolated --python "$environment/bin/python" install \
    --quiet --disable-pip-version-check --no-index \
    --find-links "$here/wheels" --constraint "$here/constraints.txt" rsna_jax
  touch "$environment/ready"
fi
exec "$environment/bin/rsna-jax" predict "$source" --workdir "$here/run" \
  --out "$answers" "$@"
TEXT
chmod +x "$part/run.sh"
mv -T "$part" "$out"
trap - EXIT
chmod 755 "$out"
echo "$(du -sh "$out" | cut -f1) in $out: $(find "$out/wheels" -name '*.whl' \
  | wc -l) wheels, and run.sh"
