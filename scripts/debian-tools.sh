#!/bin/sh
# Makes sure that the named commands exist; installs the Debian package of the same name, or that of COMMAND=PACKAGE,
# where that is allowed.
set -eu

missing=
for tool in "$@"; do
    command -v "${tool%%=*}" >/dev/null || missing="$missing ${tool#*=}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing:$missing. Install them (Debian: apt-get install --no-install-recommends$missing)" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2 >&2
# shellcheck disable=SC2086
apt-get install --quiet=2 --yes --no-install-recommends $missing >&2
