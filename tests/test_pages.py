"""What the pages show works: a block of Python runs by itself, a command parses, a block of YAML is YAML.

A block that needs what is not everywhere says so behind its language, ```` ```python needs-data ````: it is
compiled and not run. ``NEEDS`` has the words; ``needs-PACKAGE`` asks for a package that is an extra. Names that a
page takes from its reader are made by ``READERS``.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from benchmark import plugins
from benchmark.config.sweepfile import own_sweeps, read_sweep
from scan_bench import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "perf/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
RUN_ELSEWHERE = {ROOT / "docs/own_loop.md", ROOT / "docs/results.md"}
"""By tests/loop/test_own_loop.py and tests/analysis/test_load.py."""
NEEDS = {"needs-data", "needs-gpu", "needs-cluster"}
EXTRAS = {"needs-lightning", "needs-transformers", "needs-statsmodels"}
FENCED = re.compile(r"^```([^\n`]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:python -m|scan-bench) [^`\n]+)`")
COMMAND = re.compile(
    rf"(?:^|\s)(python -m (?:benchmark|analysis)\.\S|scan-bench (?:{'|'.join(COMMANDS)})\b|make )"
)
SYNTAX = re.compile(r"…|\.\.\.|[\[|]")
"""Of a command that is described rather than given."""
MENTION = re.compile(r"(python -m \S+|scan-bench \S+)( [a-z]+)?")
"""A command named in a sentence."""


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    words: set[str]
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCED.finditer(text):
        language, *words = found[1].split() or [""]
        yield Block(page, text.count("\n", 0, found.start()) + 1, language, set(words), found[2])


ALL = [block for page in PAGES for block in blocks(page)]


def two_runs(folder: Path) -> dict[str, Any]:
    """Two runs of one sweep with their predictions."""
    first, second = sorted((ROOT / "results/quickstart").glob("clip-*-full-s[01]-*"))
    return {"run_a": first, "run_b": second}


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {"protocols.md": two_runs}
"""By page: what its reader brings, made anew for every block; the folder stays from block to block."""


@pytest.mark.parametrize(
    "page",
    sorted({block.page for block in ALL if block.language == "python"} - RUN_ELSEWHERE),
    ids=lambda page: page.name,
)
def test_every_block_of_python_runs_by_itself(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        if block.language == "python":
            code = compile("\n" * block.line + block.text, str(page), "exec")
            is_there = all(find_spec(word.removeprefix("needs-")) for word in block.words & EXTRAS)
            if is_there and not block.words & NEEDS:
                names = READERS.get(page.name, lambda _: {})(tmp_path)
                exec(code, {"__name__": "__main__", **names})  # the project's own page


def test_what_stands_behind_a_language_is_known() -> None:
    assert [block.where for block in ALL if block.words - NEEDS - EXTRAS] == []


def test_every_block_of_yaml_is_yaml() -> None:
    for block in ALL:
        if block.language == "yaml":
            assert yaml.safe_load(block.text), block.where


class Parsed(BaseException):
    """Carries what a command's parser gave, past all that the command would do with it."""


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], argparse.Namespace]:
    """A command's words -> its options; raises SystemExit as the command itself does for wrong ones."""
    monkeypatch.setenv(plugins.METHODS, "")  # --methods sets it
    monkeypatch.setattr(plugins, "folders", lambda _package: [])  # a page's DIR is none
    for name in ("parse_args", "parse_intermixed_args"):
        original = getattr(argparse.ArgumentParser, name)

        def stop(self: Any, *given: Any, original: Any = original) -> None:
            raise Parsed(original(self, *given))

        monkeypatch.setattr(argparse.ArgumentParser, name, stop)

    def run(words: Sequence[str]) -> argparse.Namespace:
        program, *rest = words
        if program == "scan-bench":
            command = COMMANDS[rest[0]]
            module, rest = command.main or command.parser, [*command.words, *rest[1:]]
        else:
            module, rest = rest[1], rest[2:]
            spec = find_spec(module)
            assert spec is not None, f"no module {module}"
            module += ".__main__" if spec.submodule_search_locations else ""
        try:
            import_module(module).main(rest)
        except Parsed as parsed:
            options: argparse.Namespace = parsed.args[0]
            return options
        raise AssertionError("it parsed nothing")

    return run


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Our commands of a page, in its blocks of shell and in its sentences: where each stands, and its words."""
    text = page.read_text(encoding="utf-8")
    lines = [
        (block.line + number, line)
        for block in blocks(page)
        if block.language in ("", "sh", "bash")
        for number, line in enumerate(block.text.replace("\\\n", " ").splitlines(), start=1)
    ]
    lines += [
        (text.count("\n", 0, found.start()) + 1, found[1])
        for found in INLINE.finditer(FENCED.sub(lambda block: "\n" * block[0].count("\n"), text))
        if not SYNTAX.search(found[1]) and not MENTION.fullmatch(found[1])
    ]
    for number, line in lines:
        start = COMMAND.search(line)
        if start is not None:
            lexer = shlex.shlex(line[start.start(1) :], posix=True, punctuation_chars=";|&<>")
            lexer.whitespace_split = True
            words = list(lexer)
            end = next((i for i, word in enumerate(words) if word[0] in ";|&<>"), len(words))
            yield f"{page.relative_to(ROOT)}:{number}", words[:end]


@lru_cache
def check_sweep(file: Path, overrides: tuple[str, ...]) -> None:
    read_sweep(ROOT / file if file.suffix else own_sweeps()[str(file)], overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_parses(
    page: Path, parse: Callable[[Sequence[str]], argparse.Namespace], capsys: pytest.CaptureFixture[str]
) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    wrong = []
    for where, words in commands(page):
        try:
            if words[0] == "make":
                assert set(words[1:]) <= targets, f"no target {words[1:]}"
                continue
            options = parse(words)
            sweep = getattr(options, "sweep", None)
            if sweep is not None and (
                sweep.parent == Path("sweeps") or (str(sweep).islower() and not sweep.suffix)
            ):
                check_sweep(sweep, tuple(options.overrides))
        except (Exception, SystemExit) as error:
            if not isinstance(error, SystemExit) or error.code:
                said = capsys.readouterr().err.strip().splitlines()[-1:]
                wrong.append(f"{where}: {' '.join(words)}: {said or error}")
    assert not wrong, "\n".join(wrong)
