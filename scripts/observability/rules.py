"""The rules and their tests: names, annotations, and that every alert is seen to fire and to be silent."""

import re
from pathlib import Path

import yaml

from . import promtool

ALERT = "ChronikSnapshot"
SEVERITIES = {"critical", "warning", "info"}
RUNBOOK = "{{ $externalLabels.runbook_base }}docs/RUNBOOKS.md#"
# Reasons to worry that need no alert of their own.
NOT_ALERTED = {
    "chronik_snapshot_compacted_entries_total": "what stays in the log is told by its debt, with the reason",
    "chronik_snapshot_due_partitions": "chronik_snapshot_unprotected says which",
    "chronik_snapshot_operations_total": "its failures are counted in chronik_snapshot_failures_total, by reason",
    "chronik_snapshot_truncation_debt_entries": "the alerts look at its bytes, and at partitions by reason",
}


class Rules:
    """What the two files hold."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.recording = _rules(folder / "recording.yml")
        self.alerts = _rules(folder / "alerts.yml")
        self.names = [rule["alert"] for rule in self.alerts if "alert" in rule]


def _rules(path):
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check_rules(rules, catalog):
    """Faults of the rules. Records what recording.yml makes in the catalog."""
    faults = promtool.run("check", "rules", rules.folder / "recording.yml", rules.folder / "alerts.yml")
    for rule in rules.recording:
        if "record" not in rule:
            faults.append(f"recording.yml: {rule.get('alert')} is an alert")
            continue
        faults += [f"{rule['record']}: {fault}" for fault in catalog.faults_of(rule["expr"])]
        catalog.record(rule["record"], rule["expr"])
    for name in {name for name in rules.names if rules.names.count(name) > 1}:
        faults.append(f"{name}: there are two")
    for rule in rules.alerts:
        name = rule.get("alert", rule.get("record"))
        faults += [f"{name}: {fault}" for fault in _alert(rule, catalog)]
    return faults + _uncovered(rules, catalog)


def _alert(rule, catalog):
    if "alert" not in rule:
        return ["a recording rule belongs into recording.yml"]
    faults = catalog.faults_of(rule["expr"])
    if not rule["alert"].startswith(ALERT):
        faults.append(f"its name does not begin with {ALERT}")
    if set(rule.get("labels", {})) != {"severity"} or rule["labels"]["severity"] not in SEVERITIES:
        faults.append(f"its only label must be severity, one of {sorted(SEVERITIES)}")
    annotations = rule.get("annotations", {})
    if set(annotations) != {"summary", "description", "runbook_url"}:
        faults.append("it needs summary, description and runbook_url, and nothing else")
        return faults
    if annotations["runbook_url"] != RUNBOOK + rule["alert"].lower():
        faults.append(f"runbook_url must be {RUNBOOK}{rule['alert'].lower()}")
    text = annotations["summary"] + annotations["description"]
    if "$value" not in text and "$labels" not in text and "absent(" not in rule["expr"]:
        faults.append("neither summary nor description says which one or how much")
    known = {label for labels in catalog.labels.values() for label in labels} | {"cluster", "job", "instance"}
    for label in re.findall(r"\$labels\.(\w+)", text):
        if label not in known:
            faults.append(f"label {label} does not exist")
    return faults


def _uncovered(rules, catalog):
    """Every reason to worry that docs/METRICS.md gives is looked at by an alert, perhaps through a recording rule."""
    recorded = {rule["record"]: rule["expr"] for rule in rules.recording if "record" in rule}
    text = "\n".join(rule["expr"] for rule in rules.alerts)
    text += "\n".join(expression for name, expression in recorded.items() if name in text)
    missing = [
        name
        for name, worry in catalog.worries.items()
        if worry and not re.search(rf"\b{name}(_bucket)?\b", text) and name not in NOT_ALERTED
    ]
    return [f"{name}: docs/METRICS.md says when to worry, and no alert looks" for name in missing]


def check_settings(rules, configuration):
    """The settings of recording.yml are the defaults of docs/CONFIGURATION.md."""
    text = (rules.folder / "recording.yml").read_text(encoding="utf-8")
    faults, seen = [], 0
    for value, key in re.findall(r"expr: vector\((\d+)\)  # ([A-Z_]+)$", text, re.M):
        seen += 1
        row = re.search(rf"^\| `{key}` \|.*\| `(\d+)` \|$", configuration, re.M)
        if row is None or row.group(1) != value:
            faults.append(f"recording.yml: {key} is {value}, docs/CONFIGURATION.md says {row and row.group(1)}")
    return faults if seen >= 4 else [*faults, "recording.yml: the settings are not written as `vector(N)  # KEY`"]


def check_tests(rules, catalog):
    """Faults of the tests, and alerts that no test sees fire, or silent."""
    files = sorted((rules.folder / "tests").glob("*.yml"))
    faults = promtool.run("test", "rules", *files) if files else ["there are no tests"]
    fires, silent = set(), set()
    for path in files:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            place = f"{path.name}: {test.get('name', 'a test without name')}"
            if "name" not in test:
                faults.append(f"{place}: say in `name` what it shows")
            for series in test.get("input_series", []):
                faults += [f"{place}: {fault}" for fault in catalog.faults_of_series(series["series"])]
            for query in test.get("promql_expr_test", []):
                faults += [f"{place}: {fault}" for fault in catalog.faults_of(query["expr"])]
            for case in test.get("alert_rule_test", []):
                name = case["alertname"]
                if name not in rules.names:
                    faults.append(f"{place}: there is no alert {name}")
                expected = case.get("exp_alerts") or []
                (fires if expected else silent).add(name)
                faults += [
                    f"{place}: {name} is expected without annotations"
                    for one in expected
                    if not one.get("exp_annotations")
                ]
    faults += [f"{name}: no test sees it fire" for name in rules.names if name not in fires]
    return faults + [f"{name}: no test sees it silent" for name in rules.names if name not in silent]
