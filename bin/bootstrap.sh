# shellcheck shell=sh
# What bin/koe and bin/test share: the virtual environment they run in. Sourced, with
# `root` set to the checkout.
#
#   prepare run|test    returns at once (some ms) if the environment holds what setup.cfg
#                       asks for, else makes it so, telling what it does. Afterwards
#                       `venv` is its directory. A failure ends the script.
#
# The environment is .venv in the checkout, or $XDG_DATA_HOME/koe/venv where the checkout
# is not ours to write. Only packages go into it; the checkout itself is found by
# PYTHONPATH. Files in it tell its state: `unfinished` while it is worked on (found at a
# later start, all is done again from nothing), `ready-run` and `ready-test`, written
# last, with what was asked for. The lock is on the directory above it, and the kernel
# drops it with the process: no stale locks.

# Debian's packages without which some tests cannot run:
#   build-essential   pesq, the judge of speech quality, comes as C source
#   procps            ps, as on systems without /proc
debian_test_packages="build-essential procps"

prepare() {
    # shellcheck disable=SC2154 # `root` is our reader's
    venv=$root/.venv
    if [ ! -w "$root" ] && ! is_ready "$1"; then
        venv=${XDG_DATA_HOME:-${HOME:?}/.local/share}/koe/venv
    fi
    is_ready "$1" || set_up "$1"
}

is_ready() {
    is_whole && [ "$(wanted "$1")" = "$(cat "$venv/ready-$1" 2>/dev/null)" ]
}

is_whole() {
    [ -x "$venv/bin/python" ] && [ ! -e "$venv/unfinished" ] || return 1
    [ -z "${KOE_PYTHON:-}" ] || [ "$KOE_PYTHON" = "$(cat "$venv/made-by" 2>/dev/null)" ]
}

wanted() {
    requirements "$1"
    [ "$1" = run ] || echo "# and from Debian: $debian_test_packages"
}

requirements() {
    sed -n '/^install_requires =/,/^$/s/^    //p' "$root/setup.cfg"
    [ "$1" = run ] || sed -n "/^$1 =/,/^\$/s/^    //p" "$root/setup.cfg"
}

set_up() {
    find_python || install_python
    mkdir -p "$venv" 2>/dev/null || fail 892 "No place to write" "$venv cannot be made" \
        "Make the checkout writable, or set XDG_DATA_HOME to a directory that is."
    lock
    if ! is_ready "$1"; then # not done by another while we waited
        is_whole || rm -rf "$venv"
        mkdir -p "$venv"
        : >"$venv/unfinished"
        log=$venv/set-up.log
        : >"$log"
        make_environment
        [ "$1" = run ] || install_test_packages
        install_requirements "$1"
        install_portaudio
        wanted run >"$venv/ready-run"
        wanted "$1" >"$venv/ready-$1"
        rm "$venv/unfinished"
        say "done"
    fi
    exec 9<&- # unlocks
}

lock() { # waits while another holds it
    exec 9<"${venv%/*}"
    "$python" -I -c 'import fcntl as f; f.flock(9, f.LOCK_EX | f.LOCK_NB)' 2>/dev/null ||
        say "waiting for another set-up to end"
    "$python" -I -c 'import fcntl as f; f.flock(9, f.LOCK_EX)' # the shell keeps it
}

# --- the steps ------------------------------------------------------------------------

