#!/usr/bin/env python3
"""The tables of docs/SCALING.md, worked out from what docs/PERFORMANCE.md measured and from the assumptions below.

Without arguments the page is renewed; with --check it must be up to date.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PERFORMANCE = ROOT / "docs/PERFORMANCE.md"
PAGE = ROOT / "docs/SCALING.md"

GB = 1e9
DAY_S = 86_400
DAYS_A_MONTH = 30
# List prices of S3 Standard in us-east-1, in US dollars. Traffic within the region and deletions cost nothing.
WRITE_PRICE = 0.005 / 1000
READ_PRICE = 0.0004 / 1000
STORAGE_PRICE_GB_MONTH = 0.023
# What the tables assume of a cluster.
SNAPSHOTS_A_DAY = 24
NEW_SHARE_A_DAY = 0.05
REPLICAS = 3
PARTITIONS_A_BROKER = 4_000
# Of the segment that is appended to, which each snapshot stores anew: half of 16 MiB.
OPEN_BYTES = 8 << 20
# From a request to its answer, and how many a restore makes before its data come.
REQUEST_S = 0.03
RESTORE_REQUESTS = 6
# Defaults of the program.
FULL_EVERY = 24
PART_BYTES = 8 << 20
READ_BYTES = 4 << 20
KEPT_FULL = 2
RESTORES_AT_A_TIME = 4
# A network of 1 Gbit/s.
NETWORK_BYTES_S = 125e6
# Requests of one hourly look at an idle partition: its leader's sidecar and the two others.
IDLE_WRITES_AN_HOUR = 4 + 2 * 2
IDLE_READS_AN_HOUR = 2 + 2 * 1

SIZES = [(10, 1), (10, 100), (1_000, 100), (1_000, 10_000), (100_000, 100), (100_000, 10_000)]


def measured():
    """Figures by key, from the table of the page."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) ", PERFORMANCE.read_text(encoding="utf-8"), re.MULTILINE)
    return {key: float(value) for key, value in rows}


def number(value):
    """Three digits at most, with a unit's letter only where the column has none."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def size(value_bytes):
    """Bytes for people."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value_bytes >= scale:
            return f"{value_bytes / scale:.3g} {unit}"
    return f"{value_bytes:.0f} B"


def duration(seconds):
    """Seconds for people."""
    for unit, scale in (("d", DAY_S), ("h", 3600), ("min", 60)):
        if seconds >= scale:
            return f"{seconds / scale:.2g} {unit}"
    return f"{seconds:.2g} s"


def snapshot_requests(figures, stored_bytes, increment):
    """Writes and reads of one snapshot by all three sidecars, the cut of every log and the deletion of the oldest."""
    writes, reads = figures["requests_cluster_writes"], figures["requests_cluster_reads"]
    if stored_bytes > PART_BYTES:
        writes += 2 + stored_bytes / PART_BYTES
    reads += stored_bytes / READ_BYTES
    if increment:
        reads += figures["requests_increment_reads"] - figures["requests_cycle_reads"]
    return writes, reads


def row(figures, partitions, state_gb):
    """One line of the table."""
    ratio = figures["gzip_ratio"]
    each_raw = state_gb * GB / partitions
    new_raw = each_raw * NEW_SHARE_A_DAY / SNAPSHOTS_A_DAY
    full = each_raw / ratio
    part = min(each_raw, new_raw + OPEN_BYTES) / ratio
    fulls = SNAPSHOTS_A_DAY / FULL_EVERY
    parts = SNAPSHOTS_A_DAY - fulls
    full_writes, full_reads = snapshot_requests(figures, full, False)
    part_writes, part_reads = snapshot_requests(figures, part, True)
    writes = partitions * (fulls * full_writes + parts * part_writes)
    reads = partitions * (fulls * full_reads + parts * part_reads)
    uploaded = partitions * (fulls * full + parts * part)
    kept = partitions * (KEPT_FULL * full + FULL_EVERY * part)
    money = DAYS_A_MONTH * (writes * WRITE_PRICE + reads * READ_PRICE)
    storage = kept / GB * STORAGE_PRICE_GB_MONTH
    restore_rate = min(figures["reverse_gzip_mb_s"] * 1e6, NETWORK_BYTES_S * ratio)
    brokers = max(3, partitions * REPLICAS / PARTITIONS_A_BROKER)
    hosted = partitions * REPLICAS / brokers
    begin = RESTORE_REQUESTS * REQUEST_S
    return [
        number(partitions),
        size(state_gb * GB),
        number(writes + reads),
        number(money),
        size(kept),
        number(storage),
        size(uploaded / DAY_S) + "/s",
        duration(begin + each_raw / restore_rate),
        duration(hosted * (begin / RESTORES_AT_A_TIME + each_raw / restore_rate)),
    ]


def tables(figures):
    """The generated part of the page."""
    head = [
        "Partitions",
        "State",
        "Requests a day",
        "Requests, $ a month",
        "Stored",
        "Storage, $ a month",
        "Upload",
        "Restore a partition",
        "Restore a broker",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row(figures, *of)) + " |" for of in SIZES]
    idle = 24 * DAYS_A_MONTH * (IDLE_WRITES_AN_HOUR * WRITE_PRICE + IDLE_READS_AN_HOUR * READ_PRICE)
    each_mib = figures["partitions_10k_rss_mib"] / 10_000
    writes, reads = snapshot_requests(figures, 1e6, False)
    each = writes * WRITE_PRICE + reads * READ_PRICE
    lines += [
        "",
        "| Of one | Value |",
        "|---|---|",
        f"| snapshot of a small partition with three replicas, everything that follows it included | {writes:.0f} writes and listings, {reads:.0f} reads, ${each * 1000:.2f} a thousand |",
        f"| idle partition with three replicas | {IDLE_WRITES_AN_HOUR} listings and {IDLE_READS_AN_HOUR} reads an hour, ${idle * 1000:.0f} a month a thousand |",
        f"| partition of 4 KiB with one snapshot in a sidecar's memory | {each_mib * 1024:.1f} KiB |",
        f"| idle tick over 10,000 partitions | {figures['tick_ms_10k']:.0f} ms of CPU, no request |",
        f"| GB snapshotted | {figures['cpu_s_per_gb_gzip']:.1f} s of CPU (gzip), {figures['cpu_s_per_gb_zstd']:.1f} s (zstd), the proof included |",
        f"| GB restored | {figures['restore_cpu_s_per_gb_gzip']:.1f} s of CPU (gzip), {figures['restore_cpu_s_per_gb_zstd']:.1f} s (zstd) |",
    ]
    return "\n".join(lines)


def main(arguments):
    text = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- scaling -->\n", "\n<!-- /scaling -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    renewed = f"{before}{begin}\n{tables(measured())}\n{end}{after}"
    if arguments == ["--check"]:
        if renewed != text:
            print("docs/SCALING.md is not what docs/PERFORMANCE.md gives: run scripts/scaling.py")
            return 1
        return 0
    PAGE.write_text(renewed, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
