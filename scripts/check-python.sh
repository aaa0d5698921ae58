#!/bin/sh
# Checks in advance what `make setup` needs, and names in one line what is missing.
python=$1
command -v "$python" >/dev/null 2>&1 || { echo "corewatch needs $python; on Debian: apt-get install python3 python3-venv" >&2; exit 1; }
"$python" - <<'PY' || exit 1
import sys

if sys.version_info < (3, 11):
    sys.exit(f"corewatch needs Python 3.11 or later, this is {sys.version.split()[0]}; name another one: make PYTHON=python3.11 ...")
try:
    import ensurepip, venv  # noqa: F401, E401
except ImportError:
    sys.exit("Python's venv module is not complete; on Debian: apt-get install python3-venv")
PY
