"""Unmodified Python clients against a cluster: argv[1] = bootstrap addresses, three brokers.

Each client creates a topic, produces with and without idempotence in every codec, reads everything back from offset 0
and compares. Any difference or error ends the script with a traceback.
"""

import sys
import time

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
RECORDS = 200
PARTITIONS = 3
PATIENCE_S = 60


def expected(client):
    return {
        f"{client}-{codec}-{idempotent}-{number}"
        for codec in CODECS
        for idempotent in (False, True)
        for number in range(RECORDS)
    }


def compare(client, values):
    wanted = expected(client)
    assert len(values) == len(wanted), f"{client}: {len(values)} records, wanted {len(wanted)}"
    assert set(values) == wanted, f"{client}: other records than were produced"
    print(f"{client}: {len(values)} records produced and read back")


def confluent(bootstrap):
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    topic = f"confluent-{time.time_ns()}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = NewTopic(topic, num_partitions=PARTITIONS, replication_factor=3)
    admin.create_topics([new])[topic].result(PATIENCE_S)
    described = admin.list_topics(timeout=PATIENCE_S)
    assert len(described.brokers) == 3, described.brokers
    assert len(described.topics[topic].partitions) == PARTITIONS

    failures = []
    for codec in CODECS:
        for idempotent in (False, True):
            producer = Producer(
                {
                    "bootstrap.servers": bootstrap,
                    "enable.idempotence": idempotent,
                    "compression.type": codec,
                    "acks": "all",
                }
            )
            for number in range(RECORDS):
                producer.produce(
                    topic,
                    f"confluent-{codec}-{idempotent}-{number}".encode(),
                    key=str(number),
                    partition=number % PARTITIONS,
                    on_delivery=lambda error, _: error and failures.append(error),
                )
            assert producer.flush(PATIENCE_S) == 0, "records were not delivered"
    assert not failures, failures

    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
    )
    partitions = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    ends = sum(consumer.get_watermark_offsets(each, timeout=PATIENCE_S)[1] for each in partitions)
    values = []
    deadline = time.monotonic() + PATIENCE_S
    while len(values) < ends and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None:
            continue
        assert message.error() is None, message.error()
        values.append(message.value().decode())
    compare("confluent", values)
    first = consumer.offsets_for_times([TopicPartition(topic, 0, 1)], timeout=PATIENCE_S)
    assert first[0].offset == 0, first
    consumer.close()
    admin.delete_topics([topic])[topic].result(PATIENCE_S)


def kafka_python(bootstrap):
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import KafkaAdminClient, NewTopic

    topic = f"python-{time.time_ns()}"
    servers = bootstrap.split(",")
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([NewTopic(topic, PARTITIONS, 3)])
    for codec in CODECS:
        for idempotent in (False, True):
            producer = KafkaProducer(
                bootstrap_servers=servers,
                acks="all",
                enable_idempotence=idempotent,
                compression_type=None if codec == "none" else codec,
            )
            sent = [
                producer.send(
                    topic,
                    f"python-{codec}-{idempotent}-{number}".encode(),
                    key=b"key",
                    partition=number % PARTITIONS,
                )
                for number in range(RECORDS)
            ]
            for each in sent:
                each.get(timeout=PATIENCE_S)
            producer.close()

    consumer = KafkaConsumer(
        bootstrap_servers=servers, consumer_timeout_ms=10_000, enable_auto_commit=False
    )
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    assert all(start == 0 for start in consumer.beginning_offsets(partitions).values())
    ends = sum(consumer.end_offsets(partitions).values())
    for each in partitions:
        consumer.seek(each, 0)
    values = []
    for message in consumer:
        values.append(message.value.decode())
        if len(values) == ends:
            break
    compare("python", values)
    consumer.close()
    admin.delete_topics([topic])
    admin.close()


if __name__ == "__main__":
    confluent(sys.argv[1])
    kafka_python(sys.argv[1])
