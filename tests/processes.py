"""Real processes that begin at once: each is forked from one that has imported everything and done nothing.

As a program it forks one process for each call in a line of JSON, ``[[name, argument, …], …]``, where a name is that
of a function of `tests.agents` or `tests.racing`; says their ids; lets them all go at the same instant; and says how
each of them ended once it is asked to.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from caesura.continuations import CaesuraError

ROOT = Path(__file__).parent.parent
Call = Sequence[Any]
"""A function's name and its arguments, which must be JSON, or paths."""


class Ended(NamedTuple):
    """How a process ended: its exit status, or minus the signal that killed it; what its function returned, or the
    name and the text of Caesura's error."""

    status: int
    value: Any = None
    error: str = ""
    text: str = ""


class Processes:
    """The process that all others are forked from. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.processes"]
        self._server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, *calls: Call) -> list[int]:
        """Let a process make each call, all at the same instant; their ids."""
        return list(self._ask([[str(one) if isinstance(one, Path) else one for one in call] for call in calls]))

    def wait(self, pids: Sequence[int]) -> list[Ended]:
        """Wait until these have ended."""
        return [Ended(*one) for one in self._ask({"wait": list(pids)})]

    def run(self, *calls: Call) -> list[Ended]:
        """`start` and `wait`; none of the processes may fail but with an error of Caesura's."""
        ended = self.wait(self.start(*calls))
        assert all(one.status == 0 for one in ended), ended
        return ended

    def close(self) -> None:
        """End the process that forks."""
        with self._server:
            assert self._server.stdin is not None
            self._server.stdin.close()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: Any) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


def _serve() -> None:
    results: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, list):
            gate, opens = os.pipe()
            pids: list[int] = []
            for name, *arguments in request:
                read, write = os.pipe()
                pid = os.fork()
                if not pid:
                    os.close(opens)
                    for stream in (0, 1):  # which are the server's own
                        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
                    os.read(gate, 1)  # which ends for all of them at once, when the last writer closes it
                    os.write(write, json.dumps(_call(name, arguments)).encode())
                    os._exit(0)
                os.close(write)
                results[pid] = read
                pids.append(pid)
            os.close(gate)
            os.close(opens)
            _say(pids)
        else:
            _say([_ended(pid, results.pop(pid)) for pid in request["wait"]])


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _call(name: str, arguments: list[Any]) -> list[Any]:
    try:
        module, _, function = name.rpartition(".")
        return [getattr(importlib.import_module(module), function)(*arguments), "", ""]
    except CaesuraError as error:
        return [None, type(error).__name__, str(error)]
    except BaseException:  # noqa: BLE001 - whatever it was, this process must not go on as its parent would
        traceback.print_exc()
        os._exit(1)


def _ended(pid: int, result: int) -> list[Any]:
    with os.fdopen(result) as said:
        text = said.read()
    _, status = os.waitpid(pid, 0)
    return [os.waitstatus_to_exitcode(status), *(json.loads(text) if text else ())]


if __name__ == "__main__":
    import tests.agents
    import tests.racing  # noqa: F401 - so that no process has to
    from caesura.continuations.store import _refs

    _refs.LOCK_SECONDS = 120.0  # a slow disk is no fault of whoever waits for its turn
    _serve()
