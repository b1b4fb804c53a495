"""The application: words in, exit status out. Commands are imported only when they are called."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from ._commands import ANSWERS_GIT, COMMANDS, GIT_ABORTS

_STDERR = 2
_LOST = "hint: What the command has done is done; only what it had to say is lost.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        # Text that this terminal cannot show must not end a command half-way.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    status = 0
    try:
        status = _told(words)
        sys.stdout.flush()
    except OSError as error:
        # What is still unwritten must not be tried again, and complained of, when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Whoever read a broken pipe has had enough; an error that has a status was told already.
        if not status and not isinstance(error, BrokenPipeError):
            with suppress(OSError):
                sys.stderr.write(f"error: The output cannot be written: {error.strerror}.\n{_LOST}")
        return status or 1
    return status


def _open_streams() -> None:
    """Open what whoever started the process has closed of the three streams, on nothing, as git does.

    Else a file of the repository would be opened in its place, and what is meant for a person be written into it; also
    by what is started from here, which has them too.
    """
    free = os.open(os.devnull, os.O_RDWR)
    while free <= _STDERR:
        os.set_inheritable(free, True)
        free = os.dup(free)
    os.close(free)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _told(words: list[str]) -> int:
    options = words[: words.index("--")] if "--" in words else words
    if len(options) == len(words) == 2 and options[0] == "textconv" and options[1][0:1] != "-":
        from ._textconv import print_text

        # Git calls it for each file of each commit that it shows: nothing else is loaded for it.
        return _run(lambda: print_text(words[1]), as_json=False, failed=1)
    if not options or options[0] in ("--help", "-h", "help"):
        from ._help import command_help, overview

        named = COMMANDS.get(options[1]) if len(options) > 1 else None
        sys.stdout.write(overview() if named is None else command_help(named.name))
        return 0
    if options[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"caesura {version('caesura')}\n")
        return 0
    if options[0] in COMMANDS and any(word in ("--help", "-h") for word in options):
        from ._help import command_help

        sys.stdout.write(command_help(options[0]))
        return 0
    failed = GIT_ABORTS if options[0] in ANSWERS_GIT else None
    return _run(lambda: _called(words), as_json="--json" in options, failed=failed)


def _called(words: list[str]) -> int:
    from ._cyclopts import call  # most of the time until a command begins: it may be interrupted here

    return call(words)


def _run(command: Callable[[], int], *, as_json: bool, failed: int | None) -> int:
    """Call a command; anything raised becomes a sentence, a hint and an exit status, `failed` if there is but one."""
    try:
        return command()
    except BrokenPipeError:
        raise
    except (Exception, BaseExceptionGroup, KeyboardInterrupt) as error:  # the edge: everything ends here
        from ._faults import fault_of
        from ._output import OutputLost, Page, err, write_json

        if isinstance(error, OutputLost):
            raise
        fault = fault_of(error)
        if os.environ.get("CAESURA_DEBUG", "") not in ("", "0"):
            err(Page().block(fault.trace, prefix=""))
        if as_json:
            write_json(fault.json)
        else:
            page = Page().add(("error: ", "bold red"), fault.message)
            err(page.add(("hint: ", "bold cyan"), fault.hint) if fault.hint else page)
        return fault.status if failed is None else failed
