"""Names that pages use: options, metrics, calls. Each is in its reference."""

import re

from .links import markdown_files
from .markdown import Page

PREFIX = "CHRONIK_SNAPSHOT_"
VARIABLE = re.compile(r"\b(?:CHRONIK_SNAPSHOT|S3)_[A-Z0-9_]*[A-Z0-9]\b")
KEY_ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]*)` \| ([^|]*)", re.MULTILINE)
# Not what a recording rule makes of one, which has colons around it.
METRIC = re.compile(r"(?<![:\w])chronik_snapshot_[a-z0-9_]*[a-z0-9](?![:\w])")
METRIC_ROW = re.compile(r"^\| `([a-z][a-z0-9_]*)` \| (\w+) \|", re.MULTILINE)
METRIC_PREFIX = "chronik_snapshot_"
HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")
CALL = re.compile(r"\bchronik\.snapshot\.v1\.(\w+)/(\w+)")
# An option written as `KEY` or `KEY=value`, as the pages do without the prefix.
BARE_KEY = re.compile(r"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(=\S*)?")
# Names of others that look the same.
FOREIGN = re.compile(r"(AWS|GOOGLE|AZURE|KUBERNETES|OTEL)_.*|NOT_SERVING")
# Pages that are for engineers of this repository, whose variables are those of tests and tools.
INTERNAL = ("VERIFICATION.md", "SIMULATION.md", "SAFETY.md")


def options(configuration):
    """Keys of the reference and the names that follow from them."""
    keys = set()
    for key, values in KEY_ROW.findall(configuration):
        keys.add(key)
        if values.strip() == "secret":
            keys.add(f"{key}_FILE")
    if not keys:
        raise ValueError("CONFIGURATION.md has no table of options")
    return keys


def unknown_variables(text, keys, configuration):
    """Variables in `text` that the reference does not know. It may name others in words."""
    in_words = set(VARIABLE.findall(configuration))
    for match in VARIABLE.finditer(text):
        name = match[0]
        if name.removeprefix(PREFIX) not in keys and name not in in_words:
            yield name, text.count("\n", 0, match.start()) + 1


def metrics(page):
    """Names of the reference, the series of histograms among them."""
    names = set()
    for name, kind in METRIC_ROW.findall(page):
        if kind not in ("counter", "gauge", "histogram"):
            continue
        names.add(METRIC_PREFIX + name)
        if kind == "histogram":
            names.update(METRIC_PREFIX + name + suffix for suffix in HISTOGRAM_SUFFIXES)
    if not names:
        raise ValueError("METRICS.md has no table of families")
    return names


def unknown_metrics(text, known):
    for match in METRIC.finditer(text):
        if match[0] not in known:
            yield match[0], text.count("\n", 0, match.start()) + 1


def protocol(root):
    """(calls as Service/Method, values of enumerations with and without their prefix)."""
    calls, values = set(), set()
    for path in sorted((root / "proto").rglob("*.proto")):
        text = path.read_text(encoding="utf-8")
        for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            calls.update(f"{service}/{method}" for method in re.findall(r"rpc (\w+)\(", body))
        for name, body in re.findall(r"^enum (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() + "_"
            for value in re.findall(r"^\s*([A-Z0-9_]+) = ", body, re.MULTILINE):
                values.update((value, value.removeprefix(prefix)))
    if not calls:
        raise ValueError("proto/ has no services")
    return calls, values


def check(root, paths=None):
    """Names that no reference knows."""
    configuration = (root / "docs/CONFIGURATION.md").read_text(encoding="utf-8")
    keys, known_metrics = options(configuration), metrics((root / "docs/METRICS.md").read_text(encoding="utf-8"))
    calls, values = protocol(root)
    grpc_codes = {"FAILED_PRECONDITION", "DATA_LOSS", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "NOT_FOUND"}
    for path in markdown_files(root) if paths is None else paths:
        page, where = Page.read(path), path.relative_to(root)
        if path.name != "CONFIGURATION.md":
            for name, number in unknown_variables(page.text, keys, configuration):
                yield f"{where}:{number}: CONFIGURATION.md has no {name}"
        for name, number in unknown_metrics(page.text, known_metrics):
            yield f"{where}:{number}: METRICS.md has no {name}"
        for match in CALL.finditer(page.text):
            if f"{match[1]}/{match[2]}" not in calls:
                yield f"{where}:{page.text.count(chr(10), 0, match.start()) + 1}: proto/ has no {match[1]}/{match[2]}"
        if path.parent == root / "docs" and path.name not in INTERNAL:
            known = keys | values | grpc_codes
            for span, number in page.code_spans():
                match = BARE_KEY.fullmatch(span)
                name = match[1].removeprefix(PREFIX) if match else None
                elsewhere = name in known or f"{PREFIX}{name}" in configuration if name else True
                if not elsewhere and not FOREIGN.fullmatch(name):
                    yield f"{where}:{number}: there is no option {name}"
