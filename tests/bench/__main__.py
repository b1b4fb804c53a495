"""The benchmark's command: ``python -m tests.bench``."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from msgspec.structs import replace

from . import ready
from .goals import FULL, GOALS, LONG, QUICK, SHOWN, Goal, plan
from .plot import draw
from .profile import profile
from .report import as_columns, as_json, as_markdown, as_text, report, written_into
from .run import Refused, children, run
from .sides import Missing, lacking, peer

_PROFILED = 1_500
"""Steps of a profile."""


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure Caesura and its peers at the same work, interleaved in one run.",
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, in under 50 seconds")
    parser.add_argument(
        "--goal", nargs="+", metavar="NAME", choices=list(GOALS), help=f"only these: {', '.join(GOALS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write goals, tables and machine as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the time of a step as a loop grows, as SVG")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write it all into a page of the documentation")
    parser.add_argument("--seed", type=int, default=1, help="what the messages are made from")
    parser.add_argument("--profile", action="store_true", help="show where the time of one step goes instead")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 whether or not the goals are met, 1 if there is nothing to report."""
    options = _options(arguments)
    try:
        if options.profile:
            _say(as_columns(profile(_PROFILED)))
            return 0
        for module in ("matplotlib",) if options.plot or options.write else ():
            peer(module)
        return _measure(options)
    except (Missing, Refused) as error:
        _say(str(error), sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say("Stopped. What was being written has been removed; there is nothing to report.", sys.stderr)
        return 130


def _measure(options: argparse.Namespace) -> int:
    begin = time.monotonic()
    sizes = QUICK if options.quick else FULL

    def tell(text: str) -> None:
        _say(f"{time.monotonic() - begin:6.1f} s, {text}", sys.stderr)

    left_out = {name: why for name in options.goal or GOALS if (why := _lacking(GOALS[name]))}
    if left_out and (options.goal or options.write):
        raise Missing(next(iter(left_out.values())))
    if options.quick and not options.goal:
        left_out |= {name: why for name, why in LONG.items() if name in GOALS}
    for name, why in left_out.items():
        tell(f"{name} is left out: {why}")
    names = [name for name in options.goal or GOALS if name not in left_out]
    shown = {"limits": SHOWN["limits"]} if options.quick or options.goal else SHOWN
    more = {name: tuple(side for side in sides if not lacking(side)) for name, sides in shown.items()}
    planned = plan(names, sizes, more)
    if (options.plot or options.write) and "one" not in planned:
        raise Refused("There is nothing to draw: choose a goal that measures steps of one loop, such as sqlite-full.")
    ready.files((options.json, options.plot), options.write)
    ready.room({side for _, sides in planned.values() for side in sides}, tell)
    with children() as do:
        runs = run(planned, options.seed, tell, do)
    found = report(runs, names, left_out)
    if options.write:
        tell("profile")
        found = replace(found, tables=(*found.tables, profile(_PROFILED)))
    _say(as_text(found))
    if options.write:
        plot = options.write.with_suffix(".svg")
        draw(runs, plot)
        options.write.write_text(written_into(options.write.read_text(), as_markdown(found, plot.name)))
    if options.plot:
        draw(runs, options.plot)
    if options.json:
        options.json.write_bytes(as_json(found))
    return 0


def _lacking(goal: Goal) -> str:
    return next((why for sides in goal.needs.values() for side in sides if (why := lacking(side))), "")


def _say(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream, flush=True)  # a command's output


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was being written is removed
    sys.exit(main())
