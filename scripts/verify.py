#!/usr/bin/env python3
"""Runs everything that docs/VERIFICATION.md names, once, and writes target/verify/report.json. See `make verify`.

Exit code 0 means: every rule and every bug has tests and all of them ran and passed, every mutation was caught, every
other test passed, and there was as much trouble as REQUIRED says without an acknowledged record lost.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "target/verify"
PAGE = ROOT / "docs/VERIFICATION.md"
CARGO = os.environ.get("CARGO", "cargo")

SCHEDULES = int(os.environ.get("SIMULATION_SCHEDULES", "10000"))
FUZZ_SECONDS = os.environ.get("FUZZ_SECONDS", "20")
SOAK_MINUTES = os.environ.get("SOAK_MINUTES", "2")
REQUIRED = {"schedules": 10_000, "kills": 200, "faults_injected": 1_000}
# No job hangs for ever.
JOB_LIMIT_SECONDS = 30 * 60

TEST_LINE = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (.*)$")
EVIDENCE_LINE = re.compile(r"^EVIDENCE (\w+) (\d+)$", re.MULTILINE)


class Job:
    """One program that runs once. `source` is the root of the crate whose tests it holds."""

    def __init__(self, name, command, cwd=ROOT, env=None, cores=None, source=None):
        self.name, self.command, self.cwd = name, [str(part) for part in command], cwd
        self.env, self.cores, self.source = env or {}, cores, source
        self.code, self.seconds, self.text = None, 0.0, ""

    def run(self):
        start = time.monotonic()
        log = OUT / "logs" / (self.name + ".log")
        pin = (lambda: os.sched_setaffinity(0, self.cores)) if self.cores else None
        with open(log, "wb") as output:
            process = subprocess.Popen(
                self.command, cwd=self.cwd, env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, preexec_fn=pin)
            try:
                self.code = process.wait(timeout=JOB_LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                self.code = f"given up after {JOB_LIMIT_SECONDS} s"
        self.seconds = time.monotonic() - start
        self.text = log.read_text(errors="replace")
        verdict = "ok" if self.code == 0 else f"FAILED ({self.code}), see {log.relative_to(ROOT)}"
        print(f"{self.name:<40} {self.seconds:7.1f} s  {verdict}", flush=True)

    def outcomes(self):
        """Test name -> ok, FAILED or ignored."""
        found = {}
        for line in self.text.splitlines():
            match = TEST_LINE.match(line)
            if match:
                found[match[1]] = match[2].split(",")[0].strip()
        return found

    def evidence(self):
        return [(name, int(count)) for name, count in EVIDENCE_LINE.findall(self.text)]


def build(*arguments):
    """Builds tests; returns (package folder, source of the crate, program) of each."""
    command = [CARGO, "test", "--locked", "--no-run", "--message-format=json-render-diagnostics", *arguments]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    found = []
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            source = Path(message["target"]["src_path"])
            found.append((Path(message["manifest_path"]).parent, source, message["executable"]))
    return found


def test_jobs():
    """Every test of the workspace: those that keep a core busy, those that mostly wait, and all others."""
    busy, waiting, others = [], [], []
    half = half_of_the_cores()
    mutants = build("--workspace", "--features", "chronik-snapshotd/mutations", "--test", "simulation")
    # Last, so that the programs that the other tests start are those without mutations.
    subprocess.run([CARGO, "build", "--locked", "--workspace", "--bins", "--examples"], cwd=ROOT, check=True)
    for package, source, program in build("--workspace"):
        relative = source.relative_to(ROOT)
        name = str(relative.parent if source.stem == "main" else relative.with_suffix("")).replace("/", "-")
        name = f"{name}-bin" if relative.name == "main.rs" and relative.parent.name in ("src", "bin") else name
        job = Job(name, [program, "--show-output"], package, {"CARGO_MANIFEST_DIR": str(package)}, source=source)
        if relative.parts[:2] == ("tests", "simulation"):
            job.env["SIMULATION_SCHEDULES"], job.cores = str(SCHEDULES), half
            busy.append(job)
        elif relative.parts[:2] == ("tests", "faults"):
            job.env["FAULTS_KILL_STRIDE"] = "1"
            waiting.append(job)
        elif relative.parts[-2:] == ("harness", "main.rs"):
            job.command += ["--include-ignored", "--skip", "kcat", "--skip", "victim"]
            job.env["HARNESS_PYTHON"] = str(ROOT / "target/venv/bin/python")
            others.append(job)
        else:
            others.append(job)
    for package, source, program in mutants:
        job = Job("mutants", [program, "--show-output", "mutants"], package, cores=half, source=source)
        busy.append(job)
    return busy, waiting, others


def half_of_the_cores():
    """For what would take every core: others wait for their deadlines meanwhile."""
    cores = sorted(os.sched_getaffinity(0))
    return set(cores[: max(1, len(cores) // 2)])


def run_lanes(*lanes):
    """Jobs of one lane run one after the other, lanes beside each other."""
    def work(lane):
        for job in lane:
            job.run()
    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def table(heading):
    """The rows of the first table under a heading: (first cell, names of tests)."""
    text = PAGE.read_text()
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [(row[0], re.findall(r"`([^`]+\.rs::\w+)`", row[1])) for row in cells]


def outcome_of(test, jobs):
    """passed, failed or not run."""
    file, name = test.split(".rs::")
    path = ROOT / (file + ".rs")
    seen = []
    for job in jobs:
        # A crate in one file holds that file's tests; src/, and folders with a main.rs, hold those below them.
        one_file = job.source.stem not in ("lib", "main")
        if not (job.source == path if one_file else job.source.parent in path.parents):
            continue
        module = [] if one_file else [part for part in path.relative_to(job.source.parent).with_suffix("").parts]
        module = [part for part in module if part not in ("lib", "main", "mod")]
        for full, outcome in job.outcomes().items():
            parts = full.split("::")
            if parts[-1] == name and parts[: len(module)] == module:
                seen.append(outcome)
    if not seen or "ignored" in seen:
        return "not run"
    return "passed" if all(outcome == "ok" for outcome in seen) else "failed"


def judged(rows, key, jobs):
    judged_rows = []
    for first, tests in rows:
        outcomes = {test: outcome_of(test, jobs) for test in tests}
        passed = bool(tests) and all(outcome == "passed" for outcome in outcomes.values())
        row = {key: int(first) if key == "id" else first, "tests": tests, "passed": passed}
        judged_rows.append(row if passed else {**row, "outcomes": outcomes})
    return judged_rows


def main():
    start = time.monotonic()
    (OUT / "logs").mkdir(parents=True, exist_ok=True)
    for stale in [OUT / "report.json", ROOT / "target/soak/report.json"]:
        stale.unlink(missing_ok=True)
    subprocess.run(["make", "fuzz-build"], cwd=ROOT, check=True)
    busy, waiting, others = test_jobs()
    fuzz = Job("fuzz", ["make", "fuzz", f"SECONDS={FUZZ_SECONDS}"])
    soak = Job("soak", ["make", "soak", f"MINUTES={SOAK_MINUTES}"])
    documents = Job("doc", [CARGO, "test", "--locked", "--workspace", "--doc"])
    built = time.monotonic()
    print(f"built in {built - start:.0f} s", flush=True)
    run_lanes(busy, [*waiting, soak], [*others, documents, fuzz])

    tests = [*busy, *waiting, *others]
    every = [*tests, fuzz, soak, documents]
    evidence = {}
    for job in every:
        for name, count in job.evidence():
            evidence.setdefault(name, {}).setdefault(job.name, 0)
            evidence[name][job.name] += count
    total = {name: sum(by_job.values()) for name, by_job in evidence.items()}
    report = {
        "invariants": judged(table("Rules"), "id", tests),
        "bugs": judged(table("Bugs that others had"), "name", tests),
        "troubles": judged(table("On real machines, links and stores"), "name", tests),
        "mutations": {"tried": total.get("mutations_tried", 0), "caught": total.get("mutations_caught", 0)},
        "faults_injected": total.get("faults_injected", 0),
        "kills": total.get("kills", 0),
        "schedules": total.get("schedules", 0),
        "acked_records": total.get("acked_records", 0),
        "acked_records_lost": total.get("acked_records_lost"),
        "evidence": evidence,
        "failed": [job.name for job in every if job.code != 0],
        "build_seconds": round(built - start),
        "seconds": round(time.monotonic() - built),
    }
    (OUT / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    faults = verdict(report)
    print(f"report: {OUT / 'report.json'}")
    print("\n".join(faults) if faults else f"verified in {report['seconds']} s")
    return 1 if faults else 0


def verdict(report):
    """What is missing; nothing = verified."""
    faults = [f"failed: {name}" for name in report["failed"]]
    for kind, key in [("invariants", "id"), ("bugs", "name"), ("troubles", "name")]:
        if not report[kind]:
            faults.append(f"no {kind} found in {PAGE.name}")
        for row in report[kind]:
            if not row["passed"]:
                bad = {test: outcome for test, outcome in row["outcomes"].items() if outcome != "passed"}
                faults.append(f"{kind} {row[key]}: {bad or 'no tests'}")
    for name, least in REQUIRED.items():
        if report[name] < least:
            faults.append(f"{name}: {report[name]}, at least {least} are asked for")
    if report["mutations"]["caught"] < max(1, report["mutations"]["tried"]):
        faults.append(f"mutations: {report['mutations']}")
    if report["acked_records_lost"] != 0 or report["acked_records"] == 0:
        faults.append(f"acked records: {report['acked_records']}, lost: {report['acked_records_lost']}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
