"""Two worlds: a real cluster with a real S3 server, and one daemon beside a broker with ten thousand replicas."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from browser import View, chromium  # noqa: E402
from clients import create_topic, produce  # noqa: E402
from cluster import Cluster  # noqa: E402
from processes import Process, free_port, wait_until  # noqa: E402
from stores import S3sFs  # noqa: E402

CARGO_TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARIES = CARGO_TARGET / "debug"
TARGET = ROOT / "target" / "page"
TOPIC = "orders"
OPTIONS = {
    "LOG_THRESHOLD": 100,
    "TRAILING_ENTRIES": 50,
    "CHECK_INTERVAL_SECS": 1,
    "MIN_INTERVAL_SECS": 0,
    "RETENTION_COUNT": 3,
    "DELETE_GRACE_SECS": 1,
    "DRILL_INTERVAL_SECS": 2,
    "LOG_FORMAT": "json",
}


def fresh(name):
    base = TARGET / name
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    return base


@pytest.fixture(scope="session")
def browser():
    with chromium() as launched:
        yield launched


@pytest.fixture
def view(browser):
    """Makes views, and holds each at its end to what must be true of all."""
    with contextlib.ExitStack() as views:

        def made(origin, **context):
            one = View(browser, origin, TARGET, **context)
            views.callback(one.close)
            return one

        yield made


class Real:
    """Three brokers with their sidecars; some snapshots of a topic with three partitions."""

    def __init__(self):
        base = fresh("cluster")
        self.server = S3sFs(base, BINARIES)
        self.cluster = Cluster(base, BINARIES, self.server.settings, OPTIONS)
        self.node = self.cluster.node(1)
        self.origin = f"http://127.0.0.1:{self.node.metrics}"

    def start(self):
        self.server.start()
        self.cluster.start()
        create_topic(self.cluster.bootstrap, TOPIC, 3)
        for batch in range(1, 4):
            produce(self.cluster.bootstrap, TOPIC, 3, [b"x" * 2000] * 450)
            self.cluster.wait(f"snapshot {batch} of every partition", lambda end=batch * 100: self.proven(end))

    def proven(self, end):
        ends = [
            (one["newest_last_included"] or {"index": 0})["index"]
            for (topic, _), one in self.node.status().items()
            if topic == TOPIC
        ]
        return len(ends) == 3 and all(each >= end for each in ends)

    def stop(self):
        self.cluster.stop()
        self.server.stop()

    def listed(self, partition):
        """What the command line lists."""
        sidecar = self.node.sidecar_process
        command = [sidecar.command[0], "list", partition, "--output", "json"]
        done = subprocess.run(command, env=sidecar.environment, capture_output=True, check=True, timeout=60)
        return json.loads(done.stdout)["snapshots"]


@pytest.fixture(scope="module")
def real():
    world = Real()
    try:
        world.start()
        yield world
    finally:
        world.stop()


class Crowd:
    """One daemon beside a broker with 10,002 replicas, its store in a directory."""

    partitions = 10_002

    def __init__(self):
        self.base = fresh("crowd")
        self.broker = None
        self.daemon = None
        self.listen, self.metrics = free_port(), free_port()
        self.origin = f"http://localhost:{self.metrics}"

    def start(self):
        program = BINARIES / "examples" / "crowd"
        self.broker = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        settings = {
            "BROKER_ENDPOINT": f"unix:{self.broker.stdout.readline().strip()}",
            "LISTEN": f"127.0.0.1:{self.listen}",
            "METRICS_LISTEN": f"127.0.0.1:{self.metrics}",
            "LOG_THRESHOLD": 1000,
            "TRAILING_ENTRIES": 100,
            "COMPACT": "false",
            "LOG_FORMAT": "text",
        }
        local = {"OBJECT_STORE_BACKEND": "local", "LOCAL_STORAGE_PATH": str(self.base / "store")}
        self.daemon = Process(
            "daemon",
            [BINARIES / "chronik-snapshotd", "run"],
            self.base / "daemon.log",
            {f"CHRONIK_SNAPSHOT_{key}": str(value) for key, value in settings.items()} | local,
        )
        self.daemon.start()
        wait_until("10,002 partitions, all of them looked at", self.settled, 240, self.daemon.tail)

    def ask(self, query=""):
        with urllib.request.urlopen(f"{self.origin}/status?{query}", timeout=10) as answer:
            return json.load(answer)

    def settled(self):
        self.daemon.check()
        status = self.ask("page_size=1")
        due_are_proven = status["summary"]["without_snapshot"] == self.partitions - 25
        failing = status["summary"]["failing"] == 1
        busy = status["running"] or status["daemon"]["queued"]
        return status["summary"]["partitions"] == self.partitions and due_are_proven and failing and not busy

    def stop(self):
        if self.daemon:
            self.daemon.kill()
        if self.broker:
            self.broker.stdin.close()
            self.broker.wait(30)


@pytest.fixture(scope="module")
def crowd():
    world = Crowd()
    try:
        world.start()
        yield world
    finally:
        world.stop()
