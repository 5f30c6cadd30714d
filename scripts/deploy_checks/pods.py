"""What must hold of every rendered set of objects, whoever rendered it: kustomize or Helm."""

import re

import kubernetes_validate
import yaml

# The oldest release with native sidecars switched on, and the newest that the tool knows.
KUBERNETES = ("1.29.0", "1.37.0")
NAME = "chronik-snapshotd"
# 20 s of grace by default, 5 s for aborted uploads, 5 s for open connections, and 5 to spare.
STOP_SECS = 35
# Kinds of the Prometheus operator, which are no part of Kubernetes.
POD_MONITOR_KEYS = {"selector", "podMetricsEndpoints"}
OPERATOR_API = "monitoring.coreos.com/v1"
# A port of a NetworkPolicy by name; the schemas take any text.
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](-?[a-z0-9])*")
PORT_NAME_MAX = 15


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def validate(found, where, document):
    kind, name = document.get("kind"), document.get("metadata", {}).get("name")
    if document.get("apiVersion") == OPERATOR_API:
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            found.add(f"{where}: {kind} {name}, Kubernetes {version}: {path}: {error.message[:300]}")
        except (kubernetes_validate.SchemaNotFoundError, KeyError) as error:
            found.add(f"{where}: {kind} {name}: not a kind of Kubernetes {version}: {error}")


def check_policy_ports(found, where, policy):
    rules = policy["spec"].get("ingress", []) + policy["spec"].get("egress", [])
    for port in (port.get("port") for rule in rules for port in rule.get("ports", [])):
        named = isinstance(port, str) and len(port) <= PORT_NAME_MAX and PORT_NAME.fullmatch(port)
        numbered = isinstance(port, int) and 0 < port < 65536
        found.expect(port is None or named or numbered, f"{where}: a NetworkPolicy allows port {port!r}, which is none")


def by_name(containers):
    return {container["name"]: container for container in containers or []}


def check_sidecar(found, where, pod, objects):
    """The sidecar in one pod template, and its place beside the broker."""

    def expect(holds, fault):
        found.expect(holds, f"{where}: {fault}")

    spec = pod["spec"]
    sidecar = by_name(spec.get("initContainers")).get(NAME)
    if sidecar is None:
        found.add(f"{where}: no init container {NAME}")
        return
    broker = spec["containers"][0]
    expect(NAME not in by_name(spec["containers"]), "the sidecar is an ordinary container, too")
    expect(sidecar.get("restartPolicy") == "Always", "restartPolicy is not Always: the pod would wait for its end")
    expect("readinessProbe" not in sidecar, "a readinessProbe would count for the pod")
    startup = sidecar.get("startupProbe", {}).get("exec", {}).get("command")
    expect(startup == ["/usr/local/bin/chronik-snapshotd", "health"], f"startupProbe runs {startup}")
    ports = {port["name"]: port["containerPort"] for port in sidecar.get("ports", [])}
    live = sidecar.get("livenessProbe", {}).get("httpGet", {})
    expect(live.get("path") == "/healthz" and live.get("port") in ports, f"livenessProbe asks {live}")
    expect(spec.get("enableServiceLinks") is False, "enableServiceLinks is not false")
    expect(spec.get("terminationGracePeriodSeconds", 30) >= STOP_SECS, f"less than {STOP_SECS} s to stop")
    check_security(expect, sidecar.get("securityContext", {}))
    resources = sidecar.get("resources", {})
    expect("cpu" in resources.get("requests", {}), "the sidecar requests no CPU")
    expect("memory" in resources.get("limits", {}), "the sidecar's memory has no limit")
    expect("cpu" not in resources.get("limits", {}), "a limit on CPU slows restores down")
    stored = "ephemeral-storage" in resources.get("limits", {})
    expect(not stored, "logs count as ephemeral storage: a limit would evict the broker's pod")
    check_volumes(expect, spec, sidecar, broker)
    check_settings(expect, sidecar, ports, objects)


