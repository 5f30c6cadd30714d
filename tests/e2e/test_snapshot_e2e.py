"""The whole promise, driven by clients that other people wrote.

Every test runs against each S3 server of `STORE`, on one cluster of three brokers and three sidecars, with a topic of
its own. `make e2e` sets everything up.
"""

import clients

PARTITIONS = 3
RECORDS = 20_000
THRESHOLD = 1000
TRAILING = 100
RETENTION = 3
LATER_S = 180


def records(count, begin=0):
    """Distinct values of about 1 KiB that compress like text."""
    return [f"record {number} ".encode() + b"the quick brown fox " * 49 for number in range(begin, begin + count)]


def expected(values):
    return {partition: values[partition::PARTITIONS] for partition in range(PARTITIONS)}


def wait_truncated(world, topic):
    """Until every replica of every partition has been snapshotted and truncated, in the sidecars' own words."""

    def truncated():
        for node in world.cluster.nodes:
            status = node.status()
            for partition in range(PARTITIONS):
                replica = status.get((topic, partition))
                assert replica, f"sidecar {node.number} has not seen {topic}/{partition} yet"
                assert replica["newest_snapshot_id"], f"no snapshot on {node.number}: {replica}"
                assert replica["first_log_index"] > 1, f"the log of {node.number} is whole: {replica}"
                entries = replica["last_log_index"] - replica["first_log_index"] + 1
                assert entries < THRESHOLD + TRAILING, f"the log of {node.number} is long: {replica}"
                assert not replica["unprotected"] and not replica["last_error"], replica
        return True

    world.cluster.wait(f"every replica of {topic} is truncated", truncated, LATER_S)


def wait_counted(world, expression, at_least):
    """Until Prometheus has it: scrapes are a second apart."""

    def reached():
        value = world.prometheus.value(expression)
        assert value is not None and value >= at_least, f"{expression} = {value}"
        return True

    world.cluster.wait(f"{expression} >= {at_least}", reached)


def peers_of(replicas):
    return {replica["peer_id"] for replica in replicas.values()}



def test_20000_records_survive_truncated_logs_and_a_lost_disk(world):
    cluster, topic = world.cluster, world.topic("orders")
    clients.create_topic(cluster.bootstrap, topic, PARTITIONS)
    values = records(RECORDS)
    clients.produce(cluster.bootstrap, topic, PARTITIONS, values)
    wait_truncated(world, topic)

    # What lies in the bucket can be understood, checked and unpacked without the program.
    for partition in range(PARTITIONS):
        proven = world.bucket.proven(topic, partition)
        assert 1 <= len(proven) <= RETENTION + 1
        for snapshot_id in proven:
            manifest = world.bucket.verify(topic, partition, snapshot_id)
            assert manifest["codec"] == world.codec
            assert len(manifest["conf_state"]["voters"]) == 3
            assert manifest["lineage"]["cluster_id"] == "e2e"
        blocks = [block for part in manifest["parts"] for block in part["blocks"]]
        raw, stored = (sum(block[f"{kind}_len_bytes"] for block in blocks) for kind in ("raw", "stored"))
        assert stored < raw / 2, "text compresses better than that"

    # Prometheus sees all three sidecars and agrees.
    wait_counted(world, 'sum(up{job="chronik-snapshotd"})', 3)
    wait_counted(world, "sum(chronik_snapshot_loop_running)", 3)
    wait_counted(world, 'sum(chronik_snapshot_operations_total{operation="snapshot",result="success"})', PARTITIONS)
    wait_counted(world, "sum(chronik_snapshot_compacted_entries_total)", 3 * RECORDS * 0.8)
    wait_counted(world, "sum(chronik_snapshot_reused_bytes_total)", 1)
    assert world.prometheus.value("sum(chronik_snapshot_unprotected)") == 0
    assert world.prometheus.value("sum(chronik_snapshot_identity_problem)") == 0

    old_peers = peers_of(cluster.replicas_of(topic))
    cluster.lose_disk(3)
    late = records(300, begin=RECORDS)
    clients.produce(cluster.bootstrap, topic, PARTITIONS, late)
    cluster.node(3).broker_process.start()
    cluster.wait_rejoined(topic, 3, old_peers)
    # Every partition came from a snapshot, none from the log of its peers alone.
    assert set(cluster.node(3).seeded(topic)) == set(range(PARTITIONS))
    wait_counted(world, 'sum(chronik_snapshot_bootstrap_requests_total{outcome="installed"})', PARTITIONS)

    # Broker 3 votes for real: without 1, nothing is committed without it.
    cluster.node(1).broker_process.kill()
    last = records(300, begin=RECORDS + 300)
    clients.produce(cluster.bootstrap, topic, PARTITIONS, last)
    wanted = [expected(each) for each in (values, late, last)]
    wanted = {number: sum((each[number] for each in wanted), []) for number in range(PARTITIONS)}
    assert clients.consume_confluent(cluster.bootstrap, topic, PARTITIONS) == wanted
    assert clients.consume_python(cluster.bootstrap, topic, PARTITIONS) == wanted
    assert clients.consume_kcat(cluster.bootstrap, topic, PARTITIONS) == wanted
    cluster.node(1).broker_process.start()


