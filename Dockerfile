# chronik-snapshotd, nothing else. Any platform of the base images: the program is built for the one that is asked for.
#
#   docker build --tag chronik-snapshotd:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag ... --push .
#
# Both bases may be replaced. BUILD_IMAGE needs Rust in the version of rust-toolchain.toml, a C compiler and make;
# RUNTIME_IMAGE needs glibc and certificate authorities at least as new as BUILD_IMAGE's, and no shell.
ARG BUILD_IMAGE=rust:1.95.0-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
# For arm64 kernels with pages of 64 KiB: 16. Default: the page size of the machine that builds.
ARG JEMALLOC_SYS_WITH_LG_PAGE
# Cargo features, comma-separated: otlp, see docs/OPERATIONS.md.
ARG FEATURES=
# Not in Cargo.toml: who builds a program to look into it keeps its symbols.
ENV CARGO_PROFILE_RELEASE_STRIP=symbols \
    CARGO_PROFILE_RELEASE_DEBUG=false

# The dependencies, in a layer that stays as long as the manifests do: the sources are empty but for what lints ask for.
# .cargo/config.toml sets up the allocator, which is one of them.
COPY .cargo/config.toml .cargo/
COPY Cargo.toml Cargo.lock ./
COPY refbroker/Cargo.toml refbroker/
COPY tests/harness/Cargo.toml tests/harness/
COPY tests/s3-server/Cargo.toml tests/s3-server/
RUN mkdir -p src benches refbroker/src tests/harness/src tests/s3-server/src \
    && touch refbroker/src/lib.rs tests/harness/src/lib.rs tests/s3-server/src/lib.rs \
        benches/block_pipeline.rs benches/pure.rs benches/memory.rs \
    && echo '//! Empty.' > src/lib.rs \
    && printf '//! Empty.\nfn main() {}\n' > build.rs \
    && cp build.rs src/main.rs \
    && cargo build --release --locked --package chronik-snapshotd --bins --features "$FEATURES"

# The program. Copied files are older than the empty ones were: touched, so that they are built.
COPY build.rs ./
COPY proto proto
COPY src src
RUN touch build.rs src/lib.rs src/main.rs \
    && cargo build --release --locked --package chronik-snapshotd --bins --features "$FEATURES" \
    && install -D --mode=0755 target/release/chronik-snapshotd /out/chronik-snapshotd

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="chronik-snapshotd" \
      org.opencontainers.image.description="Snapshot sidecar of a Kafka-compatible Raft broker" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /usr/share/doc/chronik-snapshotd/LICENSE
COPY --from=build /out/chronik-snapshotd /usr/local/bin/chronik-snapshotd
# The user of Chronik's own pods: broker and sidecar share sockets.
USER 1001:1001
EXPOSE 9090
STOPSIGNAL SIGTERM
# No HEALTHCHECK: Kubernetes ignores it, and a restart on its word would come on top of the orchestrator's own probes.
# `chronik-snapshotd health` and /healthz are there for those.
ENTRYPOINT ["/usr/local/bin/chronik-snapshotd"]
CMD ["run"]
