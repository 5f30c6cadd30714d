#!/usr/bin/env python3
"""Breaks copies of the files under deploy/, one at a time, and wants the check of that part to notice each.

A row: the check, the file, what is replaced (all of it must be there), by what.
"""

import importlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deploy_checks.common import Faults  # noqa: E402

UNIT = "deploy/systemd/chronik-snapshotd.service"
SOCKET = "deploy/systemd/chronik-snapshotd.socket"
SIDECAR = "deploy/kubernetes/component/sidecar.yaml"
BASE = "deploy/kubernetes/base"
CHART = "deploy/helm/chronik-snapshotd"
POLICY = "deploy/s3/iam-policy.json"

BROKEN = [
    # systemd
    ("systemd", UNIT, "WatchdogSec=60", "WatchdogSeconds=60"),
    ("systemd", UNIT, "ProtectHome=yes", "ProtectHome=perhaps"),
    ("systemd", UNIT, "ExecStart=/usr/bin/chronik-snapshotd", "ExecStart=/usr/bin/chronik-snapshot"),
    ("systemd", UNIT, "CapabilityBoundingSet=\n", ""),
    ("systemd", UNIT, "SystemCallFilter=~@privileged @resources\n", "SystemCallFilter=~@priviledged\n"),
    ("systemd", UNIT, "RestartPreventExitStatus=78 2", "RestartPreventExitStatus=78"),
    ("systemd", UNIT, "TimeoutStopSec=60", "TimeoutStopSec=20"),
    ("systemd", UNIT, "S3_SECRET_KEY_FILE=%d/s3-secret-key", "S3_SECRET_KEY_FILE=%d/secret"),
    ("systemd", "deploy/systemd/drop-ins/no-keys.conf", "UnsetEnvironment=", "UnsetEnv="),
    ("systemd", "deploy/systemd/drop-ins/broker.conf", "After=chronik-snapshotd.service", "After=chronik-snapshot.service"),
    ("systemd", "deploy/systemd/chronik-snapshotd.sysusers.conf", "m chronik-snapshot chronik", "# no member"),
    ("systemd", "deploy/systemd/chronik-snapshotd.tmpfiles.conf", "0700 root root", "0755 root root"),
    ("systemd", "deploy/systemd/chronik-snapshotd.tmpfiles.conf", "0750 chronik-snapshot", "0755 chronik-snapshot"),
    ("systemd", SOCKET, "SocketMode=0660", "SocketMode=0666"),
    ("systemd", SOCKET, "snapshot/sidecar.sock", "snapshot/other.sock"),
    ("systemd", SOCKET, "RemoveOnStop=yes", "RemoveAtStop=yes"),
    # Kubernetes
    ("kubernetes", SIDECAR, "restartPolicy: Always", "restartPolicy: OnFailure"),
    ("kubernetes", SIDECAR, "          restartPolicy: Always\n", ""),
    ("kubernetes", SIDECAR, "livenessProbe:", "livenesProbe:"),
    ("kubernetes", SIDECAR, "path: /healthz", "path: /health"),
    ("kubernetes", SIDECAR, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
    ("kubernetes", SIDECAR, "drop: [ALL]", "drop: [NET_RAW]"),
    ("kubernetes", SIDECAR, "chronik-snapshotd, health]", "chronik-snapshotd, check]"),
    ("kubernetes", SIDECAR, "enableServiceLinks: false", "enableServiceLinks: true"),
    ("kubernetes", SIDECAR, "limits: {memory: 512Mi}", "limits: {}"),
    ("kubernetes", SIDECAR, "emptyDir: {medium: Memory, sizeLimit: 1Mi}", "hostPath: {path: /run/chronik-snapshot}"),
    ("kubernetes", SIDECAR, "containerPort: 9090", "containerPort: 9091"),
    ("kubernetes", SIDECAR, "                name: chronik-snapshotd\n", "                name: chronik-snapshot\n"),
    ("kubernetes", SIDECAR, 'chronik-snapshot/sidecar: "true"', 'chronik-snapshot/sidecar: "yes"'),
    ("kubernetes", "deploy/kubernetes/component/kustomization.yaml", "mountPath: /run/chronik-snapshot", "mountPath: /run/s"),
    ("kubernetes", f"{BASE}/chronik-snapshotd.env", "LISTEN=unix:/run/chronik-snapshot/sidecar", "LISTEN=unix:/run/x/sidecar"),
    ("kubernetes", f"{BASE}/networkpolicy.yaml", "policyTypes:", "policyType:"),
    ("kubernetes", f"{BASE}/networkpolicy.yaml", "port: 9092", 'port: "9092x_y"'),
    ("kubernetes", f"{BASE}/kustomization.yaml", "networkpolicy.yaml", "networkpolicies.yaml"),
    ("kubernetes", "deploy/kubernetes/podmonitor/podmonitor.yaml", "port: snapshot-http", "port: metrics"),
    ("kubernetes", "deploy/kubernetes/static-keys/keys.yaml", "value: /run/secrets/s3/secret-key", "value: /run/secrets/s3/key"),
    ("kubernetes", "deploy/kubernetes/examples/irsa/serviceaccount.yaml", "name: chronik-snapshotd\n", "name: chronik\n"),
    ("kubernetes", "deploy/kubernetes/examples/refbroker/statefulset.yaml", "GracePeriodSeconds: 60", "GracePeriodSeconds: 30"),
    # Helm
    ("helm", f"{CHART}/templates/_sidecar.tpl", "restartPolicy: Always", "restartPolicy: Never"),
    ("helm", f"{CHART}/templates/_sidecar.tpl", "{{- end -}}", "{{- end }"),
    ("helm", f"{CHART}/templates/_sidecar.tpl", "defaultMode: 0440", "mode: 0440"),
    ("helm", f"{CHART}/templates/_names.tpl", "{{ $value | int64 | quote }}", "{{ $value | quote }}"),
    ("helm", f"{CHART}/templates/networkpolicy.yaml", "podSelector:\n    matchLabels:", "podSelector:\n    matchLabel:"),
    ("helm", f"{CHART}/templates/podmonitor.yaml", "port: snapshot-http", "port: http"),
    ("helm", f"{CHART}/templates/example.yaml", "serviceName:", "servicename:"),
    ("helm", f"{CHART}/values.yaml", "metricsPort: 9090", 'metricsPort: "9090"'),
    ("helm", f"{CHART}/values.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
    ("helm", f"{CHART}/values.schema.json", '"additionalProperties": false', '"additionalProperties": true'),
    ("helm", f"{CHART}/values.schema.json", '"S3_SECRET_KEY": false,', ""),
    ("helm", f"{CHART}/templates/prometheusrule.yaml", "list \"recording\" \"alerts\"", "list \"alerts\""),
    ("helm", f"{CHART}/ci/irsa.values.yaml", "serviceAccount:", "serviceAcount:"),
    ("helm", "deploy/helm/test-broker/templates/statefulset.yaml", '"chronik-snapshotd.volumes"', '"chronik-snapshotd.volume"'),
    # Images
    ("image_files", "Dockerfile", "WORKDIR /build", "WORKDIR build"),
    ("image_files", "Dockerfile", "USER 1001:1001", "USER nonroot"),
    ("image_files", "Dockerfile", "COPY .cargo/config.toml .cargo/\n", ""),
    ("image_files", "Dockerfile", "gcr.io/distroless/cc-debian12:nonroot", "gcr.io/distroless/cc-debian12"),
    ("image_files", "Dockerfile", 'ENTRYPOINT ["/usr/local/bin/chronik-snapshotd"]', "ENTRYPOINT /usr/local/bin/chronik-snapshotd"),
    ("image_files", "Dockerfile", "target/release/chronik", "target/x86_64-unknown-linux-gnu/release/chronik"),
    ("image_files", ".dockerignore", "!proto\n", ""),
    # Bucket
    ("bucket", POLICY, '"s3:GetObject"', '"s3:*"'),
    ("bucket", POLICY, '        "s3:DeleteObject",\n', ""),
    ("bucket", POLICY, '"arn:aws:s3:::my-snapshots/snapshots/*"', '"*"'),
    ("bucket", POLICY, "StringLikeIfExists", "StringLike"),
    ("bucket", POLICY, '"s3:prefix": "snapshots/*"', '"s3:prefix": "snapshot/*"'),
    ("bucket", "deploy/s3/lifecycle.json", '"DaysAfterInitiation": 2\n      }', '"DaysAfterInitiation": 2\n      },\n      "Expiration": {"Days": 30}'),
    ("bucket", "deploy/s3/lifecycle.json", '"Enabled"', '"Disabled"'),
    ("bucket", "deploy/s3/README.md", "| `s3:AbortMultipartUpload` |", "| `s3:Abort` |"),
    # Names
    ("names", "deploy/systemd/chronik-snapshotd.env.example", "METRICS_LISTEN", "METRIC_LISTEN"),
    ("names", f"{BASE}/chronik-snapshotd.env", "S3_PREFIX", "S3_PREFIXES"),
    ("names", f"{CHART}/values.yaml", "CHRONIK_SNAPSHOT_LOG_FORMAT", "CHRONIK_SNAPSHOT_LOGFORMAT"),
    ("names", "deploy/prometheus/alerts.yml", "chronik_snapshot_unprotected", "chronik_snapshot_unprotected_partitions"),
    ("names", f"{CHART}/Chart.yaml", "appVersion: 0.1.0", "appVersion: 0.2.0"),
    ("names", SIDECAR, "chronik-snapshotd:0.1.0", "chronik-snapshotd:0.0.9"),
    ("names", "Dockerfile", "rust:1.95.0", "rust:1.94.0"),
    ("names", "deploy/kubernetes/examples/refbroker/statefulset.yaml", "--snapshot-listen", "--snapshots-listen"),
    ("names", "docs/DEPLOYMENT.md", "../deploy/s3/README.md", "../deploy/bucket/README.md"),
    # Shell
    ("shell", "scripts/debian-tools.sh", 'command -v "${tool%%=*}"', "command -v ${tool%%=*}"),
]


def copied(root, folder):
    """The repository's files, tracked or new, as a repository of its own."""
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=True
    )
    wanted = ("deploy/", "docs/", "scripts/", "refbroker/", "proto", "src", ".cargo", ".ci", "tests/harness/", "tests/s3-server/")
    for name in listed.stdout.decode().split("\0"):
        source = Path(root, name)
        if name and source.is_file() and ("/" not in name or name.startswith(wanted)):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    subprocess.run(["git", "init", "--quiet", folder], check=True)


def noticed(check, root):
    try:
        importlib.import_module(f"deploy_checks.{check}").check(root)
    except Faults as faults:
        return faults.faults[0].replace("\n", " ")
    return None


def main():
    root = Path(__file__).resolve().parent.parent.parent
    rows = [row for row in BROKEN if not sys.argv[1:] or row[0] in sys.argv[1:]]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve()
        copied(root, tree)
        for check in sorted({row[0] for row in rows}):
            fault = noticed(check, tree)
            if fault is not None:
                print(f"FAULT   {check} finds a fault in files that are not broken: {fault}")
                return 1
        for check, name, old, new in rows:
            path = tree / name
            whole = path.read_text(encoding="utf-8")
            if old not in whole:
                print(f"FAULT   {name} has no {old!r}: this row is out of date")
                missed += 1
                continue
            path.write_text(whole.replace(old, new), encoding="utf-8")
            fault = noticed(check, tree)
            path.write_text(whole, encoding="utf-8")
            missed += fault is None
            print(f"{'MISSED ' if fault is None else 'ok     '} {check}: {name}: {new.strip() or 'without ' + old.strip()!r}: {fault}"[:230], flush=True)
    print(f"{len(rows) - missed} of {len(rows)} broken files noticed")
    return 1 if missed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
