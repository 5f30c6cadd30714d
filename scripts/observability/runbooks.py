"""docs/RUNBOOKS.md: one section for each alert in the same order, and nothing in it that does not exist."""

import re
from pathlib import Path

from . import promtool

PARTS = ["**Meaning.**", "**Risk.**", "**First look.**", "**Causes and fixes.**", "**Escalate**"]
# Fields and levels that the log library adds.
LOG_FIELDS = {"timestamp", "level", "message", "target"}
LEVELS = {"ERROR", "WARN", "INFO", "DEBUG", "TRACE"}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


class Page:
    """The page in pieces."""

    def __init__(self, path: Path):
        self.text = path.read_text(encoding="utf-8")
        pieces = re.split(r"^## (.*)$", self.text, flags=re.M)
        self.sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))
        self.headings = pieces[1::2]
        self.blocks = FENCE.findall(self.text)
        self.prose = FENCE.sub("", self.text)

    def queries(self):
        """Every query: one a line in a block of PromQL."""
        return [
            line
            for language, block in self.blocks
            if language == "promql"
            for line in block.splitlines()
            if line.strip()
        ]

    def shell(self):
        """Every command."""
        return "".join(block for language, block in self.blocks if language == "sh") + "\n".join(
            re.findall(r"`([^`\n]+)`", self.prose)
        )


def sources(root: Path):
    """The program's text, tests left out; strings that go on in the next line are made one."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((root / "src").rglob("*.rs")))
    return re.sub(r"\\\n\s*", "", text)


def check(page, rules, catalog, root):
    """Faults of the page."""
    faults = []
    if page.headings != rules.names:
        different = [pair for pair in zip(page.headings, rules.names, strict=False) if pair[0] != pair[1]]
        extra = set(page.headings) ^ set(rules.names)
        faults.append(f"sections and alerts are not one to one in the same order: {sorted(extra) or different[0]}")
    for name, section in page.sections.items():
        at = [section.find(part) for part in PARTS]
        if -1 in at or at != sorted(at):
            faults.append(f"{name}: needs {', '.join(PARTS)} in this order")
    anchors = {heading.lower() for heading in page.headings}
    faults += [
        f"link to #{anchor}: no such section"
        for anchor in re.findall(r"\]\(#([^)]+)\)", page.text)
        if anchor not in anchors
    ]
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.text)
    faults += [f"link to {link}: no such file" for link in links if not (root / "docs" / link).exists()]
    faults += _queries(page, catalog)
    faults += _options(page, root)
    return [f"docs/RUNBOOKS.md: {fault}" for fault in faults + _program(page, root)]


def _queries(page, catalog):
    queries = page.queries()
    faults = [f"{query}: {fault}" for query in queries for fault in catalog.faults_of(query)]
    faults += promtool.parses(("a query", query) for query in queries)
    inline = [
        code
        for code in re.findall(r"`([^`\n]+)`", page.prose)
        if re.search(r"(chronik_snapshot|process)[_:]\w", code)
    ]
    return faults + [f"{code}: {fault}" for code in inline for fault in catalog.faults_of(code)]


def _options(page, root):
    known = "".join(
        (root / "docs" / name).read_text(encoding="utf-8") for name in ("CONFIGURATION.md", "PROTOCOL.md")
    )
    found = set(
        re.findall(
            r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|ENABLED|RETENTION|COMPACT|COMPRESSION|INCREMENTAL|VERIFY)(?:=\w+)?`",
            page.prose,
        )
    )
    return [f"{key}: no such option or outcome" for key in sorted(found) if not re.search(rf"\b{key}\b", known)]


def _program(page, root):
    """Log lines, fields, values and calls are those of the program."""
    text, shell = sources(root), page.shell()
    faults = []
    messages = re.findall(r"\b[Ll]og\s+`([^`]+)`", page.prose) + re.findall(r'"([^"\n]+)"', page.prose)
    for message in (re.sub(r"\s+", " ", message) for message in messages):
        if message not in text:
            faults.append(f'"{message}" is nowhere in src')
    for name, value in re.findall(r'\.(\w+) [!=]= "([^"]+)"', shell):
        if f'"{value}"' not in text and value not in LEVELS:
            faults.append(f'.{name} is never "{value}"')
    for program in re.findall(r"jq (?:-\w+ )?'([^']*)'", shell) + re.findall(r"jq (?:-\w+ )?(\.[\w.]+)", shell):
        fields = set(re.findall(r"\.(\w+)", program)) | set(re.findall(r"[{,] ?(\w+)(?=[,}])", program))
        faults += [
            f"jq: no field {name}" for name in sorted(fields - LOG_FIELDS) if not re.search(rf"\b{name}\b", text)
        ]
    # `sidecar` is a function of the page that calls the program.
    for command in re.findall(r"\b(?:chronik-snapshotd|sidecar) ([a-z][a-z-]*)", shell):
        variant = "".join(word.capitalize() for word in command.split("-"))
        if not re.search(rf"^    {variant}\b", (root / "src/cli/mod.rs").read_text(encoding="utf-8"), re.M):
            faults.append(f"chronik-snapshotd {command}: no such command")
    return faults
