"""The little of Markdown that the checks need: fences, code spans, headings and links."""

import re
from pathlib import Path

FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*([^`]*)$")
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
LABEL = r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]"
LINK = re.compile(LABEL + r"\(\s*(<[^>]*>|[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+\"[^\"]*\")?\s*\)")
DEFINITION = re.compile(r"^\s{0,3}\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HTML_LINK = re.compile(r"<a\s[^>]*\bhref=\"([^\"]*)\"")
HTML_ANCHOR = re.compile(r"<[a-z]+\s[^>]*\b(?:id|name)=\"([^\"]*)\"")


class Page:
    """One file, cut into prose and fences."""

    def __init__(self, path, text):
        self.path, self.text = Path(path), text
        self.fences = []
        """(language, text, number of the first line) of each fence."""
        self.prose = ""
        """The text with every line of a fence left empty, so that line numbers hold."""
        self._cut()

    @classmethod
    def read(cls, path):
        return cls(path, Path(path).read_text(encoding="utf-8"))

    def _cut(self):
        prose, mark, language, inside, first = [], None, "", [], 0
        for number, line in enumerate(self.text.splitlines(), 1):
            match = FENCE.match(line)
            if mark is None and match:
                mark, language, inside, first = match[1], match[2].strip(), [], number + 1
                prose.append("")
            elif mark is not None and match and match[1].startswith(mark) and not match[2]:
                self.fences.append((language, "\n".join(inside), first))
                mark = None
                prose.append("")
            elif mark is not None:
                inside.append(line)
                prose.append("")
            else:
                prose.append(line)
        if mark is not None:
            raise ValueError(f"{self.path}: the fence that begins before line {first} does not end")
        self.prose = "\n".join(prose)

    def line_of(self, position):
        """Number of the line of a position in the prose."""
        return self.prose.count("\n", 0, position) + 1

    def code_spans(self):
        """(text, line number) of every code span."""
        for match in CODE.finditer(self.prose):
            yield re.sub(r"\s*\n\s*", " ", match[2]).strip(), self.line_of(match.start())

    def links(self):
        """(target, line number) of every link and image."""
        text = CODE.sub(lambda match: " " * len(match[0]) if "\n" not in match[0] else match[0], self.prose)
        for pattern in (LINK, DEFINITION, HTML_LINK):
            for match in pattern.finditer(text):
                yield match[1].strip("<>"), self.line_of(match.start())

    def anchors(self):
        """What a fragment may name: headings as both GitHub and mdBook spell them, and explicit anchors."""
        found, seen = set(), {}
        for line in self.prose.splitlines():
            match = HEADING.match(line)
            if not match:
                continue
            slug = heading_slug(match[2])
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            found.add(slug if count == 0 else f"{slug}-{count}")
        found.update(match[1] for match in HTML_ANCHOR.finditer(self.prose))
        return found

    def table_rows(self):
        """(first cell of the header, cells, line number) of every row of every table below its header."""
        header, lines = None, self.prose.splitlines()
        for number, line in enumerate(lines, 1):
            cells = table_cells(line)
            if cells is None:
                header = None
            elif header is None:
                header = cells[0]
            elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                yield header, cells, number


def table_cells(line):
    """The cells of a row; None if the line is none. A bar in a code span is written with a backslash."""
    line = line.strip()
    if not line.startswith("|") or not line.endswith("|") or len(line) < 2:
        return None
    cells = re.split(r"(?<!\\)\|", line[1:-1])
    return [cell.strip().replace("\\|", "|") for cell in cells]


def heading_slug(text):
    """The anchor of a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "")
    text = re.sub(r"(?<!\w)[*_]+|[*_]+(?!\w)", "", text)
    kept = (char for char in text.strip().lower() if char.isalnum() or char in "-_ ")
    return "".join(kept).replace(" ", "-")
