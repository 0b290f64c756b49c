"""The command line, `rf-agent COMMAND ...` or `python -m rf_agent.cli COMMAND ...`.

A command is a module of `rf_agent.commands` with a dataclass `Args` and a function `run(args)`; `collect-vl` is in
`collect_vl`. It is imported only when it is called, so that help is there at once.

Exit codes: 0 done, 1 not done, 2 the command line was not understood.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from rf_agent import __version__
from rf_agent.errors import UserError
from rf_agent.files import DISK_FULL

PROGRAM = "rf-agent"
COMMANDS = {
    "rollout": "run episodes and film them",
    "play": "a page in the browser: ask the robot, watch it, drive it, record demonstrations",
    "collect": "collect demonstrations of the expert",
    "collect-vl": "render images of the table with captions and questions, in COCO's and VQAv2's layouts",
    "pretrain": "pre-train a small vision-language model on images of the table",
    "train": "train a policy by imitation of demonstrations",
    "evaluate": "measure success per task, or on chains of five tasks",
    "serve": "answer robots on other machines, in openpi's websocket protocol",
    "report": "show evaluations as a page or as tables, and merge shards",
    "evaluate-vl": "score a policy's captions and its answers to questions",
    "reproduce": "train and measure what the paper's tables compare, in miniature",
    "grounding": "measure whether the colour word decides which block is touched",
    "convert": "make a policy of published weights or of other policies, or convert data sets",
    "inspect": "say what a demonstration file holds and what is wrong with it",
    "diagnose": "say why a policy scores zero: its data, its environment or its checkpoint",
    "doctor": "say what this machine can do and what to install for the rest",
    "benchmark": "measure the speed of simulator, policy and trainer here",
}

LARGE_PAGES = ("train", "pretrain")
"""Commands whose large tensors live in large pages of memory, which Linux hands out and finds faster."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. `--debug` may stand anywhere and shows the traceback of an error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a sign that a terminal does not have ends no work
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        _dispatch(words)
    except KeyboardInterrupt:
        _fail("interrupted; what had been finished is kept", 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, as `head` does
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _fail(sentence(error), 1)
    sys.exit(0)


def sentence(error: BaseException) -> str:
    """An error as one line. Errors that are not worded for users are introduced by their kind."""
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if isinstance(error, OSError) and error.filename is not None and error.errno not in DISK_FULL:  # the system's own
        return f"{error.filename} cannot be read or written ({error.strerror}): give another"
    if isinstance(error, (UserError, ValueError, FileNotFoundError, FileExistsError, PermissionError)) and text:
        return text
    if isinstance(error, (ImportError, RuntimeError)) and text:
        return text
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        where = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{where}: make room and start again; train and pretrain go on with --resume"
    return f"{type(error).__name__}: {text or 'no message'} (--debug shows where)"


def overview() -> str:
    """The text of `rf-agent --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [options]",
            "",
            "A vision-language robot policy that follows language instructions, in Gymnasium environments.",
            "",
            "commands:",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help explains a command; --debug, anywhere, shows an error's traceback.",
        ]
    )


def command_module(name: str) -> ModuleType:
    """The module of a command, imported when it is asked for."""
    return importlib.import_module(f"rf_agent.commands.{name.replace('-', '_')}")


def _dispatch(words: list[str]) -> None:
    if not words:
        print(overview(), file=sys.stderr)
        sys.exit(2)
    name, *rest = words
    if name in ("-h", "--help", "help"):
        print(overview())
    elif name == "--version":
        print(f"{PROGRAM} {__version__}")
    elif name in COMMANDS:
        if name in LARGE_PAGES:  # read by torch before its first tensor, so it is set before torch is imported
            os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        module = command_module(name)
        module.run(parse(module.Args, name, rest))
    else:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"commands are {', '.join(COMMANDS)}"
        _fail(f"there is no command {name!r}: {hint}", 2)


def parse(args_type: type, name: str, words: Sequence[str]) -> Any:
    """Words to the dataclass `args_type`. Exits after the help, and with code 2 after one sentence."""
    import tyro

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(args_type, prog=f"{PROGRAM} {name}", args=words, description=COMMANDS.get(name))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        _fail(f"{_unboxed(complaint.getvalue())}; see `{PROGRAM} {name} --help`", 2)


def _unboxed(text: str) -> str:
    """What tyro draws in a box, as one line: the words above the box's rule, without its frame."""
    lines = [re.sub(r"^[│|]|[│|]$", "", line.strip()).strip() for line in text.splitlines()]
    words = []
    for line in lines[1:]:
        if line.strip("─-╰╯+ "):
            words.append(line)
        elif words:  # where frames cannot be printed, a rule lies under the title, too
            break
    message = re.sub(r"^Error parsing \w+: ", "", " ".join(" ".join(words).split()).rstrip(".:;"))
    if message.startswith("Missing from"):
        names = re.findall(r"(?<!\S)--[\w-]+", message) or re.findall(r"(?<!\S)[A-Z]{2,}(?!\S)", message)[:1]
        return f"{' and '.join(names)} must be given"
    return message or "the options were not understood"


def _fail(message: str, code: int) -> NoReturn:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
