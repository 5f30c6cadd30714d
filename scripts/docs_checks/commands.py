"""Commands in fences marked `sh`: subcommands and flags exist in src/cli, targets in the Makefile."""

import re
import shlex

from .links import markdown_files
from .markdown import Page

PROGRAM = "chronik-snapshotd"
# Attributes and visibility, between what is looked for and the name that it belongs to.
BETWEEN = r"\s*(?:#\[(?:[^\[\]]|\[[^\]]*\])*\]\s*)*(?:pub(?:\([^)]*\))? )?"
ENUM = re.compile(r"#\[derive\(([^)]*)\)\]" + BETWEEN + r"enum (\w+) \{(.*?)^\}", re.DOTALL | re.MULTILINE)
VARIANT = re.compile(r"^    ([A-Z]\w*)(?: \{(.*?)^    \}|\((.*?)\))?,", re.DOTALL | re.MULTILINE)
FLAG = re.compile(r"#\[arg\(((?:[^\[\]]|\[[^\]]*\])*)\)\]" + BETWEEN + r"(\w+):", re.DOTALL)
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
# Words that run what follows them.
RUNNERS = {"sudo", "env", "exec", "time", "nohup"}
TARGET = re.compile(r"^([a-z][a-z0-9-]*):", re.MULTILINE)


class Cli:
    """What the command line takes, as src/cli declares it."""

    def __init__(self, sources):
        text = "\n".join(re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE) for source in sources)
        self.enums = {name: variants(body) for derives, name, body in ENUM.findall(text) if "Subcommand" in derives}
        if "Command" not in self.enums:
            raise ValueError("src/cli has no `enum Command` of subcommands")
        self.flags = {"help", "version"} | {long_name(arguments, field) for arguments, field in FLAG.findall(text)}
        self.flags.discard(None)

    @classmethod
    def read(cls, root):
        return cls([path.read_text(encoding="utf-8") for path in sorted((root / "src/cli").rglob("*.rs"))])

    def problem(self, words):
        """What is wrong with the words after the program's name, or None."""
        level, path = self.enums["Command"], []
        for word in words:
            if word.startswith("--"):
                flag = word[2:].partition("=")[0]
                if flag and flag not in self.flags:
                    return f"there is no flag --{flag}"
            elif level is not None and not word.startswith("-"):
                if word not in level:
                    return f"there is no command {' '.join([*path, word])}"
                path.append(word)
                level = self.enums.get(level[word])
        if any(word in ("--help", "--version", "-h", "-V") for word in words):
            return None
        if level is not None:
            return f"{' '.join([PROGRAM, *path])} needs a command"
        return None


def variants(body):
    """Name on the command line -> enumeration of its own subcommands, or None."""
    found = {}
    for attributes, match in with_attributes(body):
        name = re.search(r'name = "([^"]+)"', attributes)
        spelled = name[1] if name else re.sub(r"(?<!^)(?=[A-Z])", "-", match[1]).lower()
        inside = match[2] or match[3] or ""
        nested = re.search(r"#\[command\(subcommand\)\]\s*(?:pub )?\w+: (\w+)", inside)
        found[spelled] = nested[1] if nested else (inside.strip() if match[3] else None)
    return found


def with_attributes(body):
    """Each variant with the #[command] attributes before it."""
    position = 0
    for match in VARIANT.finditer(body):
        yield "".join(re.findall(r"#\[command\([^\]]*\)\]", body[position:match.start()])), match
        position = match.end()


def long_name(arguments, field):
    explicit = re.search(r'\blong\s*=\s*"([^"]+)"', arguments)
    if explicit:
        return explicit[1]
    return field.replace("_", "-") if re.search(r"\blong\b", arguments) else None


def commands(text):
    """(words, offset of the line) of every simple command of a shell text."""
    pending, offset = "", 0
    for number, line in enumerate(text.splitlines()):
        if not pending:
            offset = number
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        yield from ((words, offset) for words in simple_commands(pending))
        pending = ""
    if pending:
        raise ValueError("a shell line goes on after its fence")


def simple_commands(line):
    """The commands of a line, without assignments and runners before them."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words = []
    for token in [*lexer, ";"]:
        if token and all(char in "();<>|&" for char in token):
            if words:
                yield words
            words = []
        elif words or not (ASSIGNMENT.match(token) or token in RUNNERS or token in ("$", "export")):
            words.append(token)


def check(root, paths=None):
    """Commands that do not exist."""
    cli, targets = Cli.read(root), set(TARGET.findall((root / "Makefile").read_text(encoding="utf-8")))
    seen = 0
    for path in markdown_files(root) if paths is None else paths:
        for language, text, first in Page.read(path).fences:
            if language != "sh":
                continue
            seen += 1
            for words, offset in commands(text):
                where = f"{path.relative_to(root)}:{first + offset}"
                problem = None
                if words[0].rsplit("/", 1)[-1] == PROGRAM:
                    problem = cli.problem(words[1:])
                elif words[0] == "make":
                    missing = [word for word in words[1:] if "=" not in word and word not in targets]
                    problem = f"the Makefile has no {' '.join(missing)}" if missing else None
                if problem:
                    yield f"{where}: {problem}: {' '.join(words)}"
    if not seen:
        yield "no page has a fence marked sh"
