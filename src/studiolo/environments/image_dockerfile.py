"""A Dockerfile, read far enough to know its steps, the images it starts from and the files it takes.

What its instructions mean beyond that is the engine's business; what no engine would read is reported here, with its
line, before anything is downloaded.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from studiolo.problem import Problem, WrongInput

_KEYWORDS = frozenset(
    ("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
     "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
)  # fmt: skip
_LARGEST = 1 << 20
_MOST_INSTRUCTIONS = 2000
_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(.*?)\s*")
_HEREDOC = re.compile(r"<<-?(['\"]?)([A-Za-z_]\w*)\1")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^${}]*))?\})")
_URL = re.compile(r"(?:https?|git|ssh)://|git@")
_MOUNT_FROM = re.compile(r"(--mount=\S*?\bfrom=)([^,\s]+)")
_COPY_FROM = re.compile(r"(--from=)(\S+)")


@dataclass(frozen=True)
class Instruction:
    """`line` counts from 1; `text` is the instruction on one line, `rest` what follows its keyword."""

    line: int
    keyword: str
    rest: str
    heredoc: bool = False

    @property
    def text(self) -> str:
        return f"{self.keyword} {self.rest}".strip()

    @property
    def flags(self) -> Iterator[tuple[str, str]]:
        for word in self.rest.split():
            match = _FLAG.fullmatch(word)
            if match is None:
                return
            yield match[1], match[2] or ""


@dataclass(frozen=True)
class Base:
    """An image the build starts from or copies out of, `reference` as it stands after its variables."""

    reference: str
    line: int


@dataclass(frozen=True)
class Dockerfile:
    """`where` is the file's path in the repository."""

    text: str
    where: str
    instructions: tuple[Instruction, ...]
    arguments: Mapping[str, str]
    """What `ARG`s in front of the first FROM are, with the build's own arguments."""

    @classmethod
    def parse(cls, text: str, where: str, arguments: Mapping[str, str] | None = None) -> Dockerfile:
        """Raises `WrongInput` with `where:line:1`."""
        if len(text) > _LARGEST:
            raise WrongInput(Problem("dockerfile-too-large", f"it is larger than {_LARGEST >> 20} MiB", "", where))
        instructions = tuple(_instructions(text, where))
        if not any(each.keyword == "FROM" for each in instructions):
            raise WrongInput(
                Problem("dockerfile-syntax", "it has no FROM", "begin it with FROM and an image", f"{where}:1:1")
            )
        given = dict(arguments or {})
        known: dict[str, str] = {}
        for each in instructions:
            if each.keyword == "FROM":
                break
            if each.keyword != "ARG":
                raise _wrong(f"{each.keyword} stands in front of the first FROM", each.line, where, "put it after FROM")
            for word in each.rest.split():
                name, equals, value = word.partition("=")
                default = _expand(value.strip("\"'"), known) if equals else ""
                known[name] = given.get(name, default)
        return cls(text, where, instructions, known)

    def place(self, instruction: Instruction) -> str:
        return f"{self.where}:{instruction.line}:1"

    def find(self, text: str, after: int = -1) -> int | None:
        """The index of the instruction that an engine calls `text`; of several equal ones the first after `after`."""
        wanted = text.split()
        same = [index for index, each in enumerate(self.instructions) if each.text.split() == wanted]
        return next((index for index in same if index > after), same[0] if same else None)

    @property
    def bases(self) -> tuple[Base, ...]:
        """Every image it needs, once each, in order. Raises `WrongInput` where a name comes out empty."""
        found: dict[str, Base] = {}
        for instruction, written, reference in self._images():
            if not reference:
                raise _wrong(
                    f"{written} stands for nothing",
                    instruction.line,
                    self.where,
                    "give the ARG in front of the first FROM a default",
                )
            found.setdefault(reference, Base(reference, instruction.line))
        return tuple(found.values())

    def pinned(self, digests: Mapping[str, str]) -> str:
        """The text with each image replaced by what `digests` has for it. Lines stay where they are. A `syntax`
        directive goes: it names a program on a registry that would be run unpinned."""
        lines = self.text.splitlines()
        for index in _directives(lines):
            if (match := _DIRECTIVE.fullmatch(lines[index])) and match[1].lower() == "syntax":
                lines[index] = "#"
        for instruction, written, reference in self._images():
            if reference not in digests:
                continue
            for index in range(instruction.line - 1, len(lines)):
                if re.search(rf"(?:^|[\s=,]){re.escape(written)}(?=$|[\s,])", lines[index]):
                    lines[index] = re.sub(
                        rf"((?:^|[\s=,])){re.escape(written)}(?=$|[\s,])",
                        lambda match, new=digests[reference]: match[1] + new,  # type: ignore[misc]
                        lines[index],
                        count=1,
                    )
                    break
        return "\n".join(lines) + "\n"

    @property
    def sources(self) -> tuple[str, ...] | None:
        """The paths in the context it copies from, patterns among them; None: any of them, for it cannot be told."""
        found: list[str] = []
        for each in self.instructions:
            if each.keyword == "ONBUILD":
                return None
            if each.keyword == "RUN":
                for name, value in each.flags:
                    options = dict(option.partition("=")[::2] for option in value.split(","))
                    if name == "mount" and options.get("type", "bind") == "bind" and "from" not in options:
                        return None
            if each.keyword not in ("ADD", "COPY") or any(name == "from" for name, _ in each.flags):
                continue
            for source in _copied(each):
                if "$" in source:
                    return None
                if not _URL.match(source):
                    found.append(posixpath.normpath(f"/{source}").lstrip("/"))
        return None if "" in found else tuple(sorted(set(found)))

    @property
    def needs_buildkit(self) -> bool:
        """Whether Docker's older builder would refuse it."""
        return any(
            each.heredoc
            or (each.keyword == "RUN" and any(name in ("mount", "network", "security") for name, _ in each.flags))
            or (each.keyword in ("ADD", "COPY") and any(name not in ("from", "chown") for name, _ in each.flags))
            or (each.keyword == "FROM" and any("$" in value for _, value in each.flags))
            for each in self.instructions
        )

    def _images(self) -> Iterator[tuple[Instruction, str, str]]:
        """Where an image is named: the instruction, the name as written, and what it stands for."""
        stages: set[str] = set()
        count = 0
        for each in self.instructions:
            if each.keyword == "FROM":
                words = [word for word in each.rest.split() if not word.startswith("--")]
                reference = _expand(words[0], self.arguments)
                if reference.lower() not in stages and reference != "scratch":
                    yield each, words[0], reference
                if len(words) == 3:
                    stages.add(words[2].lower())
                count += 1
            elif each.keyword in ("COPY", "RUN"):
                pattern = _COPY_FROM if each.keyword == "COPY" else _MOUNT_FROM
                head = " ".join(word for word in each.rest.split() if word.startswith("--"))
                for match in pattern.finditer(head):
                    name = match[2]
                    if name.lower() not in {*stages, *map(str, range(count))} and "$" not in name:
                        yield each, name, name


