#!/bin/sh
# Checks everything under deploy/, the Dockerfiles and all shell scripts with the real tools. Arguments name single checks;
# --broken breaks copies of the files, one at a time, and wants each to be noticed.
set -eu

cd "$(dirname "$0")/.."
scripts/debian-tools.sh git promtool=prometheus systemd-analyze=systemd systemd-sysusers=systemd systemd-tmpfiles=systemd

venv=target/deploy-venv
PATH="$PWD/$venv/bin:$PATH"
export PATH PYTHONDONTWRITEBYTECODE=1
if [ "${1:-}" = --broken ]; then
    shift
    exec "$venv/bin/python" scripts/deploy_checks/broken.py "$@"
fi
exec "$venv/bin/python" scripts/deploy_checks/run.py "$@"
