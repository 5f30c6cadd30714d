"""Every shell script of the repository: shellcheck."""

import re
from pathlib import Path

from .common import Collected, Faults, run, tool

SHEBANG = re.compile(rb"^#!\s*/(?:usr/)?bin/(?:env )?(?:ba|da)?sh\b")


def scripts(root):
    """Files whose first line says so; build results and hidden folders but .ci are left out."""
    code, out, err = run(tool("git"), "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if code != 0:
        raise Faults([f"git ls-files: {err.strip()}"])
    paths = (Path(root, name) for name in out.split("\0") if name)
    return [path for path in paths if path.is_file() and SHEBANG.match(path.open("rb").readline(80))]


def check(root):
    found = Collected()
    paths = scripts(root)
    found.expect(len(paths) >= 3, f"only {len(paths)} shell scripts found")
    code, out, err = run(tool("shellcheck"), "--severity=style", *paths)
    found.expect(code == 0, f"shellcheck:\n{(out + err).strip()}")
    found.done()
    return f"{len(paths)} shell scripts clean"
