"""The command ``scan-bench COMMAND …``: the ``python -m`` forms under one name, each loaded when it is chosen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple


class Command(NamedTuple):
    """One of the forms."""

    parser: str
    """The module with its ``parser()``."""
    help: str
    main: str = ""
    """The module with its ``main(words)``, where that is another."""
    words: tuple[str, ...] = ()
    """What is put before the words that were given."""


COMMANDS = {
    "sweep": Command("benchmark.sweep", "run what is missing of a sweep: a file, or a name such as quickstart"),
    "pool": Command("benchmark.pool.command", "index, inspect or prepare data"),
    "evaluate": Command("benchmark.evaluate.command", "more tasks for a finished run, or for a published model"),
    "coreset": Command("benchmark.coreset.command", "a coreset's samples for use elsewhere"),
    "export": Command("benchmark.export.command", "a run's model as open_clip and timm load it"),
    "report": Command("analysis.report", "tables, figures and a page from the records"),
    "doctor": Command(
        "benchmark.doctor.doctor", "what this machine or cluster supports", "benchmark.sweep", ("doctor",)
    ),
}
COMPLETION, SHELLS = "completion", ("bash", "zsh", "fish")


def main(words: Sequence[str] | None = None) -> int:
    """The chosen command's exit code. A command that is not known exits with 2, as argparse does."""
    told = "\n".join(f"  {name:11} {command.help}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="scan-bench",
        description=f"Data pruning in contrastive pre-training.\n\n{told}\n"
        f"  {COMPLETION:11} completion of all these for a shell: {', '.join(SHELLS)}\n\n"
        "scan-bench COMMAND --help says more of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="scan-bench COMMAND ...",
    )
    parser.add_argument("command", choices=(*COMMANDS, COMPLETION), metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.command == COMPLETION:
        return _complete(options.words)
    command = COMMANDS[options.command]
    return int(import_module(command.main or command.parser).main([*command.words, *options.words]))


def _complete(words: Sequence[str]) -> int:
    """Print a script for a shell that knows all commands with their options."""
    import shtab

    parser = argparse.ArgumentParser(prog=f"scan-bench {COMPLETION}", description="Print a shell's completions.")
    parser.add_argument("shell", choices=SHELLS)
    shell = parser.parse_args(words).shell
    whole = argparse.ArgumentParser(prog="scan-bench")
    commands = whole.add_subparsers()
    for name, command in COMMANDS.items():
        own = import_module(command.parser).parser()
        commands.add_parser(name, help=command.help, parents=[own], add_help=False)
    commands.add_parser(COMPLETION, help="completions of a shell", parents=[parser], add_help=False)
    print(shtab.complete(whole, shell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
