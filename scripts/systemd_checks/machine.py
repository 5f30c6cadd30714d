"""A machine with a systemd of its own: a Debian in systemd-nspawn, without a network."""

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

PACKAGES = "systemd,systemd-sysv,dbus,ca-certificates"
RELEASE = "bookworm"
PATIENCE_SECS = 90


class Failed(Exception):
    """What was not as it must be."""


class Machine:
    def __init__(self, cache):
        self.cache = cache
        self.folder = Path(tempfile.mkdtemp(prefix="chronik-systemd-"))
        self.root = self.folder / "root"
        self.process = None
        self.leader = None
        # Of every command.
        self.variables = []

    def __enter__(self):
        tar = self.cache / "root.tar"
        if not tar.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            made = tar.with_suffix(".new")
            make = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "--format=tar", RELEASE, made]
            subprocess.run(make, check=True)
            made.rename(tar)
        self.root.mkdir()
        subprocess.run(["tar", "--extract", f"--file={tar}", f"--directory={self.root}"], check=True)
        return self

    def __exit__(self, *_):
        if self.process is not None:
            # nspawn takes it as an order to power off; the second time it ends at once.
            for _ in range(2):
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(timeout=30)
                    break
                except subprocess.TimeoutExpired:
                    continue
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder)

    def boot(self):
        log = open(self.folder / "console.log", "wb")
        boot = ["systemd-nspawn", "--quiet", "--boot", f"--directory={self.root}", "--private-network", "--register=no"]
        boot += ["--keep-unit", "--machine=chronik-check", "--console=pipe"]
        self.process = subprocess.Popen(boot, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.leader = wait_for("the machine's first process", self.first_process)
        # Units of the machine that cannot run in a container make it "degraded"; ours are looked at one by one.
        wait_for("the machine's systemd", lambda: self.run("systemctl is-system-running", check=False) in ("running", "degraded"))

    def first_process(self):
        expect(self.process.poll() is None, (self.folder / "console.log").read_text(errors="replace"))
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return children[0] if children else None

    def run(self, command, stdin="", check=True):
        """What a shell of root in there prints."""
        # Every namespace of the machine but the one for users, which is ours.
        enter = ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]
        shell = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *self.variables, "bash", "-euc", f"cd /root/chronik; {command}"]
        done = subprocess.run(enter + shell, input=stdin, capture_output=True, text=True, timeout=300, check=False)
        if check and done.returncode != 0:
            raise Failed(f"exit code {done.returncode}: {command}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def fails(self, command):
        try:
            self.run(command)
        except Failed as failed:
            return str(failed)
        raise Failed(f"succeeded: {command}")

    def show(self, unit, name):
        return self.run(f"systemctl show --property={name} --value {unit}")

    def journal(self, unit):
        return self.run(f"journalctl --quiet --no-pager --output=cat --unit={unit}")


def wait_for(what, look):
    deadline = time.monotonic() + PATIENCE_SECS
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise Failed(f"waited {PATIENCE_SECS} s in vain for {what}")


def expect(holds, fault):
    if not holds:
        raise Failed(fault)
