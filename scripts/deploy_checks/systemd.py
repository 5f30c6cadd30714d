"""deploy/systemd: systemd itself reads the unit, its drop-ins, the users and the folders."""

import re
import shutil
import stat
import tempfile
from pathlib import Path

from .common import Collected, Faults, run, text_of, tool

UNIT = "chronik-snapshotd.service"
SOCKET = "chronik-snapshotd.socket"
# systemd-analyze counts tenths.
EXPOSURE_MAX = 16
# SHUTDOWN_GRACE_SECS by default, 5 s for aborted uploads, 5 s for open connections, and 5 to spare.
STOP_SECS_MIN = 35
# Sections and keys that the unit must have, with a value or a part of it.
WANTED = {
    "Type": "notify",
    "WatchdogSec": "60",
    "Restart": "always",
    "ExecReload": "kill -HUP $$MAINPID",
    "RuntimeDirectory": "chronik-snapshot",
    "Group": "chronik",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
}


def settings(text):
    """Every KEY=VALUE, in order; a key may come more than once."""
    lines = (line.strip() for line in text.splitlines())
    return [tuple(line.split("=", 1)) for line in lines if line and line[0] not in "#;[" and "=" in line]


def root_with_unit(folder, source, drop_in):
    """A tree in which systemd finds the unit and the programs that it names."""
    units = folder / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for unit in (UNIT, SOCKET):
        shutil.copy(source / unit, units / unit)
    if drop_in is not None:
        dropped = folder / "etc/systemd/system" / f"{UNIT}.d"
        dropped.mkdir(parents=True)
        shutil.copy(drop_in, dropped / drop_in.name)
    for program in ("usr/bin/chronik-snapshotd", "bin/sh"):
        path = folder / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        path.chmod(0o755)
    # What every service refers to.
    for unit in ("sysinit", "basic", "shutdown", "multi-user", "network-online", "sockets"):
        (units / f"{unit}.target").write_text("[Unit]\nDescription=here for the check\n")
    return units / UNIT


def check_unit(found, source, drop_in):
    name = drop_in.name if drop_in else UNIT
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        root_with_unit(folder, source, drop_in)
        # Unknown keys are only told, with exit code 0.
        code, out, err = run(tool("systemd-analyze"), "verify", "--man=no", f"--root={folder}", UNIT, SOCKET)
        told = (out + err).strip()
        found.expect(code == 0 and not told, f"{name}: systemd-analyze verify, exit code {code}: {told}")
        arguments = ["security", "--offline=true", f"--root={folder}", f"--threshold={EXPOSURE_MAX}", UNIT]
        code, out, err = run(tool("systemd-analyze"), *arguments)
        level = re.search(r"exposure level for \S+: ([0-9.]+)", out)
        if level is None:
            found.add(f"{name}: systemd-analyze security gave no level: {err.strip()}")
            return "?"
        found.expect(code == 0, f"{name}: exposure {level[1]} is above {EXPOSURE_MAX / 10}")
        return level[1]


def check_meaning(found, source, keys):
    text = text_of(source / UNIT)
    values = settings(text)
    named = {}
    for key, value in values:
        named.setdefault(key, []).append(value)
    for key, wanted in WANTED.items():
        found.expect(any(wanted in value for value in named.get(key, [])), f"{UNIT}: {key}= must have {wanted}")
    prevented = " ".join(named.get("RestartPreventExitStatus", [])).split()
    found.expect({"2", "78"} <= set(prevented), f"{UNIT}: RestartPreventExitStatus= must name 2 and 78")
    stop_secs = int(named.get("TimeoutStopSec", ["0"])[0])
    found.expect(stop_secs >= STOP_SECS_MIN, f"{UNIT}: TimeoutStopSec= must be at least {STOP_SECS_MIN}")
    credentials = {value.split(":")[0] for value in named.get("LoadCredential", [])}
    for key in keys:
        match = re.search(rf"\b{key}_FILE=%d/(\S+)", text)
        found.expect(match and match[1] in credentials, f"{UNIT}: {key}_FILE= must be a file of LoadCredential=")
    listen = next((value for key, value in values if value.startswith("CHRONIK_SNAPSHOT_LISTEN=")), "")
    check_socket(found, dict(settings(text_of(source / SOCKET))), listen.partition("=unix:")[2])


def check_socket(found, named, listen):
    wanted = {"ListenStream": listen, "SocketUser": "chronik-snapshot", "SocketGroup": "chronik", "SocketMode": "0660"}
    for key, value in wanted.items():
        found.expect(named.get(key) == value, f"{SOCKET}: {key}= must be {value}")


def user_id(folder, name):
    passwd = folder / "etc/passwd"
    lines = passwd.read_text().splitlines() if passwd.exists() else []
    return next((int(line.split(":")[2]) for line in lines if line.startswith(f"{name}:")), None)


def check_users(found, source):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "etc").mkdir()
        for kind in ("sysusers", "tmpfiles"):
            installed = folder / "usr/lib" / f"{kind}.d" / "chronik-snapshotd.conf"
            installed.parent.mkdir(parents=True)
            shutil.copy(source / f"chronik-snapshotd.{kind}.conf", installed)
        code, _, err = run(tool("systemd-sysusers"), f"--root={folder}")
        found.expect(code == 0, f"systemd-sysusers: {err.strip()}")
        group = folder / "etc/group"
        lines = group.read_text().splitlines() if group.exists() else []
        member = [line for line in lines if line.startswith("chronik:") and line.endswith(":chronik-snapshot")]
        found.expect(member, "sysusers: chronik-snapshot is not in the group chronik")
        code, _, err = run(tool("systemd-tmpfiles"), "--create", f"--root={folder}", "chronik-snapshotd.conf")
        found.expect(code == 0 and not err.strip(), f"systemd-tmpfiles, exit code {code}: {err.strip()}")
        gid = next((int(line.split(":")[2]) for line in lines if line.startswith("chronik:")), None)
        uid = user_id(folder, "chronik-snapshot")
        wanted = {
            "etc/chronik-snapshotd": (0o750, 0, gid),
            "etc/chronik-snapshotd/credentials": (0o700, 0, 0),
            "run/chronik-snapshot": (0o750, uid, gid),
        }
        for path, (mode, *owner) in wanted.items():
            made = folder / path
            if not made.is_dir():
                found.add(f"tmpfiles: /{path} is not made")
                continue
            status = made.stat()
            right = stat.S_IMODE(status.st_mode) == mode and [status.st_uid, status.st_gid] == owner
            found.expect(right, f"tmpfiles: /{path} must have mode {mode:o}, user and group {owner}")


def check(root):
    source = Path(root, "deploy/systemd")
    found = Collected()
    drop_ins = sorted(path for path in (source / "drop-ins").glob("*.conf") if path.name != "broker.conf")
    if not drop_ins:
        raise Faults([f"{source}/drop-ins has no drop-ins"])
    levels = [check_unit(found, source, drop_in) for drop_in in [None, *drop_ins]]
    check_meaning(found, source, ("S3_ACCESS_KEY", "S3_SECRET_KEY"))
    broker = text_of(source / "drop-ins/broker.conf")
    for line in (f"Wants={UNIT}", f"After={UNIT}"):
        found.expect(line in broker.splitlines(), f"drop-ins/broker.conf: {line} is missing")
    check_users(found, source)
    found.done()
    return f"unit and {len(drop_ins)} drop-ins verified, exposure {', '.join(levels)}; users and folders made"
