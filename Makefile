# What people and CI run. Needs Rust, a C compiler, git, make and Python 3 with venv; the rest is fetched into target/.

CARGO ?= cargo
PYTHON ?= python3
VENV := target/venv
PYTHON_TOOLS := tests/clients/requirements.txt

# The examples are a tool of the tests. With them cargo takes the libraries that tests are built with; without, it would
# build others for the same programs.
PROGRAMS := $(CARGO) build --locked --workspace --bins --examples

.DEFAULT_GOAL := help
.PHONY: help demo test test-kcat test-machine machine-tools e2e page-test soak fuzz fuzz-build verify memory bench \
  lint fmt docs-check observability-check dashboard deploy-check systemd-check image-check

help:
	@echo "make demo       a cluster that loses logs on purpose and a disk by accident; about a minute once built"
	@echo "make test       every test, documentation examples and real Kafka clients included"
	@echo "make test-kcat  the tests that need kcat installed"
	@echo "make test-machine  full disks, split networks, little memory; needs root and fails without"
	@echo "make e2e        real Kafka clients, S3 servers and Prometheus around a cluster; STORE=s3s-fs,moto,garage"
	@echo "make page-test  the status page in a headless Chromium, with screenshots in target/page"
	@echo "make soak       random kills, wiped disks, partitions and store faults; MINUTES=3, SEED=n to repeat one"
	@echo "make fuzz       every fuzz target for SECONDS=60 each"
	@echo "make verify     everything that docs/VERIFICATION.md names, at full length; target/verify/report.json"
	@echo "make memory     peak memory of the daemon around a 1 GiB partition"
	@echo "make bench      the benchmarks"
	@echo "make observability-check  alerts, their tests, runbooks, dashboard: right, and naming only what exists"
	@echo "make dashboard  writes deploy/grafana/chronik-snapshotd.json anew"
	@echo "make deploy-check  everything under deploy/ with systemd, kubectl, Helm, hadolint, promtool, shellcheck"
	@echo "make systemd-check  installs broker and sidecar on a real systemd, as docs/DEPLOYMENT.md says; needs root"
	@echo "make image-check   builds the image without a registry and looks into it; needs root"
	@echo "make lint       formatting, clippy, the protocol's rules; changes nothing"
	@echo "make fmt        formats the code"
	@echo "make docs-check  builds the book into target/book, and holds the documents to what they claim"

demo:
	$(CARGO) build --release --locked -p chronik-snapshotd -p refbroker -p chronik-harness --bins
	$${CARGO_TARGET_DIR:-target}/release/demo

# The end-to-end tests start the built programs, so those come first, in one build with the tests: they share their
# libraries. Most tests wait for processes of theirs: four times as many run at a time as there are cores.
test verify: export RUST_TEST_THREADS ?= $(shell echo $$((4 * $$(getconf _NPROCESSORS_ONLN))))
test: $(VENV)/ready machine-tools
	$(PROGRAMS) --tests
	$(CARGO) test --locked --workspace
	$(CARGO) test --locked --workspace --features chronik-snapshotd/otlp --test otlp
	HARNESS_PYTHON=$(abspath $(VENV)/bin/python) \
	  $(CARGO) test --locked --workspace --test harness -- --ignored python

test-kcat:
	$(PROGRAMS)
	$(CARGO) test --locked --workspace --test harness -- --ignored kcat

# Root only: network namespaces, mounted disks. In `make test` what is not allowed says "IGNORED: needs root".
test-machine: machine-tools
	$(PROGRAMS)
	MACHINE_TESTS_REQUIRED=1 $(CARGO) test --locked --test machine -- --nocapture

machine-tools:
	@[ "$$(id -u)" != 0 ] || scripts/debian-tools.sh ip=iproute2

# STORE names S3 servers, comma-separated: s3s-fs, moto, garage (built once, ten minutes).
STORE ?= s3s-fs,moto
E2E_VENV := target/e2e-venv

e2e: $(E2E_VENV)/ready
	scripts/debian-tools.sh kcat prometheus zstd
	$(PROGRAMS)
	STORE=$(STORE) GARAGE="$(if $(findstring garage,$(STORE)),$$(scripts/garage.sh))" \
	  $(E2E_VENV)/bin/python -m pytest -p no:cacheprovider tests/e2e $(PYTEST_ARGS)

PAGE_VENV := target/page-venv

page-test: $(PAGE_VENV)/ready
	scripts/debian-tools.sh chromium
	$(PROGRAMS)
	$(PAGE_VENV)/bin/python -m pytest -p no:cacheprovider tests/page $(PYTEST_ARGS)

