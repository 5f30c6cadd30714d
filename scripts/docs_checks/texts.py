"""Texts of the program: what a page quotes is in the sources, word for word, with {anything} for what varies."""

import re
from pathlib import Path

from .markdown import CODE, Page

TOKEN = re.compile(
    r"""
      //[^\n]* | /\*.*?\*/                                  # comments
    | b?r(?P<hashes>\#*)"(?P<raw>.*?)"(?P=hashes)           # raw strings
    | b?"(?P<text>(?:[^"\\]|\\.)*)"                         # strings
    | '(?:[^'\\\n]|\\[^\n]{1,10}?)'                         # characters
    """,
    re.DOTALL | re.VERBOSE,
)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", '"': '"', "'": "'", "\\": "\\"}
# Shorter quotations have to be a whole text: as a piece of one they would be found anywhere.
WHOLE_BELOW_CHARS = 12
# Tables whose first cells are texts of the program.
QUOTING_HEADER = "Text"


def literals(source):
    """Every string literal of a Rust file, without its tests."""
    for match in TOKEN.finditer(without_tests(source)):
        if match["raw"] is not None:
            yield match["raw"]
        elif match["text"] is not None:
            joined = re.sub(r"\\\n\s*", "", match["text"])
            yield re.sub(r"\\(.)", lambda escape: ESCAPES.get(escape[1], escape[0]), joined)


def without_tests(source):
    """The source up to its module of tests, which is the last thing in a file."""
    return re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", source, maxsplit=1, flags=re.MULTILINE)[0]


def is_test(path):
    """Files that are compiled for tests only."""
    return path.name in ("tests.rs", "fuzzing.rs", "fixture.rs") or "tests" in path.parts


def program_texts(root):
    """The normal form of every text in src/."""
    found = set()
    for path in sorted((root / "src").rglob("*.rs")):
        if not is_test(path.relative_to(root)):
            found.update(normal(text) for text in literals(path.read_text(encoding="utf-8")))
    if not found:
        raise ValueError(f"{root / 'src'} has no texts")
    return found


def normal(text):
    """Placeholders without their names, and without the quotation marks that some get when they are shown."""
    text = re.sub(r"\{\{|\}\}", "", text)
    text = re.sub(r"\{[^{}]*\}", "{}", text)
    return " ".join(re.sub(r'"\{\}"', "{}", text).split())


def is_found(quoted, texts):
    """True if some text of the program has this, or is this if it is short."""
    wanted = normal(quoted)
    if len(wanted.replace("{}", "")) < WHOLE_BELOW_CHARS:
        return wanted in texts
    return any(wanted in text for text in texts)


def quotations(page):
    """(text, line number): first cells of tables with the header `Text`, and lines of fences marked `text error`."""
    for header, cells, number in page.table_rows():
        if header != QUOTING_HEADER:
            continue
        spans = [match[2].strip() for match in CODE.finditer(cells[0])]
        if not spans:
            yield "", number
        for span in spans:
            yield span, number
    for language, text, first in page.fences:
        if language == "text error":
            for offset, line in enumerate(text.splitlines()):
                yield line.strip(), first + offset


def check(root, page_path):
    """Quotations of a page that the program never says. A page without any is a fault: somebody renamed a header."""
    page, texts = Page.read(page_path), program_texts(root)
    found = list(quotations(page))
    if not found:
        yield f"{page_path.relative_to(root)}: nothing is quoted in a table with the header {QUOTING_HEADER!r}"
    for quoted, number in found:
        where = f"{page_path.relative_to(root)}:{number}"
        if not quoted:
            yield f"{where}: the first cell quotes nothing"
        elif not is_found(quoted, texts):
            yield f"{where}: src/ says nowhere: {quoted}"


def unquoted(root, page_path):
    """Messages of errors in src/ that the page does not quote; for whoever completes it, not a fault."""
    quoted = [normal(text) for text, _ in quotations(Page.read(page_path)) if text]
    for path in sorted((root / "src").rglob("*.rs")):
        if is_test(path.relative_to(root)):
            continue
        source = without_tests(path.read_text(encoding="utf-8"))
        for match in re.finditer(r"#\[error\((.*?)\)\]", source, re.DOTALL):
            for text in list(literals(match[1]))[:1]:
                said = normal(text)
                if not any(one in said for one in quoted if one):
                    yield f"{path.relative_to(root)}: {said}"