def check_security(expect, security):
    wanted = {"runAsNonRoot": True, "runAsUser": 1001, "runAsGroup": 1001, "allowPrivilegeEscalation": False}
    wanted |= {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
    for key, value in wanted.items():
        expect(security.get(key) == value, f"securityContext: {key} is {security.get(key)}, not {value}")


def check_volumes(expect, spec, sidecar, broker):
    volumes = by_name(spec.get("volumes"))
    claims = {"data"}
    for container in (sidecar, broker):
        for mount in container.get("volumeMounts", []):
            known = mount["name"] in volumes or mount["name"] in claims
            expect(known, f"{container['name']} mounts {mount['name']}, which is no volume")
    expect("emptyDir" in volumes.get("chronik-snapshot", {}), "chronik-snapshot is no emptyDir")
    sockets = [by_name(container.get("volumeMounts")).get("chronik-snapshot") for container in (sidecar, broker)]
    expect(None not in sockets and sockets[0] == sockets[1], f"the sockets are mounted differently: {sockets}")


def check_settings(expect, sidecar, ports, objects):
    """The environment comes from a ConfigMap of the same set, and agrees with mounts and ports."""
    maps = {(item["kind"], item["metadata"]["name"]): item for item in objects}
    names = [source["configMapRef"]["name"] for source in sidecar.get("envFrom", []) if "configMapRef" in source]
    missing = [name for name in names if ("ConfigMap", name) not in maps]
    expect(names and not missing, f"envFrom names {names}, of which {missing} are not in this set")
    if missing or not names:
        return
    settings = maps["ConfigMap", names[0]]["data"] | {item["name"]: item.get("value") for item in sidecar.get("env", [])}
    expect(all("e+" not in str(value) for value in settings.values()), "a number is written as 1e+06")
    port = settings.get("CHRONIK_SNAPSHOT_METRICS_LISTEN", "").rpartition(":")[2]
    expect(port.isdigit() and int(port) in ports.values(), f"METRICS_LISTEN has port {port}, the container {ports}")
    paths = [mount["mountPath"] + "/" for mount in sidecar.get("volumeMounts", [])]
    for key in ("CHRONIK_SNAPSHOT_LISTEN", "CHRONIK_SNAPSHOT_BROKER_ENDPOINT", "S3_ACCESS_KEY_FILE", "S3_SECRET_KEY_FILE"):
        value = settings.get(key, "")
        path = value.removeprefix("unix:")
        if key.endswith("_FILE") and value or value.startswith("unix:"):
            expect(any(path.startswith(start) for start in paths), f"{key}={value} lies in no volume of the sidecar")
    for secret in ("S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN"):
        expect(secret not in settings, f"{secret} is not a setting, it is a secret")
    expect(settings.get("S3_BUCKET"), "S3_BUCKET is not set")


def selects(selector, labels):
    return selector and all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def check_objects(found, where, objects, sidecar_wanted=True):
    """A whole rendered set."""
    for document in objects:
        validate(found, where, document)
    sets = [item for item in objects if item["kind"] == "StatefulSet"]
    found.expect(sets or not sidecar_wanted, f"{where}: no StatefulSet")
    accounts = {item["metadata"]["name"] for item in objects if item["kind"] == "ServiceAccount"}
    for item in sets:
        pod = item["spec"]["template"]
        place = f"{where}: StatefulSet {item['metadata']['name']}"
        check_sidecar(found, place, pod, objects)
        account = pod["spec"].get("serviceAccountName")
        found.expect(account is None or account in accounts, f"{place}: no ServiceAccount {account} in this set")
        labels = pod["metadata"]["labels"]
        sidecar = by_name(pod["spec"].get("initContainers")).get(NAME, {})
        ports = {port["name"] for port in sidecar.get("ports", [])}
        for other in objects:
            if other["kind"] == "NetworkPolicy":
                found.expect(selects(other["spec"]["podSelector"], labels), f"{place}: the NetworkPolicy does not select its pods")
            if other["kind"] == "PodMonitor":
                found.expect(selects(other["spec"]["selector"], labels), f"{place}: the PodMonitor does not select its pods")
                named = {endpoint["port"] for endpoint in other["spec"]["podMetricsEndpoints"]}
                found.expect(named <= ports, f"{place}: the PodMonitor asks ports {named}, there are {ports}")
    for item in objects:
        if item["kind"] == "NetworkPolicy":
            check_policy_ports(found, where, item)
        if item["kind"] == "PodMonitor":
            unknown = set(item["spec"]) - POD_MONITOR_KEYS
            found.expect(not unknown, f"{where}: PodMonitor has {unknown}")
