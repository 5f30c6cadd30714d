"""Three brokers with a sidecar each, as processes on loopback."""

import json
import shutil
import subprocess
import urllib.request

from processes import Process, free_port, wait_until

SOON_S = 60
LATER_S = 180


class Node:
    """A broker, its sidecar and their ports."""

    def __init__(self, number, base):
        self.number = number
        self.data = base / f"broker-{number}"
        self.kafka, self.peer, self.snapshot, self.sidecar, self.metrics = (free_port() for _ in range(5))
        self.broker_process = None
        self.sidecar_process = None

    def status(self):
        """What the sidecar says of the replicas of its broker, by (topic, partition)."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.sidecar}/status?page_size=1000", timeout=5) as answer:
            partitions = json.load(answer)["partitions"]
        return {(each["topic"], each["partition"]): each for each in partitions}

    def seeded(self, topic):
        """Ids of the snapshots that the sidecar has seeded its broker from, newest last, by partition."""
        ids = {}
        for line in self.sidecar_process.log.read_text().splitlines():
            event = json.loads(line)
            if event.get("message") == "broker seeded":
                name, partition = event["partition"].rsplit("/", 1)
                if name == topic:
                    ids.setdefault(int(partition), []).append(event["snapshot_id"])
        return ids

    def metrics_page(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5) as answer:
            return answer.read().decode()


class Cluster:
    """The processes. `options` are those of the sidecars, without prefix; `store` tells them where snapshots go."""

    def __init__(self, base, binaries, store, options):
        self.base = base
        self.binaries = binaries
        self.nodes = [Node(number, base) for number in (1, 2, 3)]
        peers = ",".join(f"{node.number}=127.0.0.1:{node.peer}" for node in self.nodes)
        for node in self.nodes:
            node.broker_process = Process(
                f"broker {node.number}",
                self._broker_command(node, peers),
                base / "logs" / f"broker-{node.number}.log",
            )
            settings = options | {
                "BROKER_ENDPOINT": f"http://127.0.0.1:{node.snapshot}",
                "LISTEN": f"127.0.0.1:{node.sidecar}",
                "METRICS_LISTEN": f"127.0.0.1:{node.metrics}",
            }
            node.sidecar_process = Process(
                f"sidecar {node.number}",
                [binaries / "chronik-snapshotd", "run"],
                base / "logs" / f"sidecar-{node.number}.log",
                {f"CHRONIK_SNAPSHOT_{key}": str(value) for key, value in settings.items()} | store,
            )

    def _broker_command(self, node, peers):
        return [
            self.binaries / "refbroker",
            "serve",
            f"--broker-id={node.number}",
            f"--data-dir={node.data}",
            f"--kafka-listen=127.0.0.1:{node.kafka}",
            f"--peer-listen=127.0.0.1:{node.peer}",
            f"--snapshot-listen=127.0.0.1:{node.snapshot}",
            f"--sidecar-endpoint=http://127.0.0.1:{node.sidecar}",
            f"--peers={peers}",
            "--cluster-id=e2e",
            "--initial-cluster=new",
            # Small, so that snapshots point into earlier ones.
            "--segment-bytes=1048576",
        ]

    @property
    def bootstrap(self):
        return ",".join(f"127.0.0.1:{node.kafka}" for node in self.nodes)

    def node(self, number):
        return self.nodes[number - 1]

    def start(self):
        for node in self.nodes:
            node.broker_process.start()
            node.sidecar_process.start()
        self.wait("all brokers and their sidecars", lambda: all(node.status() for node in self.nodes))
        # Nobody may create a cluster any more: a broker that lost its disk has to find this one.
        for node in self.nodes:
            node.broker_process.command.remove("--initial-cluster=new")
            node.broker_process.command.remove("--cluster-id=e2e")

    def stop(self):
        for node in self.nodes:
            node.sidecar_process.kill()
            node.broker_process.kill()

    def wait(self, what, look, within_s=SOON_S):
        def checked():
            for node in self.nodes:
                node.broker_process.check()
                node.sidecar_process.check()
            return look()

        return wait_until(what, checked, within_s, self.logs)

    def logs(self):
        return "\n".join(
            process.tail() for node in self.nodes for process in (node.broker_process, node.sidecar_process)
        )

    def replicas(self):
        """The brokers' own words, by (broker, topic, partition)."""
        endpoints = ",".join(f"http://127.0.0.1:{node.snapshot}" for node in self.nodes)
        command = [self.binaries / "refbroker", "status", "-o", "json", "-s", endpoints]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)
        return {
            (broker["broker_id"], replica["topic"], replica["partition"]): replica
            for broker in told["brokers"]
            for replica in broker["replicas"]
        }

    def replicas_of(self, topic):
        return {
            (broker, partition): replica
            for (broker, name, partition), replica in self.replicas().items()
            if name == topic
        }

    def lose_disk(self, number):
        """kill -9 for a broker; then nothing that it kept is there any more."""
        node = self.node(number)
        node.broker_process.kill()
        shutil.rmtree(node.data)

    def wait_rejoined(self, topic, number, old_peers):
        """Waits until the broker is a voter of every partition again, under peer ids it never had, and nothing needs
        the dead peer any more: a joint configuration still counts it."""

        def voter_everywhere():
            replicas = self.replicas_of(topic)
            partitions = {partition for _, partition in replicas}
            mine = {partition: replicas.get((number, partition)) for partition in partitions}
            assert all(mine.values()), f"no replica on broker {number}: {mine}"
            for partition, replica in mine.items():
                peer = replica["peer_id"]
                assert peer not in old_peers, f"partition {partition} came back as peer {peer}, which it was before"
                assert peer in replica["voters"], f"partition {partition}: {replica}"
                assert replica["learners"] == [], f"partition {partition}: {replica}"
            joint = {place: replica for place, replica in replicas.items() if replica["voters_outgoing"]}
            assert not joint, f"a change of voters is under way: {joint}"
            return True

        self.wait(f"broker {number} votes in every partition of {topic}", voter_everywhere, LATER_S)
