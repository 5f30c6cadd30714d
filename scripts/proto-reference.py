#!/usr/bin/env python3
"""Writes docs/PROTOCOL_REFERENCE.md from the comments in proto/chronik/snapshot/v1/*.proto.

With --check nothing is written: exit code 1 says that the page is not what the files say. Reads only the part of the
language that these files use, and fails on everything else and on anything without a comment.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = "chronik.snapshot.v1"
FILES = ["broker.proto", "bootstrap.proto", "admin.proto", "common.proto"]
PAGE = ROOT / "docs/PROTOCOL_REFERENCE.md"

SCALARS = {
    "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32",
    "sfixed64", "bool", "string", "bytes",
}
HEAD = """# Protocol reference

Every service, message and enumeration of `{package}`, with the comments of
[proto/chronik/snapshot/v1](../proto/chronik/snapshot/v1). This page is written by `scripts/proto-reference.py`;
`make docs-check` fails when it is out of date. [PROTOCOL](PROTOCOL.md) says what the files cannot.
"""

FIELD = re.compile(r"(?:(repeated|optional) )?([A-Za-z_]\w*) (\w+) = (\d+);")
VALUE = re.compile(r"(\w+) = (\d+);")
RPC = re.compile(r"rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);")
BLOCK = re.compile(r"(service|message|enum|oneof) (\w+) \{")


class ProtoError(Exception):
    """A line that this program does not understand."""


class Element:
    """A service, message, enumeration or oneof, and what is in it."""

    def __init__(self, kind, name, comment):
        self.kind, self.name, self.comment, self.items = kind, name, comment, []


class File:
    """One .proto file."""

    def __init__(self, name):
        self.name, self.comment, self.elements = name, [], []


def parse(name, text):
    """Reads one file. Comments are lists of lines; an empty line in one begins a paragraph."""
    file, comment, stack = File(name), [], []

    def take(what):
        nonlocal comment
        if not comment:
            raise ProtoError(f"{name}: {what} has no comment")
        taken, comment = comment, []
        return taken

    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.startswith("//"):
            comment.append(line[2:].removeprefix(" ").rstrip())
            continue
        if not line:
            continue
        if line in ('syntax = "proto3";', f'import "{PACKAGE.replace(".", "/")}/common.proto";'):
            comment = []
        elif line == f"package {PACKAGE};":
            file.comment, comment = comment, []
        elif line == "}" and stack:
            stack.pop()
        elif match := BLOCK.fullmatch(line):
            kind, element_name = match.groups()
            inside = stack[-1].kind if stack else None
            if (kind == "oneof") != (inside == "message") or (stack and kind != "oneof"):
                raise ProtoError(f"{name}:{number}: {kind} {element_name} is nested")
            element = Element(kind, element_name, take(element_name))
            (stack[-1].items if stack else file.elements).append(element)
            stack.append(element)
        elif not stack:
            raise ProtoError(f"{name}:{number}: not understood: {line}")
        elif stack[-1].kind == "service" and (match := RPC.fullmatch(line)):
            stack[-1].items.append((match.groups(), take(match[1])))
        elif stack[-1].kind == "enum" and (match := VALUE.fullmatch(line)):
            stack[-1].items.append((match.groups(), take(match[1])))
        elif stack[-1].kind in ("message", "oneof") and (match := FIELD.fullmatch(line)):
            stack[-1].items.append((match.groups(), take(match[3])))
        else:
            raise ProtoError(f"{name}:{number}: not understood: {line}")
    if stack or comment:
        raise ProtoError(f"{name}: ends in the middle of something")
    return file


def read_all():
    """The files in the order of the page. A file that is not in the list is a fault."""
    folder = PROTO / PACKAGE.replace(".", "/")
    found = sorted(path.name for path in folder.glob("*.proto"))
    if found != sorted(FILES):
        raise ProtoError(f"{folder} has {found}, this program knows {sorted(FILES)}")
    return [parse(name, (folder / name).read_text(encoding="utf-8")) for name in FILES]


def escaped(text):
    """Comment text as Markdown: what is not in backticks stands for itself."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([<>|*\[\]]|\b_|_\b)", r"\\\1", piece) for piece in pieces)


def paragraphs(comment):
    """A comment as Markdown paragraphs; its lists stay lists."""
    lines = ["" if not line else "- " + escaped(line[2:]) if line.startswith("- ") else escaped(line)
             for line in comment]
    return "\n".join(lines)


def cell(comment):
    """A comment as one cell of a table."""
    text = " ".join(line if line else "\n" for line in comment)
    return "<br>".join(escaped(" ".join(part.split())) for part in text.split("\n"))


def message_rows(element, known):
    for item in element.items:
        if isinstance(item, Element):
            note = f" One of `{item.name}`."
            for field in item.items:
                yield field_row(field, known, note)
        else:
            yield field_row(item, known, "")


def field_row(field, known, note):
    (label, type_name, name, number), comment = field
    if type_name not in SCALARS and type_name not in known:
        raise ProtoError(f"{name}: there is no type {type_name}")
    shown = f"`{type_name}`" if type_name in SCALARS else link(type_name)
    shown = f"{label} {shown}" if label else shown
    return f"| `{name}` | {number} | {shown} | {cell(comment)}{note} |"


def link(type_name):
    return f"[{type_name}](#{type_name.lower()})"


def render_element(element, known):
    yield f"### {element.name}\n"
    yield paragraphs(element.comment) + "\n"
    if element.kind == "service":
        for (name, in_stream, request, out_stream, answer), comment in element.items:
            for type_name in (request, answer):
                if type_name not in known:
                    raise ProtoError(f"{name}: there is no message {type_name}")
            streams = ["stream of " if stream else "" for stream in (in_stream, out_stream)]
            yield f"#### {element.name}/{name}\n"
            yield f"{streams[0]}{link(request)} → {streams[1]}{link(answer)}\n"
            yield paragraphs(comment) + "\n"
    elif element.kind == "enum":
        yield "| Value | No. | Meaning |\n|---|---|---|"
        for (name, number), comment in element.items:
            yield f"| `{name}` | {number} | {cell(comment)} |"
        yield ""
    elif element.items:
        yield "| Field | No. | Type | Meaning |\n|---|---|---|---|"
        yield from message_rows(element, known)
        yield ""


def render(files):
    """The page."""
    known = {element.name for file in files for element in file.elements if element.kind != "service"}
    lines = [HEAD.format(package=PACKAGE)]
    for file in files:
        lines.append(f"## {file.name}\n")
        if file.comment:
            lines.append(paragraphs(file.comment) + "\n")
        for element in file.elements:
            lines.extend(render_element(element, known))
    return "\n".join(lines).rstrip("\n") + "\n"


def main(arguments):
    if arguments not in ([], ["--check"]):
        print("usage: proto-reference.py [--check]", file=sys.stderr)
        return 2
    try:
        page = render(read_all())
    except ProtoError as error:
        print(error, file=sys.stderr)
        return 1
    if not arguments:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        print(f"{PAGE.relative_to(ROOT)} is out of date: run scripts/proto-reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
