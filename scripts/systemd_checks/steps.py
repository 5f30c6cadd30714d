"""What is done and looked at, in order. Each step leaves the sidecar running."""

import json
import re

from .machine import expect, wait_for

UNIT = "chronik-snapshotd.service"
SOCKET = "chronik-snapshotd.socket"
ENV = "/etc/chronik-snapshotd/chronik-snapshotd.env"
SECRET = "a-secret-that-nobody-shows"
ADDRESS = "/run/chronik-snapshot/sidecar.sock"
RECORDS = 12000
# Three partitions and the brokers' own.
GROUPS = 4
BOOTSTRAP = "127.0.0.1:19091,127.0.0.1:19092,127.0.0.1:19093"
PEERS = "1=127.0.0.1:5001,2=127.0.0.1:5002,3=127.0.0.1:5003"

# Of the machine: a bucket, and three brokers. The first has the sidecar and runs as the docs say.
OTHERS = {
    "store.service": f"""
[Service]
ExecStart=/usr/bin/s3-server --dir /var/lib/store --bucket my-snapshots --listen 127.0.0.1:9000 --access-key key --secret-key {SECRET}
""",
    "chronik.service": f"""
[Service]
User=chronik-broker
Group=chronik
UMask=0007
RuntimeDirectory=chronik
StateDirectory=chronik
ExecStart=/usr/bin/refbroker serve --broker-id 1 --data-dir /var/lib/chronik/data --kafka-listen 127.0.0.1:19091 \\
  --peer-listen 127.0.0.1:5001 --snapshot-listen unix:/run/chronik/snapshot.sock --peers {PEERS} --cluster-id here --initial-cluster new \\
  --sidecar-endpoint unix:/run/chronik-snapshot/sidecar.sock --hold-entries 100 --segment-bytes 65536
""",
    **{
        f"other-{number}.service": f"""
[Service]
StateDirectory=other-{number}
ExecStart=/usr/bin/refbroker serve --broker-id {number} --data-dir /var/lib/other-{number}/data --kafka-listen 127.0.0.1:1909{number} \\
  --peer-listen 127.0.0.1:500{number} --snapshot-listen 127.0.0.1:929{number} --peers {PEERS} --cluster-id here --initial-cluster new \\
  --hold-entries 100 --segment-bytes 65536
"""
        for number in (2, 3)
    },
}

SETTINGS = """
S3_ENDPOINT=http://127.0.0.1:9000
S3_DISABLE_SSL=true
CHRONIK_SNAPSHOT_BROKER_ENDPOINT=unix:/run/chronik/snapshot.sock
CHRONIK_SNAPSHOT_LOG_THRESHOLD=1000
CHRONIK_SNAPSHOT_TRAILING_ENTRIES=10
CHRONIK_SNAPSHOT_CHECK_INTERVAL_SECS=2
CHRONIK_SNAPSHOT_MIN_INTERVAL_SECS=0
"""


def documented(page):
    """The commands of DEPLOYMENT.md's section on systemd, a list for each block."""
    section = page.split("\n## systemd\n")[1].split("\n## ")[0]
    return [block.strip() for block in blocks_of(section)]


