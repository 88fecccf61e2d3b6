# shellcheck shell=bash
# Sourced by quickstart and check: installs the Debian packages of the sets named that are not there yet, and Python's.
# Usage: install_packages build test   (sets of tools/packages.txt). Returns 1 with a message that says what to do.

tools_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The packages of the sets named, one a line.
packages_of() {
  local set
  for set in "$@"; do awk -v set="$set" '$1 == set {print $2}' "$tools_dir/packages.txt"; done
}

package_is_installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages() {
  local wanted missing=() package
  wanted=$(packages_of "$@")
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "This is not a Debian system: nothing is installed here. These must be there (Debian's names):"
    echo "  ${wanted//$'\n'/ }"
    return 0
  fi
  for package in $wanted; do
    package_is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0

  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "These packages are missing, and installing them needs root:" >&2
      echo "  apt-get install ${missing[*]}" >&2
      echo "Run that as root, then start this again." >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "Installing from Debian: ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { "${as_root[@]}" apt-get update -q &&
         "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
           "${missing[@]}"; } </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    echo "apt-get failed (its last lines are above). Is the network there? By hand, as root:" >&2
    echo "  apt-get update && apt-get install ${missing[*]}" >&2
    return 1
  fi
  rm -f "$log"
}

# install_python_packages VENV REQUIREMENTS: a virtual environment with exactly these packages from PyPI, made again when
# the list has changed. Where it cannot be made the reason is in VENV.reason, the result is 1, and no more is said: what
# needs it is skipped.
install_python_packages() {
  local venv=$1 requirements=$2 python=/usr/bin/python3 # Debian's, which python3-venv belongs to
  [ -x "$python" ] || python=python3
  cmp -s "$requirements" "$venv/complete" && return 0
  rm -rf "$venv" "$venv.reason"
  if ! "$python" -m venv "$venv" >"$venv.log" 2>&1; then
    echo "python3 -m venv failed: $(tail -n 1 "$venv.log")" >"$venv.reason"
    return 1
  fi
  if ! timeout 300 "$venv/bin/pip" install --no-input --disable-pip-version-check --retries 1 --timeout 15 --only-binary :all: \
    -r "$requirements" </dev/null >"$venv.log" 2>&1; then
    echo "PyPI does not give it: $( (grep -m1 ERROR "$venv.log" || tail -n 1 "$venv.log") | cut -c 1-200)" >"$venv.reason"
    return 1
  fi
  cp "$requirements" "$venv/complete"
}
