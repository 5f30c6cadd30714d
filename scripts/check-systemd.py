#!/usr/bin/env python3
"""Installs broker and sidecar on a machine with a real systemd, by the commands of README.md and docs/DEPLOYMENT.md, and looks what they do.

Root only. The machine is a container without a network; its base stays in target/systemd.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from systemd_checks.machine import Failed, Machine  # noqa: E402
from systemd_checks.steps import STEPS, UNIT  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("refbroker", "s3-server")
RELEASED = ("chronik-snapshotd", "refbroker")


def main():
    if os.geteuid() != 0:
        sys.exit("a machine with a systemd of its own is started by root")
    subprocess.run([ROOT / "scripts/debian-tools.sh", "mmdebstrap", "systemd-nspawn=systemd-container", "nsenter=util-linux"], check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    with Machine(ROOT / "target/systemd") as machine:
        for name in PROGRAMS:
            shutil.copy(target / "debug" / name, machine.root / "usr/bin" / name)
        project = machine.root / "root/chronik"
        shutil.copytree(ROOT / "deploy", project / "deploy")
        (project / "target/release").mkdir(parents=True)
        for name in RELEASED:
            shutil.copy(target / "debug" / name, project / "target/release" / name)
        machine.boot()
        pages = {page: (ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/DEPLOYMENT.md")}
        for step in STEPS:
            try:
                step(machine, pages)
            except Failed as failed:
                print(f"FAULT   {step.__name__.replace('_', ' ')}: {failed}", file=sys.stderr)
                print(machine.run(f"journalctl --no-pager --lines=60 --unit={UNIT} --unit=chronik", check=False), file=sys.stderr)
                return 1
            print(f"ok      {step.__name__.replace('_', ' ')}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
