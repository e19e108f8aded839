#!/usr/bin/env bash
# Is evofool right on this GPU? Under five minutes; prints a table, writes gpu-check/report.json and report.md.
#
#   tests/gpu/check.sh [--out FOLDER] [--limit SECONDS] [--only STEP ...] [--pretend]
#
# Needs a Python with torch and CUDA: $PYTHON, else the one of .venv, else python3. Packages that it lacks come from the
# folder tests/gpu/wheels, which `make gpu-pack` fills on a machine with a network. Exit code 0: every step ran, and held.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
root="$(dirname "$(dirname "$here")")"
python="${PYTHON:-$root/.venv/bin/python}"
if ! command -v "$python" >/dev/null; then
    if [ -n "${PYTHON:-}" ]; then
        echo "gpu-check: PYTHON=$PYTHON is no program." >&2
        exit 2
    fi
    python=python3
fi
site="$(mktemp -d)"
trap 'rm -rf "$site"' EXIT

wheels="$("$python" "$here/packages.py" missing --wheels "$here/wheels")"
if [ -n "$wheels" ]; then
    # shellcheck disable=SC2086  # one word for each file
    if ! "$python" -m pip install -q --no-index --no-deps --no-compile --disable-pip-version-check --target "$site" $wheels
    then
        echo "gpu-check: fill tests/gpu/wheels for this Python: make gpu-pack FOR=$("$python" -c \
            'import sys; print(*sys.version_info[:2], sep=".")')" >&2
        exit 2
    fi
fi
"$python" "$here/packages.py" describe --site "$site"
export PYTHONPATH="$root:$root/tests:$site${PYTHONPATH:+:$PYTHONPATH}"
"$python" "$here/check.py" "$@"
