#!/bin/sh
# Makes the virtual environment .venv with just what requirements-dev.lock pins, and this project
# in it. Quick if that was done before. PYTHON names the interpreter to use; without it, the first
# of a fitting version is taken.
set -eu

venv=.venv
lock=requirements-dev.lock
stamp=$venv/.installed

say() { printf '%s\n' "$*" >&2; }

# Whether it is a Python of a version that this project runs on.
fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

# Whether it can make virtual environments: Debian keeps that in a package of its own.
complete() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

version() { "$1" -c 'import sys; print(sys.version)' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3 python3.14 python3.13 python3.12 python3.11 python
    fi
    incomplete=
    for name in "$@"; do
        fits "$name" || continue
        if complete "$name"; then
            printf '%s\n' "$name"
            return 0
        fi
        incomplete=${incomplete:-$name}
    done
    if [ -n "$incomplete" ]; then
        say "$("$incomplete" --version) ($incomplete) cannot make virtual environments: its venv module is missing."
        say "On Debian or Ubuntu, as root: apt-get install python3-venv. Then run make again."
    elif [ -n "${PYTHON:-}" ]; then
        say "PYTHON=$PYTHON is not a Python of version 3.11 to 3.14: name one that is, or leave PYTHON out."
    else
        say "No Python of version 3.11 to 3.14 is on the PATH. Install one (Debian or Ubuntu, as root:"
        say "apt-get install python3 python3-venv; macOS: brew install python), or name it: make PYTHON=/path/to/python3"
    fi
    return 1
}

# Whether .venv has a Python that fits, and the one that was asked for.
reusable() {
    fits $venv/bin/python || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version $venv/bin/python)" ]
}

# The folder is part of it: the scripts in a virtual environment name the place where it was made.
want=$({ cat $lock pyproject.toml; pwd; } | cksum)

if reusable && [ "$(cat $stamp 2>/dev/null)" = "$want" ]; then
    exit 0
fi
# one that was interrupted in its making has no pip yet
if ! { reusable && $venv/bin/python -c 'import pip' 2>/dev/null; }; then
    python=$(find_python)
    say "Making $venv with $("$python" --version)"
    "$python" -m venv --clear $venv
fi

pip() { $venv/bin/python -m pip --disable-pip-version-check --quiet "$@"; }

say "Installing what $lock pins"
rm -f $stamp
pip install --require-hashes --requirement $lock
pip install --no-build-isolation --no-deps --editable .
printf '%s\n' "$want" >$stamp
