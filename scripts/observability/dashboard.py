"""deploy/grafana/chronik-snapshotd.json: what build.py prints, fit for Grafana, with queries that name what exists."""

import json
import re
import subprocess
import sys
from pathlib import Path

from . import promtool

# Of Grafana 10.0 to 11.6.
SCHEMA_VERSIONS = range(38, 42)
WIDTH = 24
KINDS = {"row", "stat", "timeseries", "table"}
# Grafana's own, and a stand-in for each variable while a query is checked.
BUILT_IN = {"__rate_interval": "5m", "__all": ""}


def check(folder: Path, catalog):
    """Faults of the dashboard."""
    path = folder / "chronik-snapshotd.json"
    text = path.read_text(encoding="utf-8")
    built = subprocess.run([sys.executable, str(folder / "build.py")], capture_output=True, text=True, check=False)
    faults = []
    if built.returncode != 0:
        faults.append(f"build.py fails:\n{built.stderr}")
    elif built.stdout != text:
        faults.append("it is not what build.py prints; renew it with `make dashboard`")
    try:
        dashboard = json.loads(text)
    except ValueError as error:
        return [f"{path.name}: {error}"]
    faults += _frame(dashboard) + _places(dashboard["panels"])
    for panel in dashboard["panels"]:
        faults += [f"panel {panel.get('title')!r}: {fault}" for fault in _panel(panel, dashboard)]
    faults += _queries(dashboard, catalog)
    return [f"{path.name}: {fault}" for fault in faults]


def _variables(dashboard):
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def _frame(dashboard):
    faults = []
    if dashboard.get("schemaVersion") not in SCHEMA_VERSIONS:
        faults.append(f"schemaVersion {dashboard.get('schemaVersion')} is not one of Grafana 10 and 11")
    if "id" in dashboard:
        faults.append("an id belongs to one Grafana: leave it out")
    faults += [f"{key} is missing" for key in ("uid", "title", "time", "refresh") if not dashboard.get(key)]
    variables = _variables(dashboard)
    faults += [
        f"variable {name} is missing"
        for name in ("datasource", "cluster", "instance", "topic")
        if name not in variables
    ]
    if variables.get("datasource", {}).get("type") != "datasource":
        faults.append("variable datasource does not choose a data source")
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard)))
    faults += [f"${name} is used and no variable" for name in sorted(used - set(variables) - set(BUILT_IN))]
    return faults + [f"variable {name} is used nowhere" for name in sorted(set(variables) - used)]


def _places(panels):
    faults, taken, ids = [], {}, set()
    for panel in panels:
        if panel["id"] in ids:
            faults.append(f"two panels have the id {panel['id']}")
        ids.add(panel["id"])
        place = panel["gridPos"]
        if place["x"] + place["w"] > WIDTH:
            faults.append(f"panel {panel['title']!r} is wider than the page")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                if other != panel["title"]:
                    return [*faults, f"panels {panel['title']!r} and {other!r} overlap"]
    return faults


def _panel(panel, dashboard):
    if panel.get("type") not in KINDS:
        return [f"type {panel.get('type')} is none of {sorted(KINDS)}"]
    if not panel.get("title"):
        return ["it has no title"]
    if panel["type"] == "row":
        return []
    faults = [
        f"{key} is missing" for key in ("description", "targets", "fieldConfig", "options") if not panel.get(key)
    ]
    sources = [panel.get("datasource")] + [target.get("datasource") for target in panel.get("targets", [])]
    if any(source != {"type": "prometheus", "uid": "${datasource}"} for source in sources):
        faults.append("it does not ask the data source that was chosen")
    letters = [target.get("refId") for target in panel.get("targets", [])]
    if len(set(letters)) != len(letters) or None in letters:
        faults.append("its targets have no letters of their own")
    faults += ["a target has no query" for target in panel.get("targets", []) if not target.get("expr", "").strip()]
    faults += [
        "a target does not follow $cluster"
        for target in panel.get("targets", [])
        if "$cluster" not in target.get("expr", "")
    ]
    if "unit" not in panel.get("fieldConfig", {}).get("defaults", {}):
        faults.append("it has no unit")
    return faults


def _queries(dashboard, catalog):
    stand_ins = {name: "10" if name == "top" else ".*" for name in _variables(dashboard)} | BUILT_IN

    def plain(query):
        return re.sub(r"\$\{?(\w+)\}?", lambda match: stand_ins.get(match.group(1), ""), query)

    queries = [
        (panel["title"], plain(target["expr"]))
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    faults = [f"panel {title!r}: {fault}" for title, query in queries for fault in catalog.faults_of(query)]
    for name, variable in _variables(dashboard).items():
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", ""))
        if asked:
            series, label = plain(asked.group(1)), asked.group(2)
            faults += [f"variable {name}: {fault}" for fault in catalog.faults_of(f"count by ({label}) ({series})")]
    legends = [
        (panel["title"], target["expr"], label)
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))
    ]
    for title, query, label in legends:
        faults += [
            f"panel {title!r}: legend: {fault}" for fault in catalog.faults_of(f"count by ({label}) ({plain(query)})")
        ]
    return faults + promtool.parses(queries)