# Random trouble for MINUTES; SEED repeats one run's choices.
MINUTES ?= 3

soak:
	$(PROGRAMS)
	$${CARGO_TARGET_DIR:-target}/debug/soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# libFuzzer with the address sanitizer on the pinned toolchain. New inputs stay in target/fuzz-corpus, what fails in
# target/fuzz-artifacts; see fuzz/README.md.
SECONDS ?= 60
CARGO_FUZZ := target/tools/bin/cargo-fuzz
FUZZ_TARGETS = $(sort $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs))))
FUZZ_PROGRAMS := target/fuzz/$(shell rustc -vV | sed -n 's/^host: //p')/release

fuzz-build: $(CARGO_FUZZ)
	RUSTC_BOOTSTRAP=1 $(CARGO_FUZZ) build --fuzz-dir fuzz --target-dir target/fuzz

fuzz: fuzz-build
	@set -e; for target in $(FUZZ_TARGETS); do \
	  echo "$$target: $(SECONDS) s"; \
	  mkdir -p target/fuzz-corpus/$$target target/fuzz-artifacts/$$target; \
	  $(FUZZ_PROGRAMS)/$$target -max_total_time=$(SECONDS) -max_len=4095 -timeout=20 -rss_limit_mb=1024 \
	    -verbosity=0 -print_final_stats=1 -artifact_prefix=target/fuzz-artifacts/$$target/ \
	    target/fuzz-corpus/$$target fuzz/corpus/$$target; \
	done

$(CARGO_FUZZ):
	$(CARGO) install --locked --root target/tools cargo-fuzz

verify: $(VENV)/ready machine-tools
	$(PYTHON) scripts/verify.py

# Peak memory of the daemon around a 1 GiB partition.
memory:
	$(CARGO) bench --locked --bench memory

# Beside other tools, alternating with them; about half an hour, target/bench/report.json. SECTION=transfer measures that
# alone, PAGE=docs/PERFORMANCE.md renews the table there.
BENCH_VENV := target/bench-venv

bench: $(BENCH_VENV)/ready
	scripts/debian-tools.sh rclone pigz zstd
	$(CARGO) build --release --locked --workspace --bins
	$(CARGO) bench --locked --workspace --bench block_pipeline --bench pure
	$(CARGO) bench --locked --workspace --bench cost -- \
	  $(foreach section,$(SECTION),--section $(section)) $(if $(PAGE),--page $(abspath $(PAGE)))

# What an operator watches. The unit tests of the rules take a quarter of a minute.
OBSERVABILITY_VENV := target/observability-venv

observability-check: $(OBSERVABILITY_VENV)/ready
	scripts/debian-tools.sh promtool=prometheus
	$(OBSERVABILITY_VENV)/bin/python scripts/check-observability.py

dashboard:
	@mkdir -p target
	$(PYTHON) deploy/grafana/build.py > target/dashboard.json
	mv target/dashboard.json deploy/grafana/chronik-snapshotd.json

lint: $(VENV)/ready
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null
	$(VENV)/bin/buf lint proto

fmt:
	$(CARGO) fmt --all

# Needs no cargo. scripts/check-docs.py tells what is checked; docs/PROTOCOL_REFERENCE.md is renewed by
# scripts/proto-reference.py.
DOCS_VENV := target/docs-venv

docs-check: $(DOCS_VENV)/ready
	$(DOCS_VENV)/bin/python scripts/check-docs.py

DEPLOY_VENV := target/deploy-venv

# The deployment files as the real tools see them, then broken copies of them: each must be noticed.
deploy-check: $(DEPLOY_VENV)/ready
	scripts/check-deploy.sh
	scripts/check-deploy.sh --broken

systemd-check:
	$(PROGRAMS)
	scripts/check-systemd.py

image-check:
	scripts/check-image.sh

# Python tools at pinned versions; made again when a list changes.
$(VENV)/ready: $(PYTHON_TOOLS)
$(E2E_VENV)/ready: tests/e2e/requirements.txt $(PYTHON_TOOLS)
$(PAGE_VENV)/ready: tests/page/requirements.txt tests/e2e/requirements.txt $(PYTHON_TOOLS)
$(BENCH_VENV)/ready: benches/cost/requirements.txt
$(DOCS_VENV)/ready: docs/requirements.txt
$(OBSERVABILITY_VENV)/ready: scripts/observability/requirements.txt
$(DEPLOY_VENV)/ready: deploy/requirements.txt
$(addsuffix /ready,$(VENV) $(E2E_VENV) $(PAGE_VENV) $(BENCH_VENV) $(DOCS_VENV) $(OBSERVABILITY_VENV) $(DEPLOY_VENV)):
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@
