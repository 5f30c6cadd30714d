"""promtool, the tool of Prometheus that knows what is right. Missing is a failure."""

import subprocess
import tempfile
from pathlib import Path

MISSING = "promtool is missing: scripts/debian-tools.sh promtool=prometheus"


def run(*arguments):
    """Runs promtool; its output, if it failed."""
    try:
        done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return [MISSING]
    output = (done.stdout + done.stderr).strip()
    if done.returncode == 0 and "FAILED" not in output:
        return []
    return [f"promtool {arguments[0]} {arguments[1]}:\n{output}"]


def parses(expressions):
    """Whether every query parses: they become one file of rules. `expressions` are pairs of place and query."""
    expressions = list(expressions)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queries.yml"
        lines = ["groups:", "  - name: queries", "    rules:"]
        for number, (_, expression) in enumerate(expressions):
            indented = "\n".join("          " + line for line in expression.splitlines())
            lines += [f"      - record: query{number}", "        expr: |", indented]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        faults = run("check", "rules", path)
        if not faults or MISSING in faults:
            return faults
        # Once more one by one, to say which.
        wrong = []
        for place, expression in expressions:
            indented = "\n".join("          " + line for line in expression.splitlines())
            path.write_text(
                "\n".join([*lines[:3], "      - record: query", "        expr: |", indented]) + "\n", encoding="utf-8"
            )
            wrong += [f"{place}: promtool does not parse {expression!r}" for _ in run("check", "rules", path)]
        return wrong or faults