def _copied(instruction: Instruction) -> list[str]:
    rest = re.sub(r"^(?:--\S+\s+)*", "", instruction.rest)
    if rest.startswith("["):
        try:
            words = json.loads(rest)
        except (ValueError, RecursionError):
            words = rest.split()
        if not all(isinstance(word, str) for word in words):
            words = rest.split()
    else:
        words = rest.split()
    return [word for word in words[:-1] if not word.startswith("<<")]


def _directives(lines: list[str]) -> Iterator[int]:
    """Comments at the very top that say how to read the rest."""
    for index, line in enumerate(lines):
        if not _DIRECTIVE.fullmatch(line):
            return
        yield index


def _instructions(text: str, where: str) -> Iterator[Instruction]:
    lines = text.splitlines()
    escape = "\\"
    for index in _directives(lines):
        match = _DIRECTIVE.fullmatch(lines[index])
        if match and match[1].lower() == "escape":
            if match[2] not in ("\\", "`"):
                raise _wrong("an escape is a backslash or a backtick", index + 1, where)
            escape = match[2]
    at = count = 0
    while at < len(lines):
        begun = at
        parts: list[str] = []
        more = True
        while more and at < len(lines):
            line = lines[at].strip() if not parts else lines[at].rstrip()
            at += 1
            if line.lstrip().startswith("#") or (parts and not line.strip()):
                continue
            more = line.endswith(escape)
            parts.append(line[:-1] if more else line)
            if not parts[0] and not more:
                break
            begun = at - 1 if len(parts) == 1 else begun
        joined = "".join(parts).strip()
        if not joined:
            continue
        keyword, _, rest = joined.partition(" ") if " " in joined else joined.partition("\t")
        instruction = Instruction(begun + 1, keyword.upper(), rest.strip())
        _check(instruction, where)
        if instruction.keyword in ("RUN", "COPY", "ADD"):
            names = [match[2] for match in _HEREDOC.finditer(rest)]
            for name in names:
                while at < len(lines) and lines[at].lstrip("\t") != name:
                    at += 1
                if at == len(lines):
                    raise _wrong(f"<<{name} has no end", instruction.line, where, f"end it with a line {name}")
                at += 1
            instruction = replace(instruction, heredoc=bool(names))
        count += 1
        if count > _MOST_INSTRUCTIONS:
            raise _wrong(f"there are more than {_MOST_INSTRUCTIONS} instructions", instruction.line, where)
        yield instruction


def _check(instruction: Instruction, where: str) -> None:
    if instruction.keyword not in _KEYWORDS:
        raise _wrong(
            f"{instruction.keyword[:40]!r} is not an instruction",
            instruction.line,
            where,
            "see docs.docker.com/reference/dockerfile",
        )
    if not instruction.rest:
        raise _wrong(f"{instruction.keyword} says nothing", instruction.line, where)
    if instruction.keyword == "FROM":
        words = [word for word in instruction.rest.split() if not word.startswith("--")]
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
            raise _wrong("FROM takes an image, or an image AS a name", instruction.line, where)


def _expand(text: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        found = known.get(match[1] or match[2], "")
        match match[3]:
            case ":-" | "-":
                return found or match[4]
            case ":+" | "+":
                return match[4] if found else ""
        return found

    return _VARIABLE.sub(value, text)


def _wrong(message: str, line: int, where: str, hint: str = "") -> WrongInput:
    return WrongInput(Problem("dockerfile-syntax", message, hint, f"{where}:{line}:1"))
