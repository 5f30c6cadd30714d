"""Names and versions in deploy/, the Dockerfiles and docs/DEPLOYMENT.md: none that the program does not know."""

import re
import tomllib
from pathlib import Path

from docs_checks.names import metrics, unknown_metrics

from .common import Collected, files_below, text_of

VARIABLE = re.compile(
    r"\b(CHRONIK_SNAPSHOT_[A-Z0-9_]*[A-Z0-9]|S3_[A-Z0-9_]*[A-Z0-9]|OBJECT_STORE_BACKEND|GCS_BUCKET|AZURE_CONTAINER"
    r"|LOCAL_STORAGE_PATH)\b(?!_)"
)
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \|", re.MULTILINE)
SECRET_ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| secret \|", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
IMAGE = re.compile(r"(?<![a-z0-9])(chronik-snapshotd|refbroker):([0-9]+\.[0-9a-z.-]*[0-9a-z])")
# In front of every key; the names that Chronik uses have it, too, or not.
PREFIX = "CHRONIK_SNAPSHOT_"


def documented(root):
    """Every environment variable that docs/CONFIGURATION.md knows."""
    text = text_of(Path(root, "docs/CONFIGURATION.md"))
    options = set(ROW.findall(text))
    store = set(ROW.findall(text.split("## Object store", 1)[1]))
    secrets = set(SECRET_ROW.findall(text))
    plain = store | {f"{name}_FILE" for name in secrets}
    names = plain | {PREFIX + name for name in options | plain}
    names.add("CHRONIK_SNAPSHOT_CONFIG")
    return names


def sources(root):
    root = Path(root)
    docs = [root / "Dockerfile", root / "refbroker/Dockerfile", root / "docs/DEPLOYMENT.md"]
    return files_below(root, "deploy") + docs


def check_names(found, root):
    known = documented(root)
    known_metrics = metrics(text_of(Path(root, "docs/METRICS.md")))
    found.expect(len(known) > 40, "the tables of CONFIGURATION.md were not understood")
    used = set()
    for path in sources(root):
        text = text_of(path)
        where = path.relative_to(root)
        for name in sorted(set(VARIABLE.findall(text))):
            used.add(name)
            found.expect(name in known, f"{where}: {name} is not in docs/CONFIGURATION.md")
        for name, number in unknown_metrics(text, known_metrics):
            found.add(f"{where}:{number}: {name} is not in docs/METRICS.md")
    return used


def check_versions(found, root):
    cargo = tomllib.loads(text_of(Path(root, "Cargo.toml")))
    version = cargo["workspace"]["package"]["version"]
    for path in sources(root):
        for name, tag in IMAGE.findall(text_of(path)):
            found.expect(tag == version, f"{path.relative_to(root)}: {name}:{tag} is not version {version}")
        for tag in re.findall(r"newTag: (\S+)", text_of(path)):
            found.expect(tag == version, f"{path.relative_to(root)}: newTag {tag} is not version {version}")
    chart = text_of(Path(root, "deploy/helm/chronik-snapshotd/Chart.yaml"))
    for key in ("version", "appVersion"):
        found.expect(f"\n{key}: {version}\n" in chart, f"Chart.yaml: {key} is not {version}")
    dockerfile = text_of(Path(root, "Dockerfile"))
    found.expect(f"ARG VERSION={version}\n" in dockerfile, f"Dockerfile: VERSION is not {version}")
    rust = tomllib.loads(text_of(Path(root, "rust-toolchain.toml")))["toolchain"]["channel"]
    for path in ("Dockerfile", "refbroker/Dockerfile"):
        base = re.search(r"^ARG BUILD_IMAGE=rust:([0-9.]+)-", text_of(Path(root, path)), re.MULTILINE)
        found.expect(base and base[1] == rust, f"{path}: BUILD_IMAGE is not Rust {rust} of rust-toolchain.toml")


def check_refbroker_flags(found, root):
    arguments = text_of(Path(root, "refbroker/src/config.rs")).split("pub struct ServeArgs", 1)[1].split("\n}", 1)[0]
    known = {name.replace("_", "-") for name in re.findall(r"pub (\w+):", arguments)}
    for path in ("deploy/kubernetes/examples/refbroker/statefulset.yaml", "deploy/helm/chronik-snapshotd/templates/example.yaml"):
        flags = re.findall(r"^\s+- --([a-z-]+)=", text_of(Path(root, path)), re.MULTILINE)
        found.expect(flags, f"{path}: no flags of the reference broker found")
        for flag in flags:
            found.expect(flag in known, f"{path}: the reference broker has no flag --{flag}")


def check_links(found, root):
    for path in sources(root):
        if path.suffix == ".md":
            for target in LINK.findall(text_of(path)):
                if "://" not in target:
                    found.expect((path.parent / target).exists(), f"{path.relative_to(root)}: {target} does not exist")


def check(root):
    root = Path(root).resolve()
    found = Collected()
    used = check_names(found, root)
    check_versions(found, root)
    check_refbroker_flags(found, root)
    check_links(found, root)
    found.done()
    return f"{len(used)} environment variables, all documented; metrics, versions, flags and links are right"
