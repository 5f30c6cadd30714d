"""What the checks share."""

import shutil
import subprocess
from pathlib import Path


class Faults(Exception):
    """Everything that is wrong with one part."""

    def __init__(self, faults):
        super().__init__("\n".join(faults))
        self.faults = faults


class Collected:
    """Collects faults, so that all of them are told at once."""

    def __init__(self):
        self.faults = []

    def expect(self, holds, fault):
        if not holds:
            self.faults.append(fault)

    def add(self, fault):
        self.faults.append(fault)

    def done(self):
        if self.faults:
            raise Faults(self.faults)


def tool(name):
    """Path of a program; a fault if it is missing."""
    path = shutil.which(name)
    if path is None:
        raise Faults([f"{name} is not installed; scripts/check-deploy.sh installs it"])
    return path


def run(*command, cwd=None):
    """Runs a program and returns (exit code, standard output, standard error)."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def text_of(path):
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise Faults([f"{path}: {error.strerror}"]) from error


def files_below(root, *parts):
    """All files of a folder, in a fixed order."""
    folder = Path(root, *parts)
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    if not found:
        raise Faults([f"{folder} has no files"])
    return found
