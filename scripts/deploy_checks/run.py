#!/usr/bin/env python3
"""Runs the checks of deploy/: all, or those that are named. Exit code 1 if one finds a fault."""

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deploy_checks.common import Faults  # noqa: E402

CHECKS = ("systemd", "kubernetes", "helm", "image_files", "bucket", "names", "shell")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent.parent)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(CHECKS)}")
    arguments = parser.parse_args()
    unknown = set(arguments.checks) - set(CHECKS)
    if unknown:
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    failed = 0
    for name in arguments.checks or CHECKS:
        try:
            report = importlib.import_module(f"deploy_checks.{name}").check(arguments.root.resolve())
            print(f"ok      {name}: {report}", flush=True)
        except Faults as faults:
            failed += 1
            for fault in faults.faults:
                print(f"FAULT   {name}: {fault}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
