"""deploy/kubernetes: kubectl renders every kustomization, and the result is held against the schemas of Kubernetes."""

from pathlib import Path

import yaml

from .common import Collected, Faults, run, text_of, tool
from .pods import check_objects, documents, validate

# The examples, and what each must have beside the cluster.
EXAMPLES = {"refbroker": set(), "irsa": {"ServiceAccount", "PodMonitor"}, "static-keys": set()}


def render(folder):
    code, out, err = run(tool("kubectl"), "kustomize", folder)
    if code != 0 or err.strip():
        raise Faults([f"kubectl kustomize {folder}: exit code {code}: {err.strip()}"])
    return documents(out)


def check_example(found, root, name, kinds):
    folder = Path(root, "deploy/kubernetes/examples", name)
    objects = render(folder)
    where = f"examples/{name}"
    check_objects(found, where, objects)
    missing = kinds - {item["kind"] for item in objects}
    found.expect(not missing, f"{where}: no {missing}")
    strangers = [item["metadata"]["name"] for item in objects if item["metadata"].get("namespace", "chronik-demo") != "chronik-demo"]
    found.expect(not strangers, f"{where}: {strangers} are in another namespace")
    for item in objects:
        if item["kind"] == "StatefulSet":
            images = [container["image"] for container in item["spec"]["template"]["spec"]["initContainers"]]
            found.expect(all(":" in image and not image.endswith(":latest") for image in images), f"{where}: images {images}")
    return len(objects)


def check_secret(found, root):
    """The example Secret has the fields that the component mounts as files."""
    folder = Path(root, "deploy/kubernetes")
    secret = yaml.safe_load(text_of(folder / "examples/static-keys/secret.example.yaml"))
    validate(found, "secret.example.yaml", secret)
    keys = yaml.safe_load(text_of(folder / "static-keys/keys.yaml"))["spec"]["template"]["spec"]
    mounted = [volume["secret"]["secretName"] for volume in keys["volumes"]]
    found.expect([secret["metadata"]["name"]] == mounted, f"static-keys mounts {mounted}, not the Secret of the example")
    files = {item["value"].rpartition("/")[2] for item in keys["initContainers"][0]["env"]}
    found.expect(files == set(secret["stringData"]), f"static-keys reads {files}, the Secret has other fields")


def check(root):
    found = Collected()
    folders = {path.name for path in Path(root, "deploy/kubernetes/examples").iterdir() if path.is_dir()}
    found.expect(folders == set(EXAMPLES), f"examples are {sorted(folders)}; this check knows {sorted(EXAMPLES)}")
    base = render(Path(root, "deploy/kubernetes/base"))
    check_objects(found, "base", base, sidecar_wanted=False)
    count = sum(check_example(found, root, name, kinds) for name, kinds in EXAMPLES.items() if name in folders)
    check_secret(found, root)
    found.done()
    return f"base and {len(EXAMPLES)} examples rendered, {count} objects valid"
