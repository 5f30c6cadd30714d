"""Child processes of the tests: started in a group of their own, logged to a file, gone when the test is."""

import os
import random
import signal
import socket
import subprocess
import time

TAIL_BYTES = 4096


_GIVEN = set()


def free_port():
    """A port of 127.0.0.1 that nobody uses, below those that the system gives to clients: none of them can take it."""
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port
    raise RuntimeError("no free port between 20000 and 32000")


def wait_until(what, look, within_s, logs=lambda: ""):
    """Calls `look` until it answers with something true and returns that. `look` may raise AssertionError: not yet."""
    deadline = time.monotonic() + within_s
    seen = "nothing"
    while time.monotonic() < deadline:
        try:
            found = look()
            if found:
                return found
            seen = repr(found)
        except (AssertionError, OSError, ValueError) as error:
            seen = f"{type(error).__name__}: {error}"
        time.sleep(0.2)
    raise AssertionError(f"not within {within_s} s: {what}; seen last: {seen}\n{logs()}")


class Process:
    """A program that can be killed and started again with the same command."""

    def __init__(self, name, command, log, env=None):
        self.name = name
        self.command = [str(word) for word in command]
        self.log = log
        self.env = env or {}
        self.child = None

    @property
    def environment(self):
        """Its variables: the tests' own, without those that would tell it something else."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CHRONIK_SNAPSHOT_", "S3_", "OBJECT_STORE_", "LOCAL_STORAGE_", "AWS_"))
        }
        return inherited | self.env

    def start(self):
        assert self.child is None, f"{self.name} runs already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self):
        """Fails with the end of the log if it ended by itself."""
        if self.child is not None and self.child.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.child.returncode}\n{self.tail()}")

    def kill(self):
        """SIGKILL for its whole group."""
        if self.child is None:
            return
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        self.child = None

    def tail(self):
        """The end of its log."""
        if not self.log.exists():
            return ""
        data = self.log.read_bytes()[-TAIL_BYTES:]
        return f"--- {self.name} ({self.log})\n{data.decode(errors='replace')}"
