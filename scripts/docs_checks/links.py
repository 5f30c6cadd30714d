"""Links between the Markdown files of the repository: the file is there, and so is the heading."""

import subprocess
from pathlib import Path
from urllib.parse import unquote

from .markdown import Page

OUTSIDE = ("http://", "https://", "mailto:")


def markdown_files(root):
    """Every Markdown file that is in the repository, or would be after a commit."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "*.md"],
        capture_output=True, text=True, check=True)
    names = sorted(name for name in listed.stdout.split("\0") if name)
    return [root / name for name in names if (root / name).is_file()]


def check(root, paths=None):
    """Links that lead nowhere."""
    root = Path(root).resolve()
    paths = markdown_files(root) if paths is None else paths
    if not paths:
        yield "there are no Markdown files"
    known = {}

    def page_of(path):
        if path not in known:
            known[path] = Page.read(path)
        return known[path]

    for path in paths:
        for target, number in page_of(path).links():
            if not target.startswith(OUTSIDE):
                problem = problem_with(root, path, target, page_of)
                if problem:
                    yield f"{path.relative_to(root)}:{number}: {target} {problem}"


def problem_with(root, path, target, page_of):
    """What is wrong with a link, or None."""
    name, _, fragment = target.partition("#")
    wanted = (path.parent / unquote(name)).resolve() if name else path.resolve()
    if wanted != root and root not in wanted.parents:
        return "leaves the repository"
    if not wanted.exists():
        return "does not exist"
    if not fragment:
        return None
    if wanted.suffix != ".md":
        return "has a fragment, and is no page"
    if unquote(fragment) not in page_of(wanted).anchors():
        return "names no heading there"
    return None