def test_retention_keeps_the_newest_and_nothing_else(world):
    cluster, topic = world.cluster, world.topic("retained")
    clients.create_topic(cluster.bootstrap, topic, PARTITIONS)
    seen = [set() for _ in range(PARTITIONS)]
    for round_number in range(RETENTION + 2):
        begin = round_number * 4 * THRESHOLD
        clients.produce(cluster.bootstrap, topic, PARTITIONS, records(4 * THRESHOLD, begin))
        for partition in range(PARTITIONS):
            at_least = (round_number + 1) * THRESHOLD

            def covered(partition=partition, at_least=at_least):
                proven = world.bucket.proven(topic, partition)
                seen[partition].update(proven)
                assert proven and int(proven[-1].split("-")[0]) >= at_least, proven
                return True

            cluster.wait(f"a snapshot of {topic}/{partition} at {at_least}", covered, LATER_S)

    for partition in range(PARTITIONS):

        def settled(partition=partition):
            folder = world.bucket.folder(topic, partition)
            kept = {each: kinds for each, kinds in folder.items() if "manifest.json" in kinds}
            newest = sorted(seen[partition] | set(kept))[-RETENTION:]
            assert sorted(kept) == newest, f"{sorted(kept)} instead of {newest}"
            for kinds in kept.values():
                assert set(kinds) == {"snap", "manifest.json", "verified.json"}, kinds
            # Of older snapshots there is what a kept one points into, and nothing else.
            used = {name for each in kept for name in world.bucket.manifest(topic, partition, each)["references"]}
            rest = {each: kinds for each, kinds in folder.items() if each not in kept}
            assert all(set(kinds) == {"snap"} and f"{each}.snap" in used for each, kinds in rest.items()), rest
            return True

        cluster.wait(f"{topic}/{partition} keeps {RETENTION} snapshots", settled, LATER_S)
        for snapshot_id in world.bucket.proven(topic, partition):
            world.bucket.verify(topic, partition, snapshot_id)


def test_a_recreated_topic_never_gets_the_records_of_its_namesake(world):
    cluster, topic = world.cluster, world.topic("reborn")
    clients.create_topic(cluster.bootstrap, topic, PARTITIONS)
    clients.produce(cluster.bootstrap, topic, PARTITIONS, records(6 * THRESHOLD))
    wait_truncated(world, topic)
    first_life = {each for number in range(PARTITIONS) for each in world.bucket.proven(topic, number)}
    old_peers = peers_of(cluster.replicas_of(topic))

    clients.delete_topic(cluster.bootstrap, topic)
    cluster.wait(f"{topic} is gone", lambda: not cluster.replicas_of(topic) or None)
    clients.create_topic(cluster.bootstrap, topic, PARTITIONS)
    old_peers |= peers_of(cluster.replicas_of(topic))
    values = [f"second life {number}".encode() for number in range(30)]
    clients.produce(cluster.bootstrap, topic, PARTITIONS, values)

    cluster.lose_disk(2)
    cluster.node(2).broker_process.start()
    cluster.wait_rejoined(topic, 2, old_peers)
    seeded = cluster.node(2).seeded(topic)
    assert not first_life & {each for ids in seeded.values() for each in ids}, seeded
    assert clients.consume_confluent(cluster.bootstrap, topic, PARTITIONS) == expected(values)
    kept = {each for number in range(PARTITIONS) for each in world.bucket.proven(topic, number)}
    assert first_life & kept == first_life, "the snapshots of a deleted topic are an operator's to remove"


def test_a_damaged_newest_snapshot_is_set_aside_and_the_broker_comes_back_all_the_same(world):
    cluster, topic = world.cluster, world.topic("damaged")
    clients.create_topic(cluster.bootstrap, topic, PARTITIONS)
    rounds = [records(4 * THRESHOLD, begin=number * 4 * THRESHOLD) for number in range(2)]
    for values in rounds:
        clients.produce(cluster.bootstrap, topic, PARTITIONS, values)
        wait_truncated(world, topic)

    def two_each():
        counts = [len(world.bucket.proven(topic, number)) for number in range(PARTITIONS)]
        assert min(counts) >= 2, counts
        return True

    cluster.wait("two snapshots of each partition", two_each, LATER_S)
    old_peers = peers_of(cluster.replicas_of(topic))
    cluster.lose_disk(3)
    damaged = {}
    for partition in range(PARTITIONS):
        damaged[partition] = world.bucket.proven(topic, partition)[-1]
        name = f"{topic}/{partition}/{damaged[partition]}.snap"
        data = bytearray(world.bucket.get(name))
        data[len(data) // 2] ^= 0x40
        world.bucket.put(name, bytes(data))
    cluster.node(3).broker_process.start()
    cluster.wait_rejoined(topic, 3, old_peers)
    # Logs were truncated on the damaged one, so no older one covers: the leaders have what is missing.
    seeded = cluster.node(3).seeded(topic)
    for partition, snapshot_id in damaged.items():
        assert snapshot_id not in seeded.get(partition, []), seeded

    for partition, snapshot_id in damaged.items():
        kinds = world.bucket.folder(topic, partition)[snapshot_id]
        assert "quarantined.json" in kinds, f"{snapshot_id} is not marked: {kinds}"
    wait_counted(world, "sum(chronik_snapshot_quarantined_total)", PARTITIONS)
    cluster.node(1).broker_process.kill()
    wanted = [expected(values) for values in rounds]
    wanted = {number: sum((each[number] for each in wanted), []) for number in range(PARTITIONS)}
    assert clients.consume_confluent(cluster.bootstrap, topic, PARTITIONS) == wanted
    cluster.node(1).broker_process.start()