def blocks_of(page):
    """All blocks of commands."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return [block for language, block in found if language in ("", "sh")]


def block_with(page, text):
    """The one block of commands in a page that has this text."""
    blocks = [block for block in blocks_of(page) if text in block]
    expect(len(blocks) == 1, f"{len(blocks)} blocks of commands have {text}")
    return blocks[0]


def by_hand_as_in_the_readme(machine, pages):
    told = machine.run(block_with(pages["README.md"], "--initial-cluster new &") + "\nkill %1 %2; wait %1 %2 || true; ls target/by-hand-state")
    expect("5000 records acknowledged" in told and "proven" in told, f"README.md: {told}")


def installed_as_documented(machine, pages):
    (machine.root / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
    for name, text in OTHERS.items():
        (machine.root / "etc/systemd/system" / name).write_text(text)
    done = []
    for block in documented(pages["docs/DEPLOYMENT.md"]):
        if "no-keys.conf" in block:
            continue
        if "/dev/stdin" in block:
            for line, key in zip(block.splitlines(), ("key", SECRET), strict=True):
                machine.run(line, stdin=f"{key}\n")
                done.append(line)
            continue
        if block.startswith("systemctl daemon-reload"):
            machine.run(f"cat >> {ENV}", stdin=SETTINGS)
            machine.run("useradd --system --gid chronik chronik-broker")
        # The program is built outside.
        lines = "\n".join(line for line in block.splitlines() if not line.startswith("cargo "))
        machine.run(lines.replace("systemctl status", "systemctl --no-pager status"))
        done.append(lines)
    expect(len(done) > 5 and any("enable --now chronik-snapshotd\n" in block for block in done), f"DEPLOYMENT.md: {done}")
    expect(machine.show(UNIT, "ActiveState") == "active", "the sidecar is not active after DEPLOYMENT.md")
    expect(machine.show(UNIT, "Type") == "notify", "the sidecar does not say when it is ready")
    expect(machine.show(SOCKET, "ActiveState") == "active", "systemd does not listen on the socket")
    expect("LISTEN_FDS" in environment(machine), "the sidecar made its socket itself")


def environment(machine):
    pid = machine.show(UNIT, "MainPID")
    return machine.run(f"tr '\\0' ' ' < /proc/{pid}/environ")


def broker_is_snapshotted_and_truncated(machine, _):
    machine.variables = [f"CHRONIK_SNAPSHOT_LISTEN=unix:{ADDRESS}"]
    machine.run("systemctl start store other-2 other-3 chronik")
    machine.run("chronik-snapshotd health")
    machine.run(f"refbroker create-topic -b {BOOTSTRAP} orders --partitions 3 --replication 3")
    machine.run(f"refbroker produce -b {BOOTSTRAP} --count {RECORDS} --value-bytes 100 orders")

    def truncated():
        status = json.loads(machine.run("chronik-snapshotd status --output json"))
        return [it for it in status["partitions"] if it["first_log_index"] > 1 and it["newest_snapshot_id"] and it["topic"] == "orders"]

    wait_for("a proven snapshot and a truncated log", truncated)


def store_is_listed_as_documented(machine, pages):
    listed = machine.run(block_with(pages["docs/DEPLOYMENT.md"], "/usr/bin/chronik-snapshotd list"))
    expect("orders/" in listed and "proven" in listed, f"the store is not listed: {listed}")


def only_the_group_may_connect(machine, _):
    status = f"chronik-snapshotd status --endpoint unix:{ADDRESS}"
    machine.run(f"runuser -u chronik-broker -- {status}")
    told = machine.fails(f"runuser -u nobody -- {status}")
    expect("ermission denied" in told, f"nobody is refused otherwise: {told}")
    mode = machine.run(f"stat --format='%a %U:%G' {ADDRESS} /run/chronik-snapshot").split("\n")
    expect(mode == ["660 chronik-snapshot:chronik", "750 chronik-snapshot:chronik"], f"the socket and its directory: {mode}")


def secret_is_in_no_environment(machine, _):
    pid = machine.show(UNIT, "MainPID")
    machine.run(f"tr '\\0' '\\n' < /proc/{pid}/environ | grep -q S3_SECRET_KEY_FILE=/run/credentials")
    machine.fails(f"grep -a {SECRET} /proc/{pid}/environ")
    machine.fails(f"systemctl show {UNIT} | grep {SECRET}")
    machine.fails(f"journalctl --unit={UNIT} | grep {SECRET}")


def lost_disk_is_seeded(machine, _):
    before = machine.run(f"refbroker consume -b {BOOTSTRAP} --count orders")
    expect(before == str(RECORDS), f"{before} records of {RECORDS} are there")
    machine.run("systemctl stop chronik && rm -r /var/lib/chronik/data && systemctl start chronik")

    def voter():
        told = machine.run("refbroker status --output json -s unix:/run/chronik/snapshot.sock", check=False)
        replicas = [it for broker in json.loads(told or '{"brokers": []}')["brokers"] for it in broker["replicas"]]
        votes = [it for it in replicas if len(it["voters"]) == 3 and it["peer_id"] in it["voters"]]
        return len(votes) == len(replicas) == GROUPS

    wait_for("a voter in every group", voter)
    expect("broker seeded" in machine.journal(UNIT), "nothing was seeded from a snapshot")
    after = machine.run(f"refbroker consume -b {BOOTSTRAP} --count orders")
    expect(after == str(RECORDS), f"{after} records of {RECORDS} are there after the loss of a disk")


def watchdog_ends_a_daemon_that_hangs(machine, _):
    machine.run(f"mkdir -p /run/systemd/system/{UNIT}.d && printf '[Service]\\nWatchdogSec=4\\nRestartSec=1\\n' > /run/systemd/system/{UNIT}.d/fast.conf")
    machine.run(f"systemctl daemon-reload && systemctl restart {UNIT}")
    pid = machine.show(UNIT, "MainPID")
    machine.run(f"kill -STOP {pid}")
    # Who calls meanwhile waits for the one that comes.
    machine.run("chronik-snapshotd health", check=False)
    wait_for("another daemon", lambda: machine.show(UNIT, "MainPID") not in ("0", pid) and machine.show(UNIT, "ActiveState") == "active")
    expect("atchdog timeout" in machine.run("journalctl --no-pager --output=cat"), "the journal does not tell of the watchdog")
    machine.run("chronik-snapshotd health")
    machine.run(f"rm -r /run/systemd/system/{UNIT}.d && systemctl daemon-reload && systemctl restart {UNIT}")


def reload_is_heard(machine, _):
    machine.run(f"systemctl reload {UNIT}")
    wait_for("the reload", lambda: "configuration read again" in machine.journal(UNIT))
    expect(machine.show(UNIT, "ActiveState") == "active", "the daemon does not survive a reload")


def call_starts_a_daemon_that_was_stopped(machine, _):
    machine.run(f"systemctl stop {UNIT}")
    expect(machine.show(UNIT, "Result") == "success", f"the daemon ends with {machine.show(UNIT, 'Result')}")
    expect(machine.show(UNIT, "ExecMainStatus") == "0", "the daemon's exit code is not 0")
    machine.run("chronik-snapshotd health")
    expect(machine.show(UNIT, "ActiveState") == "active", "a call to the socket starts no daemon")


def wrong_settings_end_with_78_and_no_restart(machine, _):
    machine.run(f"systemctl stop {SOCKET} {UNIT}")
    machine.run(f"cp {ENV} {ENV}.good && echo CHRONIK_SNAPSHOT_RETENTION_COUNT=0 >> {ENV}")
    machine.fails(f"systemctl start {UNIT}")
    expect(machine.show(UNIT, "ExecMainStatus") == "78", f"exit code {machine.show(UNIT, 'ExecMainStatus')}")
    expect(machine.show(UNIT, "ActiveState") == "failed", "it is tried again")
    expect("RETENTION_COUNT" in machine.journal(UNIT), "the journal does not name the setting")
    machine.run(f"mv {ENV}.good {ENV} && systemctl start {UNIT}")
    # Without the socket unit it makes its socket itself.
    machine.run("chronik-snapshotd health")


STEPS = [
    by_hand_as_in_the_readme,
    installed_as_documented,
    broker_is_snapshotted_and_truncated,
    store_is_listed_as_documented,
    only_the_group_may_connect,
    secret_is_in_no_environment,
    lost_disk_is_seeded,
    watchdog_ends_a_daemon_that_hangs,
    reload_is_heard,
    call_starts_a_daemon_that_was_stopped,
    wrong_settings_end_with_78_and_no_restart,
]
