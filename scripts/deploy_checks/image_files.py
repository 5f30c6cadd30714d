"""The Dockerfiles: hadolint, and what it does not know."""

import re
from pathlib import Path

from .common import Collected, run, text_of, tool

FILES = ("Dockerfile", "refbroker/Dockerfile")


def check(root):
    found = Collected()
    for name in FILES:
        path = Path(root, name)
        text = text_of(path)
        code, out, err = run(tool("hadolint"), "--no-color", "--failure-threshold", "style", path)
        found.expect(code == 0 and not (out + err).strip(), f"{name}: hadolint, exit code {code}: {(out + err).strip()}")
        last = text.rsplit("\nFROM ", 1)[-1]
        found.expect(last.startswith("${RUNTIME_IMAGE}"), f"{name}: the last stage is not made from RUNTIME_IMAGE")
        found.expect("\nUSER 1001:1001\n" in last, f"{name}: the image does not run as 1001:1001")
        found.expect("\nSTOPSIGNAL SIGTERM\n" in last, f"{name}: STOPSIGNAL is not SIGTERM")
        found.expect("\nRUN " not in last, f"{name}: the last stage has no shell to run anything with")
        found.expect(re.search(r'^ENTRYPOINT \["/', last, re.MULTILINE), f"{name}: ENTRYPOINT needs a shell")
        for base in re.findall(r"^ARG (?:BUILD|RUNTIME)_IMAGE=(\S+)$", text, re.MULTILINE):
            tag = base.rpartition("/")[2].partition(":")[2]
            found.expect(tag and tag != "latest", f"{name}: the base {base} has no version")
        for label in ("title", "description", "licenses"):
            found.expect(f"org.opencontainers.image.{label}=" in last, f"{name}: the label {label} is missing")
        found.expect(not re.search(r"(x86_64|aarch64|amd64|arm64)-", text), f"{name}: an architecture is named")
    dockerfile = text_of(Path(root, FILES[0]))
    found.expect("COPY .cargo/config.toml" in dockerfile, "Dockerfile: the allocator's settings are not part of the build")
    ignored = text_of(Path(root, ".dockerignore")).splitlines()
    found.expect("*" in ignored and "!.cargo/config.toml" in ignored, ".dockerignore: not a list of what is needed")
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        for source in copied.split():
            allowed = any(line.startswith("!") and (source + "/").startswith(line[1:] + "/") for line in ignored)
            found.expect(allowed, f".dockerignore: {source} is copied but ignored")
            found.expect(Path(root, source).exists(), f"Dockerfile: {source} does not exist")
    found.done()
    return f"{len(FILES)} Dockerfiles clean"
