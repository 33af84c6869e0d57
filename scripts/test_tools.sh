#!/usr/bin/env bash
# Installs what some tests need beside Python, and are skipped without: Chromium
# and PostgreSQL (by apt-get, as root, where they are missing) and axe-core (by
# npm, into tests/node_modules). Says what it could not install; never fails.
set -uo pipefail
cd "$(dirname "$0")/.."
AXE=axe-core@4.14.1

lacks() {
  echo "test_tools: no $1: $2; the tests that need it are skipped"
}

packages=()
command -v chromium chromium-browser google-chrome >/dev/null ||
  packages+=(chromium)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
  command -v initdb >/dev/null || packages+=(postgresql)
[ -f tests/node_modules/axe-core/axe.min.js ] || command -v npm >/dev/null ||
  packages+=(npm)

if [ ${#packages[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    lacks "${packages[*]}" 'there is no apt-get here, install them yourself'
  elif [ "$(id -u)" != 0 ]; then
    lacks "${packages[*]}" "run 'sudo apt-get install ${packages[*]}'"
  else
    apt-get update -qq || true
    for package in "${packages[@]}"; do
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends "$package" >/dev/null ||
        lacks "$package" 'apt-get cannot install it'
    done
  fi
fi

if [ ! -f tests/node_modules/axe-core/axe.min.js ]; then
  if ! command -v npm >/dev/null; then
    lacks axe-core 'it needs npm'
  else
    npm install --prefix tests --no-save --no-package-lock --ignore-scripts \
      --no-audit --no-fund --silent "$AXE" || lacks axe-core 'npm failed'
  fi
fi
exit 0
