"""Names in PromQL: which metrics a query reads, with which matchers, and by which labels it groups. No more than that:
whether the query is right is promtool's to say."""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<space>\s+)|(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>\d[\w.]*)|(?P<name>[A-Za-z_][A-Za-z0-9_:]*)|(?P<op>=~|!~|!=|==|<=|>=|.)""",
    re.X,
)
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "atan2"}
AGGREGATIONS = {
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "topk",
    "bottomk",
    "quantile",
    "group",
    "stddev",
    "stdvar",
    "count_values",
}


@dataclass
class Selector:
    """One metric with its matchers: (label, operator, value)."""

    metric: str
    matchers: list = field(default_factory=list)


@dataclass
class Names:
    """What a query names."""

    selectors: list = field(default_factory=list)
    groupings: set = field(default_factory=set)


def tokens(text):
    """Pairs of kind and text, without blanks and comments."""
    found = ((match.lastgroup, match.group()) for match in TOKEN.finditer(text))
    return [(kind, token) for kind, token in found if kind not in ("space", "comment")]


def names(text):
    """The names in a query. A name is a metric unless a parenthesis follows, or it is a word of the language."""
    result, stream, at = Names(), tokens(text), 0
    while at < len(stream):
        kind, token = stream[at]
        following = stream[at + 1][1] if at + 1 < len(stream) else ""
        at += 1
        if kind != "name" or token.lower() in WORDS:
            continue
        if token in GROUPING:
            if following == "(":
                at, labels = _list(stream, at + 1)
                result.groupings |= labels
            continue
        if following == "(" or (token in AGGREGATIONS and following in GROUPING):
            continue
        selector = Selector(token)
        if following == "{":
            at, selector.matchers = _matchers(stream, at + 1)
        result.selectors.append(selector)
    return result


def _list(stream, at):
    labels = set()
    while stream[at][1] != ")":
        if stream[at][0] == "name":
            labels.add(stream[at][1])
        at += 1
    return at + 1, labels


def _matchers(stream, at):
    matchers = []
    while stream[at][1] != "}":
        if stream[at][0] == "name":
            (_, label), (_, operator), (_, value) = stream[at : at + 3]
            matchers.append((label, operator, value[1:-1]))
            at += 2
        at += 1
    return at + 1, matchers


def alternatives(operator, value):
    """The plain values that a matcher names; None if it is a pattern that nobody can list."""
    if operator in ("=", "!="):
        return [value]
    if re.fullmatch(r"[\w|]+", value):
        return value.split("|")
    return None
