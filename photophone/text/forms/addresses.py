"""Addresses of the web and of mail, paths, files, tags, names of programs."""

from __future__ import annotations

import re

from photophone.text.forms.number_words import digits, spell, year
from photophone.text.forms.rules import Rule, choices, rule
from photophone.text.forms.tables import EXTENSIONS, TOP_LEVEL

PATH_PARTS = 3
"""Parts of the path of a web address that are read."""
_DOMAIN = r"(?:[A-Za-z0-9](?:[\w-]*[A-Za-z0-9])?\.)+(?:[A-Za-z]{2,24})(?::\d{1,5})?"
_END = ".,;:!?)]}'\"*_"


def split_words(name: str) -> str:
    """A name of a program, tag or path as words: at underscores, dashes and capitals inside."""
    name = re.sub(r"[_\-+~%]+", " ", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", name)
    return " ".join("AI" if word.lower() == "ai" else word for word in name.split())


def dotted(name: str, endings: dict[str, str]) -> str:
    """Parts between dots as words, the last one by its usual name."""
    *parts, last = name.split(".")
    last = endings.get(last.lower(), split_words(last)) if any(parts) else split_words(last)
    words = " dot ".join([*(split_words(part) for part in parts if part), last])
    return "dot " + words if name.startswith(".") else words


def _domain(name: str) -> str:
    name, _, port = name.partition(":")
    parts = name.split(".")
    cut = next((i for i in range(1, len(parts)) if all(p.lower() in TOP_LEVEL for p in parts[i:])), len(parts) - 1)
    behind = f" colon {port}" if port else ""
    if re.fullmatch(r"[0-9]{1,5}", port):
        behind = f" port {year(int(port)) if len(port) == 4 and port[0] != '0' else digits(port)}"
    words = [split_words(part) for part in parts[:cut]] + [TOP_LEVEL.get(p.lower(), p) for p in parts[cut:]]
    return " dot ".join(words) + behind


def _parts_of_url(whole: str) -> tuple[str, list[str], str, str]:
    """(host, parts of the path that are read, what is not read, punctuation behind)."""
    stripped = whole.rstrip(_END)
    bare = re.sub(r"^(?:\w+://)?(?:www\.)?", "", stripped, flags=re.I)
    address, mark, query = re.match(r"([^?#]*)([?#]?)(.*)", bare, re.S).groups()
    host, _, path = address.partition("/")
    parts = [part for part in path.split("/") if part]
    left_out = "/".join(parts[PATH_PARTS:]) + mark + query
    return host, parts[:PATH_PARTS], left_out, whole[len(stripped):]


def _url(match: re.Match) -> str:
    """The address without scheme, "www.", query and anchor, and at most three parts of its path."""
    host, parts, _, behind = _parts_of_url(match.group())
    return " slash ".join([_domain(host), *(dotted(part, EXTENSIONS) for part in parts)]) + behind


def _left_out(match: re.Match) -> str:
    return _parts_of_url(match.group())[2]


def _email(match: re.Match) -> str:
    user = " dot ".join(split_words(part) for part in match.group(1).replace("+", " plus ").split(".") if part)
    return f"{user} at {_domain(match.group(2))}"


def _file(match: re.Match) -> str:
    return dotted(match.group(), EXTENSIONS)


def _path(match: re.Match) -> str:
    whole = match.group()
    stripped = whole.rstrip(_END)
    drive = spell(stripped[0]) + " " if re.match(r"[A-Za-z]:", stripped) else ""
    parts = [dotted(part, EXTENSIONS) for part in re.split(r"[/\\]", re.sub(r"^(?:~|[A-Za-z]:)", "", stripped)) if part]
    return drive + "slash " + " slash ".join(parts) + whole[len(stripped):]


def _relative(match: re.Match) -> str:
    whole = match.group()
    stripped = whole.rstrip(_END)
    parts = [dotted(part, EXTENSIONS) for part in re.split(r"[/\\]", stripped) if part.strip(".")]
    return " slash ".join(parts) + whole[len(stripped):]


def _tag(match: re.Match) -> str:
    return ("hashtag " if match.group(1) == "#" else "at ") + split_words(match.group(2))


ADDRESSES: tuple[Rule, ...] = (
    rule(r"\b(?:https?|ftp)://[^\s<>\"]+|\bwww\.[^\s<>\"]+", _url, re.I, unread=_left_out),
    rule(rf"(?:\bmailto:)?(?<![\w.+-])([\w.+-]{{1,64}})@({_DOMAIN})\b", _email),
    rule(rf"(?<![\w@./\\-])(?:[A-Za-z0-9][\w-]*\.)+(?:{choices(TOP_LEVEL)})(?::\d+)?"
         r"(?:[/?][^\s<>\"]*|(?![\w-]|\.\w|\(\)))", _url, unread=_left_out),
    rule(r"(?<![\w.)\"/])(?:~|[A-Za-z]:)?(?:[/\\][\w.-]*[A-Za-z][\w.-]*){2,}[/\\]?", _path),
    rule(r"(?<![\w.)\"/])(?:~|[A-Za-z]:)[/\\][\w.-]*[A-Za-z][\w.-]*[/\\]?", _path),
    rule(rf"(?<![\w./])\.{{0,2}}/?(?:[\w-]+/)+[\w.-]+\.(?:{choices(EXTENSIONS)})(?!\w)", _relative),
    rule(rf"(?<![\w.-])[\w-]+(?:\.[\w-]+)*\.(?:{choices(EXTENSIONS)})(?!\w)", _file),
    rule(r"(?<![\w&])([@#])([A-Za-z_]\w*)", _tag),
    rule(r"(?<![\w.])\.NET\b", "dot net"),
    rule(r"(?<![\w.])\.(gitignore|bashrc|env|vimrc|zshrc|profile|config|ssh)\b", r"dot \1"),
    rule(r"\b([ABCDEFGJ])[#♯](?!\w)", lambda m: f"{spell(m.group(1))} sharp"),
    rule(r"\b([ABCDEFG])♭(?!\w)", lambda m: f"{spell(m.group(1))} flat"),
    rule(r"\bAT&T\b", "A.T and T"),
    rule(r"(?<=\w)\+\+", " plus plus"),
)
