"""What may be named: the families of docs/METRICS.md with their labels and values, what Prometheus adds, and what the
recording rules make."""

import re

from . import promql

PREFIX = "chronik_snapshot_"
# Put on by the scrape configuration, on every series.
TARGET_LABELS = {"cluster", "job", "instance"}
# Of the client library on Linux; docs/METRICS.md names them as "the usual".
PROCESS = {
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
}
# Of Prometheus itself.
BUILT_IN = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}


class Catalog:
    """Metrics, their labels, and the values that labels can take."""

    def __init__(self, metrics_page):
        self.labels, self.values, self.worries = {}, {}, {}
        for name, kind, labels, worry in _families(metrics_page):
            self.worries[name] = worry
            own = set(labels)
            if kind == "histogram":
                self.labels[f"{name}_bucket"] = own | {"le"}
                self.labels[f"{name}_sum"] = self.labels[f"{name}_count"] = own
            else:
                self.labels[name] = own
        for name, label, values in _values(metrics_page):
            for member in (name, f"{name}_bucket", f"{name}_sum", f"{name}_count"):
                if member in self.labels:
                    self.values[member, label] = set(values)
        for name in PROCESS:
            self.labels[name] = set()
        self.labels.update(BUILT_IN)

    def record(self, name, expression):
        """Makes what a recording rule records a metric. Its labels are those of its first grouping, or none."""
        grouping = re.search(r"\bby \(([^)]*)\)", expression)
        labels = set(re.findall(r"\w+", grouping.group(1))) if grouping else set()
        self.labels[name] = labels

    def faults_of(self, expression):
        """What a query names that does not exist."""
        found = promql.names(expression)
        faults, known = [], set(TARGET_LABELS)
        for selector in found.selectors:
            if selector.metric not in self.labels:
                faults.append(f"{selector.metric}: there is no such metric")
                continue
            known |= self.labels[selector.metric]
            for label, operator, value in selector.matchers:
                faults += self._matcher(selector.metric, label, operator, value)
        unknown = sorted(found.groupings - known)
        return faults + [f"label {label}: no metric of the query has it" for label in unknown]

    def faults_of_series(self, series):
        """As `faults_of`; a series must have every label of its family as well."""
        faults = self.faults_of(series)
        for selector in promql.names(series).selectors:
            given = {label for label, _, _ in selector.matchers}
            missing = self.labels.get(selector.metric, set()) - given
            faults += [f"{selector.metric}: label {label} is missing" for label in sorted(missing)]
        return faults

    def _matcher(self, metric, label, operator, value):
        if label not in self.labels[metric] | TARGET_LABELS:
            return [f"{metric}: it has no label {label}"]
        allowed, wanted = self.values.get((metric, label)), promql.alternatives(operator, value)
        if allowed is None or wanted is None:
            return []
        return [f'{metric}: label {label} is never "{one}"' for one in wanted if one not in allowed]


def _rows(page, columns):
    for line in page.splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line[1:].rstrip("|").split("|")]
            if len(cells) == columns:
                yield cells


def _families(page):
    for name, kind, labels, _unit, _meaning, worry in _rows(
        _between(page, "<!-- metrics -->", "### Label values"), 6
    ):
        yield PREFIX + name.strip("`"), kind, re.findall(r"`(\w+)`", labels), worry


def _values(page):
    for name, label, values in _rows(_between(page, "### Label values", "<!-- /metrics -->"), 3):
        yield PREFIX + name.strip("`"), label.strip("`"), re.findall(r"`(\w+)`", values)


def _between(page, start, end):
    before, mark, rest = page.partition(start)
    inside, closing, _ = rest.partition(end)
    if not mark or not closing:
        raise ValueError(f"docs/METRICS.md has no part between {start!r} and {end!r}")
    return inside
