"""The book: it builds, has every page, and no link in it is dead."""

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .markdown import Page

# Taken from every page again; its links are those of the pages.
ALL_IN_ONE = "print.html"
OUTSIDE_LINKS = ("http:", "https:", "mailto:", "javascript:", "data:")


def build(root, mdbook):
    """Builds the book into target/book. What mdBook warns of is a fault, too."""
    done = subprocess.run([str(mdbook), "build", str(root / "docs")], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode != 0:
        yield f"mdbook failed:\n{said}"
    for line in said.splitlines():
        if re.search(r"\b(WARN|ERROR)\b", line):
            yield f"mdbook: {line.strip()}"


def summary(root):
    """Every page of docs/ is in docs/SUMMARY.md, once."""
    page = Page.read(root / "docs/SUMMARY.md")
    listed = [target for target, _ in page.links()]
    for target in sorted(set(listed)):
        if listed.count(target) > 1:
            yield f"docs/SUMMARY.md: {target} is listed twice"
    for path in sorted((root / "docs").rglob("*.md")):
        name = path.relative_to(root / "docs").as_posix()
        if name != "SUMMARY.md" and name not in listed:
            yield f"docs/SUMMARY.md: {name} is not listed"


class Anchors(HTMLParser):
    """Links and ids of one page of the book."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if value and name == "id":
                self.ids.add(value)
            if value and (name == "href" or name == "src") and not value.startswith(OUTSIDE_LINKS):
                self.links.append(value)


def dead_links(folder):
    """Links of the built pages that lead nowhere."""
    pages = {path: Anchors(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    if not pages:
        yield f"{folder} has no pages"
    for path, page in pages.items():
        if path.name == ALL_IN_ONE or path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if target.is_dir():
                target = target / "index.html"
            shown = f"book: {path.relative_to(folder)}: {link}"
            if folder.resolve() not in target.parents or not target.is_file():
                yield f"{shown} leads nowhere"
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in ids_of(pages, target):
                yield f"{shown}: there is no such place"


def lost_links(root, folder):
    """Links between pages that the built page does not have."""
    docs = root / "docs"
    listed = {(docs / target).resolve() for target, _ in Page.read(docs / "SUMMARY.md").links()}
    for path in sorted(listed):
        built = folder / built_name(root, path)
        there = Anchors(built.read_text(encoding="utf-8")).links
        there = {(built.parent / unquote(urlsplit(link).path)).resolve() for link in there}
        for target, number in Page.read(path).links():
            name = target.partition("#")[0]
            wanted = (path.parent / name).resolve() if name else None
            if wanted in listed and (folder / built_name(root, wanted)).resolve() not in there:
                yield f"book: {built.relative_to(folder)} has lost the link to {target} of line {number}"


def built_name(root, path):
    """Where a page lies in the book. The README is the first page; others from outside docs/ lie beside the rest."""
    if path == root / "README.md":
        return Path("index.html")
    if root / "docs" not in path.parents:
        return Path(path.name).with_suffix(".html")
    return path.relative_to(root / "docs").with_suffix(".html")


def ids_of(pages, target):
    for path, page in pages.items():
        if path.resolve() == target:
            return page.ids
    return set()


def check(root, mdbook):
    """Everything about the book."""
    yield from summary(root)
    faults = list(build(root, mdbook))
    yield from faults
    if not faults:
        yield from dead_links(Path(root) / "target/book")
        yield from lost_links(Path(root), Path(root) / "target/book")
