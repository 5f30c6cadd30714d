"""deploy/helm: Helm lints and renders the chart, alone and inside a broker's chart; promtool reads the alerts."""

import copy
import shutil
import tempfile
from pathlib import Path

import helm_python
import yaml

from .common import Collected, Faults, run, text_of, tool
from .pods import check_objects, documents

CHART = "deploy/helm/chronik-snapshotd"
# Helm's severities: 1 is information, such as a missing icon.
INFORMATION = 1
# Values that values.schema.json must refuse.
REFUSED = {
    "an unknown key": {"imagee": {}},
    "an unknown key inside": {"image": {"repo": "x"}},
    "a number as text": {"metricsPort": "9090"},
    "a port that is none": {"metricsPort": 70000},
    "text as a switch": {"podMonitor": {"enabled": "yes"}},
    "a digest that is none": {"image": {"digest": "sha256:12"}},
    "a secret among the settings": {"config": {"S3_SECRET_KEY": "k"}},
    "a setting that follows from others": {"config": {"CHRONIK_SNAPSHOT_LISTEN": "127.0.0.1:1"}},
    "a name that is no setting": {"config": {"LOG_THRESHOLD": 5}},
    "a list as a setting": {"config": {"S3_BUCKET": ["b"]}},
    "a sidecar that is root": {"securityContext": {"runAsNonRoot": False}},
}
# Values that the schema cannot refuse, but the templates do.
FAILING = {
    "two sources of keys": {"s3Keys": {"existingSecret": "s", "accessKey": "a", "secretKey": "b"}},
    "half of the keys": {"s3Keys": {"accessKey": "a"}},
}


def lint(found, where, path, values):
    report = helm_python.lint(path, values, strict=True, with_subcharts=True, kube_version="v1.31.0")
    found.expect(report["total_charts_linted"] >= 1, f"{where}: nothing was linted")
    for message in report["messages"]:
        if message["severity"] > INFORMATION:
            found.add(f"{where}: helm lint: {message['path']}: {message['error']}")
    for error in report["errors"]:
        found.add(f"{where}: helm lint: {error}")


def render(where, path, values):
    try:
        with helm_python.Chart.load(path) as chart:
            chart.validate_schema(values)
            rendered = chart.render(values, name="demo", namespace="kafka")
    except helm_python.HelmError as error:
        raise Faults([f"{where}: helm template: {error}"]) from error
    manifests = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    return [document for text in manifests for document in documents(text)]


def check_values(found, chart, path):
    values = yaml.safe_load(text_of(path))
    where = f"ci/{path.name}"
    lint(found, where, chart, values)
    objects = render(where, chart, values)
    wants_sidecar = values.get("example", {}).get("enabled", False)
    check_objects(found, where, objects, sidecar_wanted=wants_sidecar)
    kinds = {item["kind"] for item in objects}
    made = {
        "PodMonitor": values.get("podMonitor", {}).get("enabled", False),
        "PrometheusRule": values.get("prometheusRule", {}).get("enabled", False),
        "ServiceAccount": values.get("serviceAccount", {}).get("create", False),
        "NetworkPolicy": values.get("networkPolicy", {}).get("enabled", True),
        "Secret": bool(values.get("s3Keys", {}).get("accessKey")),
        "StatefulSet": wants_sidecar,
    }
    for kind, wanted in made.items():
        found.expect((kind in kinds) == wanted, f"{where}: {kind}: {'missing' if wanted else 'not asked for'}")
    data = next(item["data"] for item in objects if item["kind"] == "ConfigMap")
    for name, value in values.get("config", {}).items():
        written = str(value).lower() if isinstance(value, bool) else str(value)
        found.expect(data.get(name) == written, f"{where}: {name} is {data.get(name)}, not {written}")
    return objects


def check_refusals(found, chart):
    with helm_python.Chart.load(chart) as loaded:
        for what, values in REFUSED.items():
            try:
                loaded.validate_schema(values)
                found.add(f"values.schema.json allows {what}")
            except helm_python.HelmValuesError:
                pass
        for what, values in FAILING.items():
            try:
                loaded.render(copy.deepcopy(values), name="demo")
                found.add(f"the templates allow {what}")
            except helm_python.HelmError:
                pass


def check_in_broker(found, root):
    """As the README says: a broker's chart takes the named templates in."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Path(folder, "test-broker")
        shutil.copytree(Path(root, "deploy/helm/test-broker"), broker)
        shutil.copytree(Path(root, CHART), broker / "charts/chronik-snapshotd")
        lint(found, "test-broker", broker, None)
        objects = render("test-broker", broker, None)
    check_objects(found, "test-broker", objects)


def check_alerts(found, chart, objects):
    """The rules are those of deploy/prometheus, which has tests for them."""
    written = [yaml.safe_load(text_of(chart / f"files/{name}.yml"))["groups"] for name in ("recording", "alerts")]
    rendered = [item["spec"] for item in objects if item["kind"] == "PrometheusRule"]
    found.expect(rendered == [{"groups": sum(written, [])}], "the PrometheusRule is not the rules of deploy/prometheus")
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump(rendered[0] if rendered else {}, file)
        file.flush()
        code, out, err = run(tool("promtool"), "check", "rules", file.name)
    found.expect(code == 0, f"promtool check rules: {(out + err).strip()}")
    return sum("alert" in rule for groups in written for group in groups for rule in group["rules"])


def check(root):
    found = Collected()
    chart = Path(root, CHART)
    lint(found, "values.yaml", chart, None)
    files = sorted((chart / "ci").glob("*.values.yaml"))
    found.expect(len(files) >= 4, f"only {len(files)} files with values")
    objects = [document for path in files for document in check_values(found, chart, path)]
    check_refusals(found, chart)
    check_in_broker(found, root)
    alerts = check_alerts(found, chart, objects)
    found.done()
    version = helm_python.helm_sdk_version()
    return f"Helm {version}: {len(files)} sets of values and a broker's chart rendered, {alerts} alerts"
