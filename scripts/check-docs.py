#!/usr/bin/env python3
"""Holds the documents to what they claim; see `make docs-check`.

The book builds and has no dead link; links between Markdown files lead somewhere; the protocol reference is what the
.proto files say; options, metrics, calls, commands and error texts exist. First every check is tried on something that
is wrong: one that would let it pass is a fault itself.
"""

import subprocess
import sys
import unittest
from pathlib import Path

# The sources stay as they are: no caches beside them.
sys.dont_write_bytecode = True

from docs_checks import book, commands, links, names, texts

ROOT = Path(__file__).resolve().parent.parent
MDBOOK = ROOT / "target/docs-venv/bin/mdbook"
TROUBLESHOOTING = ROOT / "docs/TROUBLESHOOTING.md"


def reference():
    """The protocol reference is up to date."""
    program = [sys.executable, str(ROOT / "scripts/proto-reference.py"), "--check"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield (done.stdout + done.stderr).strip() or "proto-reference.py failed"


def scaling():
    """The tables of docs/SCALING.md are what was measured gives."""
    program = [sys.executable, str(ROOT / "scripts/scaling.py"), "--check"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield (done.stdout + done.stderr).strip() or "scaling.py failed"


def main(arguments):
    if arguments == ["--unquoted"]:
        for line in texts.unquoted(ROOT, TROUBLESHOOTING):
            print(line)
        return 0
    if arguments:
        print("usage: check-docs.py [--unquoted]", file=sys.stderr)
        return 2
    if not MDBOOK.exists():
        print(f"{MDBOOK.relative_to(ROOT)} is missing: run `make docs-check`", file=sys.stderr)
        return 1
    suite = unittest.defaultTestLoader.loadTestsFromName("docs_checks.tests")
    if not suite.countTestCases() or not unittest.TextTestRunner(verbosity=0).run(suite).wasSuccessful():
        return 1
    checks = {
        "protocol reference": reference(),
        "scaling": scaling(),
        "links": links.check(ROOT),
        "book": book.check(ROOT, MDBOOK),
        "options, metrics, calls": names.check(ROOT),
        "error texts": texts.check(ROOT, TROUBLESHOOTING),
        "commands": commands.check(ROOT),
    }
    failed = False
    for name, faults in checks.items():
        try:
            found = list(faults)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            found = [str(error)]
        print(f"{name:<24} {'ok' if not found else f'{len(found)} wrong'}", flush=True)
        for fault in found:
            print(f"  {fault}", flush=True)
        failed = failed or bool(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
