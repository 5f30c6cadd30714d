#!/bin/sh
# Builds an image without a registry and looks into it: size, no shell, user 1001, and that the program runs in it.
#   scripts/check-image.sh             chronik-snapshotd, from Dockerfile; about six minutes with two cores
#   scripts/check-image.sh refbroker   the reference broker, from refbroker/Dockerfile
# Needs root. The bases are made from Debian packages and the Rust that is installed here; they stay in target/image.
set -eu

program=${1:-chronik-snapshotd}
case $program in
    chronik-snapshotd) dockerfile=Dockerfile ;;
    refbroker) dockerfile=refbroker/Dockerfile ;;
    *) echo "there is no image $program" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "images are built by root here" >&2; exit 1; }
scripts/debian-tools.sh buildah mmdebstrap curl pgrep=procps

release=bookworm
size_max_bytes=40000000
work=$PWD/target/image
mkdir -p "$work"
scratch=$(mktemp -d)
container=
daemon=
finish() {
    [ -z "$daemon" ] || kill -KILL "$daemon" 2>/dev/null || true
    [ -z "$container" ] || { image_tool umount "$container"; image_tool rm "$container"; } >/dev/null
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 1' INT TERM

image_tool() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
fail() { echo "FAULT   $*" >&2; exit 1; }
ok() { echo "ok      $*"; }

# What stands for rust:VERSION-bookworm: a C compiler, make, and the toolchain that this repository pins.
build_base() {
    sysroot=$(rustc --print sysroot)
    [ -f "$work/build.tar" ] ||
        mmdebstrap --quiet --variant=minbase --include=ca-certificates,gcc,libc6-dev,make "$release" "$work/build.tar"
    base=$(image_tool from scratch)
    image_tool add --quiet "$base" "$work/build.tar" / >/dev/null
    for part in bin lib libexec; do
        [ ! -d "$sysroot/$part" ] || image_tool copy --quiet "$base" "$sysroot/$part" "/usr/local/$part" >/dev/null
    done
    image_tool copy --quiet "$base" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ >/dev/null
    image_tool commit --quiet --rm "$base" check-build-base >/dev/null
}

# What stands for distroless/cc: glibc, libgcc and certificate authorities, unpacked and nothing else; nor the name and the
# resolver of this machine.
runtime_base() {
    [ -f "$work/runtime.tar" ] ||
        {
            mmdebstrap --quiet --variant=extract --include=libc6,libgcc-s1 "$release" "$work/new.tar"
            tar --delete --file "$work/new.tar" ./etc/hostname ./etc/resolv.conf
            mv "$work/new.tar" "$work/runtime.tar"
        }
    base=$(image_tool from scratch)
    image_tool add --quiet "$base" "$work/runtime.tar" / >/dev/null
    image_tool copy --quiet "$base" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ >/dev/null
    image_tool commit --quiet --rm "$base" check-runtime-base >/dev/null
}

has_image() { image_tool inspect --type image "$1" >/dev/null 2>&1; }

build() {
    has_image check-build-base || build_base
    has_image check-runtime-base || runtime_base
    # Crates that are here already are not fetched again.
    crates=${CARGO_HOME:-$HOME/.cargo}/registry
    mkdir -p "$crates"
    image_tool build --isolation chroot --pull=never --network host --file "$dockerfile" --tag "$program:check" \
        --volume "$crates:/root/.cargo/registry" --build-arg BUILD_IMAGE=localhost/check-build-base \
        --build-arg RUNTIME_IMAGE=localhost/check-runtime-base . >"$work/$program.log" 2>&1 ||
        { tail -n 30 "$work/$program.log" >&2; fail "the image does not build; all of it in $work/$program.log"; }
    ok "$program: built"
}

setting() { image_tool inspect --type image --format "{{$1}}" "localhost/$program:check"; }

check_settings() {
    [ "$(setting .OCIv1.Config.User)" = 1001:1001 ] || fail "the image's user is $(setting .OCIv1.Config.User)"
    [ "$(setting .OCIv1.Config.StopSignal)" = SIGTERM ] || fail "the stop signal is $(setting .OCIv1.Config.StopSignal)"
    [ "$(setting .OCIv1.Config.Entrypoint)" = "[/usr/local/bin/$program]" ] || fail "entry point $(setting .OCIv1.Config.Entrypoint)"
    title=$(setting 'index .OCIv1.Config.Labels "org.opencontainers.image.title"')
    [ "$title" = "$program" ] || fail "the title is $title"
    ok "$program: user 1001:1001, SIGTERM, entry point and labels"
}

check_files() {
    files=$(image_tool mount "$container")
    size=$(du --apparent-size --bytes --summarize "$files" | cut -f 1)
    own=$(stat --format %s "$files/usr/local/bin/$program")
    [ "$size" -le "$size_max_bytes" ] || fail "the image has $size bytes, more than $size_max_bytes"
    ok "$program: $size bytes uncompressed, $own of them the program"
    # Whatever may be executed is the program, or a library.
    strangers=$(cd "$files" && find . \( -type f -o -type l \) -perm /111 ! -name '*.so*' ! -path "./usr/local/bin/$program" \
        -exec sh -c 'for path; do [ -f "$path" ] && [ -x "$path" ] && echo "$path"; done; true' sh {} +)
    [ -z "$strangers" ] || fail "programs that are not ours: $strangers"
    shells=$(cd "$files" && find . \( -name sh -o -name bash -o -name dash -o -name busybox \) ! -type d)
    [ -z "$shells" ] || fail "shells: $shells"
    privileged=$(find "$files" -type f -perm /6000)
    [ -z "$privileged" ] || fail "setuid: $privileged"
    [ -s "$files/etc/ssl/certs/ca-certificates.crt" ] || fail "no certificate authorities"
    ok "$program: no shell, no other program, nothing setuid, certificate authorities"
}

inside() { image_tool run --isolation chroot "$@"; }
program_in() { inside "$container" -- "/usr/local/bin/$program" "$@"; }

descendants() {
    for child in $(pgrep -P "$1"); do
        echo "$child"
        descendants "$child"
    done
}

check_daemon() {
    grep --quiet --text 'narenas:1' "$files/usr/local/bin/$program" || fail "built without .cargo/config.toml"
    program_in config check --set OBJECT_STORE_BACKEND=memory >/dev/null || fail "config check"
    code=0
    program_in config check --set OBJECT_STORE_BACKEND=nothing >/dev/null 2>&1 || code=$?
    [ "$code" = 78 ] || fail "config check of a wrong configuration ends with $code, not 78"
    ok "$program: config check, right and wrong"

    chmod 755 "$scratch"
    mkdir "$scratch/sockets"
    chown 1001:1001 "$scratch/sockets"
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    inside --volume "$scratch/sockets:/run/chronik-snapshot" "$container" -- "/usr/local/bin/$program" run \
        --set OBJECT_STORE_BACKEND=memory --listen unix:/run/chronik-snapshot/sidecar.sock \
        --metrics-listen "127.0.0.1:$port" --broker-endpoint unix:/run/chronik-snapshot/broker.sock 2>"$scratch/log" &
    runner=$!
    tries=0
    until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/healthz"; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { cat "$scratch/log" >&2; fail "/healthz does not answer"; }
        sleep 0.2
    done
    for process in $(descendants "$runner"); do
        [ "$(cat "/proc/$process/comm")" != chronik-snapsho ] || daemon=$process
    done
    [ -n "$daemon" ] || fail "the daemon is not to be found"
    user=$(sed -n 's/^Uid:\t\([0-9]*\)\t\([0-9]*\)\t.*/\1 \2/p' "/proc/$daemon/status")
    [ "$user" = "1001 1001" ] || fail "the daemon runs as $user"
    owner=$(stat --format '%u:%g %a' "$scratch/sockets/sidecar.sock")
    [ "$owner" = "1001:1001 660" ] || fail "the socket belongs to $owner"
    curl --silent --fail --output /dev/null --unix-socket "$scratch/sockets/sidecar.sock" http://localhost/status || fail "/status"
    ok "$program: runs as 1001, answers on its port and its socket"
    # What the startup probe of a pod does.
    inside --volume "$scratch/sockets:/run/chronik-snapshot" "$container" -- "/usr/local/bin/$program" health \
        --endpoint unix:/run/chronik-snapshot/sidecar.sock || fail "health"
    kill -TERM "$daemon"
    code=0
    wait "$runner" || code=$?
    daemon=
    [ "$code" = 0 ] || { cat "$scratch/log" >&2; fail "ended with $code after SIGTERM"; }
    ok "$program: health, and a clean end after SIGTERM"
}

build
container=$(image_tool from --pull=never "localhost/$program:check")
check_settings
check_files
program_in --version || fail "--version"
[ "$program" != chronik-snapshotd ] || check_daemon
