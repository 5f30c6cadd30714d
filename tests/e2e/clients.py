"""Kafka clients that other people wrote, unmodified."""

import subprocess
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PATIENCE_S = 120


def create_topic(bootstrap, topic, partitions):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 3)])[topic].result(PATIENCE_S)


def delete_topic(bootstrap, topic):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(PATIENCE_S)


def produce(bootstrap, topic, partitions, values):
    """acks=all, idempotent, one record a batch: one Raft entry each. Returns once all are acknowledged."""
    failures = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
            "batch.num.messages": 1,
            "message.timeout.ms": PATIENCE_S * 1000,
        }
    )
    for number, value in enumerate(values):
        while True:
            try:
                producer.produce(
                    topic,
                    value,
                    partition=number % partitions,
                    on_delivery=lambda error, _: error and failures.append(error),
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0, "records were not acknowledged"
    assert not failures, failures[:5]


def end_of(consumer, partition):
    """The offset behind the last record. One call asks the broker that leads when it begins, and nobody else: ask
    again while a new leader is elected."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return consumer.get_watermark_offsets(partition, timeout=5)[1]
        except KafkaException:
            if time.monotonic() > deadline:
                raise


def consume_confluent(bootstrap, topic, partitions):
    """Everything from offset 0 to the end, per partition; fails on a gap."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False})
    assigned = [TopicPartition(topic, number, 0) for number in range(partitions)]
    consumer.assign(assigned)
    ends = {each.partition: end_of(consumer, each) for each in assigned}
    values = {each.partition: [] for each in assigned}
    deadline = time.monotonic() + PATIENCE_S
    while sum(map(len, values.values())) < sum(ends.values()):
        assert time.monotonic() < deadline, f"read {[len(each) for each in values.values()]} of {ends}"
        message = consumer.poll(1)
        if message is None:
            continue
        assert message.error() is None, message.error()
        assert message.offset() == len(values[message.partition()]), "a gap, or a record twice"
        values[message.partition()].append(message.value())
    consumer.close()
    return values


def consume_python(bootstrap, topic, partitions):
    """The same with kafka-python."""
    from kafka import KafkaConsumer, TopicPartition as Partition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","), consumer_timeout_ms=20_000, enable_auto_commit=False
    )
    assigned = [Partition(topic, number) for number in range(partitions)]
    consumer.assign(assigned)
    wanted = sum(consumer.end_offsets(assigned).values())
    consumer.seek_to_beginning(*assigned)
    values = {each.partition: [] for each in assigned}
    if wanted:
        for message in consumer:
            assert message.offset == len(values[message.partition]), "a gap, or a record twice"
            values[message.partition].append(message.value)
            wanted -= 1
            if wanted == 0:
                break
    assert wanted == 0, f"{wanted} records were not delivered"
    consumer.close()
    return values


def consume_kcat(bootstrap, topic, partitions):
    """The same with kcat. Values must not contain a line end."""
    values = {}
    for number in range(partitions):
        command = ["kcat", "-b", bootstrap, "-t", topic, "-p", str(number), "-C", "-o", "0", "-e", "-q"]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=True)
        values[number] = done.stdout.splitlines()
    return values
