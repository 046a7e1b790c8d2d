# Sourced by the other scripts, with $root set: the virtual environment, and what mpirun needs.

stop() {
    echo "$0: $*" >&2
    exit 1
}

# A Python that MindSpore has wheels for; PYTHON=... chooses another one.
find_python() {
    for candidate in ${PYTHON:-python3.11 python3.10 python3.12 python3}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    stop "needs Python 3.10, 3.11 or 3.12 (tried: ${PYTHON:-python3.11 python3.10 python3.12 python3}). On Debian:" \
        "apt-get install python3 python3-venv; or name one: PYTHON=/path/to/python3.11 sh $0"
}

make_venv() {
    if ! "$root/.venv/bin/python" -c 'import pip' 2>/dev/null; then
        python=$(find_python)
        rm -rf "$root/.venv"
        if ! "$python" -m venv "$root/.venv"; then
            rm -rf "$root/.venv"
            stop "$python cannot make a virtual environment. On Debian: apt-get install python3-venv (or" \
                "$(basename "$python")-venv), then run this again"
        fi
    fi
    PATH="$root/.venv/bin:$PATH"
    VIRTUAL_ENV="$root/.venv"
    export PATH VIRTUAL_ENV
}

# Installs the requirement files named; those installed already, and unchanged since, are left alone.
install_requirements() {
    make_venv
    changed=
    for name in "$@"; do
        stamp="$root/.venv/.$name.installed"
        if ! cksum <"$root/$name" | cmp -s - "$stamp"; then changed="$changed $name"; fi
    done
    [ -n "$changed" ] || return 0
    echo "installing$changed into .venv (some 3 GB, minutes) ..."
    set --
    for name in $changed; do set -- "$@" -r "$root/$name"; done
    python -m pip install --quiet --disable-pip-version-check "$@"
    for name in $changed; do cksum <"$root/$name" >"$root/.venv/.$name.installed"; done
}

# mpirun as root (containers), and with more ranks than the machine shows cores (two hardware threads of one core).
allow_mpirun() {
    if [ "$(id -u)" = 0 ]; then
        OMPI_ALLOW_RUN_AS_ROOT=1
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM
    fi
    : "${PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe}" "${OMPI_MCA_rmaps_base_oversubscribe=1}"
    export PRTE_MCA_rmaps_default_mapping_policy OMPI_MCA_rmaps_base_oversubscribe
}

# For training by hand: .venv where it stands, else the Python and mpirun that are active.
use_environment() {
    if [ -x "$root/.venv/bin/python" ]; then
        PATH="$root/.venv/bin:$PATH"
        export PATH
    fi
    command -v mpirun >/dev/null || stop "mpirun is not installed: pip install -r requirements.txt brings one"
    allow_mpirun
}