find_python() { # sets `python` to the real file, so that an upgrade beside it is noticed
    for candidate in ${KOE_PYTHON:-python3.13 python3.12 python3.11 python3}; do
        python=$("$candidate" -I -c '
import os, sys
assert sys.version_info >= (3, 11)
print(os.path.realpath(sys.executable))' 2>/dev/null) && return
    done
    return 1
}

install_python() {
    [ -z "${KOE_PYTHON:-}" ] || fail 891 "No Python that Koe can use" \
        "KOE_PYTHON=$KOE_PYTHON is no Python 3.11 or newer" \
        "Set it to one, or unset it to let Koe look for one."
    log=$(mktemp)
    { install_packages python3 python3-venv && find_python; } || fail 891 \
        "No Python that Koe can use" "no Python 3.11 or newer is on the PATH" \
        "Install one; on Debian and Ubuntu: sudo apt install python3 python3-venv"
}

make_environment() {
    [ ! -x "$venv/bin/python" ] || return 0
    say "a virtual environment in $venv, for $python"
    package=$(python_package)-venv
    "$python" -I -c 'import ensurepip, venv' 2>/dev/null ||
        install_packages "$package" || fail 893 "No virtual environment" \
        "$python lacks the module venv or ensurepip" \
        "Install it; on Debian and Ubuntu: sudo apt install $package"
    logged "$python" -I -m venv "$venv" ||
        fail_with_log 893 "No virtual environment" "$python -m venv failed"
    echo "${KOE_PYTHON:-}" >"$venv/made-by"
}

install_requirements() {
    requirements "$1" >"$venv/requirements.txt"
    say "Python packages ($(wc -l <"$venv/requirements.txt") and what they need)"
    logged "$venv/bin/python" -I -m pip install --no-input --disable-pip-version-check \
        --no-warn-script-location --requirement "$venv/requirements.txt" && return
    unreached='NewConnectionError|NameResolutionError|ProxyError|Connect.*Timeout'
    if grep -qE "$unreached" "$log"; then
        fail 894 "No network" "the Python package index was not reached (log: $log)" \
            "Connect this machine to the Internet and start again."
    elif grep -q 'No space left on device' "$log"; then
        fail 892 "No place to write" "the disk with $venv is full" \
            "Free 500 MB and start again."
    fi
    fail_with_log 895 "Python packages are missing" "pip could not install them"
}

install_test_packages() {
    command -v dpkg-query >/dev/null || return 0 # CONTRIBUTING.md names them for others
    missing=
    for package in $debian_test_packages; do
        dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null |
            grep -q ' installed' || missing="$missing $package"
    done
    "$python" -I -c 'import os, sysconfig as s
assert os.path.exists(s.get_path("include") + "/Python.h")' 2>/dev/null ||
        missing="$missing $(python_package)-dev"
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086 # a list of words
    install_packages $missing ||
        say "some tests will fail without these: sudo apt install$missing"
}

install_portaudio() { # for sound cards only: Koe works with files without it
    "$venv/bin/python" -I -c 'import sounddevice' 2>/dev/null ||
        install_packages libportaudio2 ||
        say "no sound cards without PortAudio (on Debian and Ubuntu: sudo apt install" \
            "libportaudio2); calls from and to files work"
}

# --- small things ---------------------------------------------------------------------

python_package() { # as Debian names this Python
    "$python" -I -c 'import sys; print("python%d.%d" % sys.version_info[:2])'
}

install_packages() { # from the system's, where that needs nobody's password
    command -v apt-get >/dev/null || return 1
    apt="env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=120"
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || return 1
        apt="sudo -n $apt"
    fi
    say "$* from the system's packages, with apt"
    # shellcheck disable=SC2086 # a command in words
    logged $apt install --no-install-recommends "$@" ||
        { logged $apt update && logged $apt install --no-install-recommends "$@"; }
}

logged() { # runs a command; its words go to the log, the last of them to a terminal
    { "$@" </dev/null 2>&1 || echo "exit status $?: $1"; } | tee -a "$log" | show
    case $(tail -n 1 "$log") in "exit status "*) return 1 ;; esac
}

show() {
    if [ -t 2 ]; then
        while IFS= read -r line; do printf '\r\033[K  %.76s' "$line"; done >&2
        printf '\r\033[K' >&2
    else
        cat >/dev/null
    fi
}

say() {
    echo "setting up Koe, once: $*" >&2
}

fail_with_log() { # code, title, cause
    tail -n 15 "$log" | sed 's/^/  | /' >&2
    fail "$@" "Read the end of the log, above, or all of it: $log"
}

fail() { # code, title, cause, next step: in the form and with the exit status of koe's own
    printf 'error K%s: %s\n  cause: %s\n  next step: %s\n' "$@" >&2
    [ "$1" != 894 ] || exit 6
    exit 1
}
