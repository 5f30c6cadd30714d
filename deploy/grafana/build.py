#!/usr/bin/env python3
"""Prints the dashboard chronik-snapshotd.json for Grafana 10 and 11. To renew it: `make dashboard`."""

import json

from layout import DATASOURCE, Dashboard
from panels import PARTS, SIDECAR


def variable(name, label, query, everything):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "refresh": 2,
        "sort": 3,
        "hide": 0,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "regex": "",
        "options": [],
        "multi": True,
        "includeAll": True,
        "allValue": everything,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def variables():
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "regex": "",
        "options": [],
        "multi": False,
        "includeAll": False,
        "current": {},
    }
    top = {
        "name": "top",
        "label": "Top",
        "type": "custom",
        "query": "10,25,50",
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "options": [{"text": n, "value": n, "selected": n == "10"} for n in ("10", "25", "50")],
        "current": {"selected": True, "text": "10", "value": "10"},
    }
    # .* and not .+ for the cluster: a Prometheus with one cluster may give it no label.
    cluster = variable("cluster", "Cluster", "label_values(chronik_snapshot_build_info, cluster)", ".*")
    instance = variable(
        "instance", "Sidecar", 'label_values(chronik_snapshot_build_info{cluster=~"$cluster"}, instance)', ".*"
    )
    topic = variable("topic", "Topic", f"label_values(chronik_snapshot_log_size_bytes{{{SIDECAR}}}, topic)", ".*")
    return [source, cluster, instance, topic, top]


def dashboard():
    d = Dashboard()
    for part in PARTS:
        part(d)
    return {
        "uid": "chronik-snapshotd",
        "title": "chronik-snapshotd",
        "tags": ["chronik-snapshotd"],
        "schemaVersion": 39,
        "version": 1,
        "description": "Snapshots of Raft partitions, log truncation and re-seeding. Made by deploy/grafana/build.py.",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": variables()},
        "panels": d.panels,
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=2))
