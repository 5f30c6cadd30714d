"""One cluster with one store for all tests of a module; the tests keep to topics of their own."""

import itertools
import os
import pathlib
import shutil
import sys

import pytest

from bucket import Bucket
from cluster import Cluster
from prometheus import Prometheus
from stores import BUCKET, Garage, Moto, S3sFs

ROOT = pathlib.Path(__file__).resolve().parents[2]
CARGO_TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARIES = pathlib.Path(os.environ.get("E2E_BINARIES", CARGO_TARGET / "debug"))
TARGET = ROOT / "target" / "e2e"
# Each store with another codec.
CODECS = {"s3s-fs": "gzip", "moto": "zstd", "garage": "gzip"}
OPTIONS = {
    "LOG_THRESHOLD": 1000,
    "TRAILING_ENTRIES": 100,
    "CHECK_INTERVAL_SECS": 1,
    "MIN_INTERVAL_SECS": 0,
    "RETENTION_COUNT": 3,
    "DELETE_GRACE_SECS": 1,
    "LOG_FORMAT": "json",
}


def pytest_generate_tests(metafunc):
    if "world" in metafunc.fixturenames:
        stores = os.environ.get("STORE", "s3s-fs,moto").split(",")
        unknown = set(stores) - set(CODECS)
        if unknown:
            raise pytest.UsageError(f"STORE={','.join(sorted(unknown))}: use some of {', '.join(CODECS)}")
        metafunc.parametrize("world", stores, indirect=True, scope="module")


class World:
    """Everything that a test may touch."""

    def __init__(self, name):
        self.base = TARGET / name
        shutil.rmtree(self.base, ignore_errors=True)
        self.base.mkdir(parents=True)
        servers = {
            "s3s-fs": lambda: S3sFs(self.base, BINARIES),
            "moto": lambda: Moto(self.base, pathlib.Path(sys.executable).parent),
            "garage": lambda: Garage(self.base),
        }
        self.codec = CODECS[name]
        self.server = servers[name]()
        options = OPTIONS | {"COMPRESSION": self.codec}
        self.cluster = Cluster(self.base, BINARIES, self.server.settings, options)
        targets = [f"127.0.0.1:{node.metrics}" for node in self.cluster.nodes]
        self.prometheus = Prometheus(self.base, targets)
        self.bucket = None
        self._topics = itertools.count(1)

    def start(self):
        self.server.start()
        self.bucket = Bucket(self.server, BUCKET)
        self.cluster.start()
        self.prometheus.start()

    def stop(self):
        self.prometheus.stop()
        self.cluster.stop()
        self.server.stop()

    def topic(self, name):
        """A name that no other test uses."""
        return f"{name}-{next(self._topics)}"


@pytest.fixture(scope="module")
def world(request):
    world = World(request.param)
    try:
        world.start()
        yield world
    finally:
        world.stop()
