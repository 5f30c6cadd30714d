#!/usr/bin/env python3
"""A preprocessor of mdBook for links that leave docs/, which work in the repository and would be dead in the book.

The README becomes the book's first page, and other pages from outside docs/ lie beside the others, so their links into
docs/ lose that folder. What the book does not have (sources, the example configuration) is shown as the path that it
is.
"""

import json
import posixpath
import re
import sys

# Where the pages lie in the repository.
SOURCE = "docs"
README = "../README.md"
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def chapters(items):
    """Every chapter, nested ones too."""
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            yield chapter
            yield from chapters(chapter["sub_items"])


def rewritten(target, page, pages):
    """The target as a link of the book, or None if the book does not have it. Paths are those of the repository."""
    if re.match(r"[a-z][a-z0-9+.-]*:", target) or target.startswith("#"):
        return target
    path, hash_mark, fragment = target.partition("#")
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    if wanted not in pages:
        # A folder is its first page.
        wanted = min((name for name in pages if name.startswith(wanted + "/")), default=None)
    if wanted is None:
        return None
    here = posixpath.dirname(pages[page])
    return posixpath.relpath(pages[wanted], here or ".") + hash_mark + fragment


def with_links(text, page, pages):
    """The text of a page with its links as the book needs them; fences and code stay as they are."""

    def replace(match):
        image, label, target = match.groups()
        link = rewritten(target, page, pages)
        if link is not None:
            return f"{image}[{label}]({link})"
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target.partition("#")[0]))
        if label.strip("`/") in (path, target, path.partition("/")[0], path.partition(".")[0]):
            return f"`{path}`"
        return f"{label} (`{path}`)"

    lines, mark = [], None
    for line in text.splitlines(keepends=True):
        match = FENCE.match(line)
        if mark is None and match:
            mark = match[1]
        elif mark is not None and match and match[1].startswith(mark):
            mark = None
        elif mark is None:
            line = outside_code(line, replace)
        lines.append(line)
    return "".join(lines)


def outside_code(line, replace):
    """Replaces the links of a line. A link's label may be code; a link inside code is text."""
    pieces, position = [], 0
    for match in LINK.finditer(line):
        if line.count("`", 0, match.start()) % 2 == 0:
            pieces += [line[position:match.start()], replace(match)]
            position = match.end()
    return "".join(pieces) + line[position:]


def process(book):
    """Changes the book in place."""
    found = [chapter for chapter in chapters(book["items"]) if chapter["path"]]
    pages = {}
    for chapter in found:
        page = posixpath.normpath(posixpath.join(SOURCE, chapter["source_path"]))
        if chapter["source_path"] == README:
            chapter["path"] = "index.md"
        elif chapter["source_path"].startswith("../"):
            chapter["path"] = posixpath.basename(page)
        pages[page] = chapter["path"]
    for chapter in found:
        page = posixpath.normpath(posixpath.join(SOURCE, chapter["source_path"]))
        chapter["content"] = with_links(chapter["content"], page, pages)


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "supports":
        return 0
    _, book = json.load(sys.stdin)
    process(book)
    json.dump(book, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
