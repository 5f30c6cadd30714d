#!/bin/sh
# Prints the path of Garage, a distributed S3 server: $GARAGE, the one on PATH, or one built under target/tools.
set -eu

version=2.5.0
if [ -n "${GARAGE:-}" ]; then
    echo "$GARAGE"
    exit 0
fi
if command -v garage; then
    exit 0
fi
cd "$(dirname "$0")/.."
tools="$PWD/target/tools/garage"
if [ ! -x "$tools/bin/garage" ]; then
    echo "building garage $version, once; this takes about ten minutes" >&2
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64 \
        cargo install garage --version "$version" --locked --no-default-features \
        --features bundled-libs,lmdb --root "$tools" --target-dir "$tools/build" >&2
    rm -rf "$tools/build"
fi
echo "$tools/bin/garage"
