#!/usr/bin/env python3
"""Checks the rules for Prometheus, their tests, the dashboard and the runbooks: that they are right, and that they name
nothing that the sidecar does not have. Needs promtool and PyYAML; `make observability-check` brings both."""

import sys
from pathlib import Path

from observability import dashboard, promtool, runbooks
from observability.catalog import Catalog
from observability.rules import Rules, check_rules, check_settings, check_tests

ROOT = Path(__file__).resolve().parent.parent
PROMETHEUS = ROOT / "deploy/prometheus"


def document(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def main():
    catalog, rules = Catalog(document("METRICS.md")), Rules(PROMETHEUS)
    page = runbooks.Page(ROOT / "docs/RUNBOOKS.md")
    # The rules come first: what they record is a metric for the others.
    checks = [
        ("rules", lambda: check_rules(rules, catalog) + check_settings(rules, document("CONFIGURATION.md"))),
        ("example configuration", lambda: promtool.run("check", "config", PROMETHEUS / "prometheus.yml")),
        ("runbooks", lambda: runbooks.check(page, rules, catalog, ROOT)),
        ("dashboard", lambda: dashboard.check(ROOT / "deploy/grafana", catalog)),
        ("tests", lambda: check_tests(rules, catalog)),
    ]
    failed = 0
    for name, check in checks:
        faults = check()
        print(f"{name}: {'ok' if not faults else f'{len(faults)} faults'}", flush=True)
        for fault in faults:
            print(f"  {fault}", file=sys.stderr)
        failed += len(faults)
    print(f"{len(rules.names)} alerts, {len(rules.recording)} recording rules, {len(page.headings)} runbooks")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
