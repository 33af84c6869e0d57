# Sourced by the other scripts: makes .venv with the tested versions, once.
# Usage: make_environment EXTRAS, as in: make_environment 'dev'
make_environment() {
  local extras=$1 python stamp wanted
  python=${PYTHON:-}
  if [ -z "$python" ]; then
    for candidate in python3.12 python3.11 python3.13 python3; do
      if command -v "$candidate" >/dev/null 2>&1 \
        && "$candidate" -c 'import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        python=$candidate
        break
      fi
    done
  fi
  if [ -z "$python" ]; then
    echo 'error: Python 3.11 to 3.13 with venv is needed (Debian: apt-get' \
      'install python3 python3-venv); or set PYTHON to one' >&2
    return 2
  fi
  wanted="$("$python" --version) $extras $(cat setup.py constraints.txt \
    | cksum)"
  stamp=.venv/rsna_jax_stamp_$extras
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]
  then
    echo "using the environment in .venv"
    return 0
  fi
  echo "making the environment in .venv ($("$python" --version), once)"
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable ".[$extras]"
  echo "$wanted" > "$stamp"
}
