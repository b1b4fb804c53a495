"""Care: check a repository, and let damaged loops go on."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from caesura.continuations import Fault, Mend, Plan, Repair, Report, count

from ._ask import confirm, need_keyboard
from ._faults import Exit, NotConfirmed
from ._options import By, Json, Place, Repo, place
from ._output import Page, err, out, passing, write_json

_SHORT = 12


def verify(
    *loops: Annotated[str, Parameter(help="Only these loops and what is nested in them.", show_default=False)],
    repo: Repo = None,
    json: Json = False,
) -> int:
    """Check every commit that the loops reach: as git does, and whether each step is one that a loop can make.

    That is: every object is there, whole and well-formed; calls moved only as they may, messages only grew, every
    decision is its author's and about what was shown, and no child loop was taken back. One line for each fault says
    what to do about it; the exit status is 1 if there is any. Notes are leftovers that harm nothing.

    With --json: {"loops", "commits", "faults": [{"loop", "commit", "what", "hint"}], "notes": [...]}; the loop is null
    for what is wrong with the repository itself.
    """
    where = place(repo)
    with where.loops() as opened:
        report = opened.verify(*loops, progress=lambda commits: passing(f"{count(commits, 'commit')} checked …"))
    passing("")
    if json:
        write_json(_report_json(report))
    else:
        out(_report_page(report))
    return Exit.FAILED if report.faults else Exit.DONE


def _report_json(report: Report) -> dict[str, Any]:
    faults = [
        {"loop": fault.loop or None, "commit": fault.commit or None, "what": fault.what, "hint": fault.hint}
        for fault in report.faults
    ]
    return {"loops": report.loops, "commits": report.commits, "faults": faults, "notes": list(report.notes)}


def _report_page(report: Report) -> Page:
    page = Page()
    for fault in report.faults:
        page.add(*_fault(fault))
    for note in report.notes:
        page.add(("note: ", "dim"), note)
    looked = f"{count(report.loops, 'loop')}, {count(report.commits, 'commit')}"
    if report.faults:
        return page.add((f"{looked}: {count(len(report.faults), 'fault')}", "red"))
    return page.add((f"{looked}: no fault", "green"))


def _fault(fault: Fault) -> tuple[tuple[str, str], ...]:
    commit = f" {fault.commit[:_SHORT]}" if fault.commit else ""
    where = fault.loop or "the repository"
    return ((where, "bold"), (commit, "dim"), (f": {fault.what.rstrip('.')}. ", "red"), (fault.hint, ""))


def repair(
    *loops: Annotated[str, Parameter(help="Only these loops and what is nested with them.", show_default=False)],
    from_: Annotated[
        Path | None, Parameter(name="--from", help="An intact copy of the repository, to take lost objects from.")
    ] = None,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")] = False,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> int:
    """Let loops that cannot be read any more go on from their last good commit, or from what a copy still has.

    What is damaged is moved aside into the repository's folder, never deleted. A loop that loses steps goes on with a
    commit that says so, behind a gate that somebody must approve; a call that may have run in a lost step is asked
    about. A healthy repository is left as it is, and so is a loop that a process drives.

    With --json: {"repaired": [{"loop", "commit", "back_to", "fault", "lost"}], "restored": [object, ...], "kept":
    [file, ...], "hopeless": [{"loop", "why", "hint"}], "refs": [line, ...], "notes": [...]}.
    """
    where = place(repo, writes=True)

    def agree(plan: Plan) -> bool:
        if not yes:
            need_keyboard("Add --yes to repair without being asked.")
        if not json or not yes:
            err(_plan_page(plan))
        if not yes and not confirm("Repair?"):
            raise NotConfirmed("Nothing was repaired.", hint="Everything is as it was.")
        return True

    with where.loops() as opened:
        repaired = opened.repair(*loops, copy=from_, by=by, agree=agree)
    if json:
        write_json(_repair_json(repaired))
    else:
        out(_repair_page(where, repaired))
    return Exit.FAILED if repaired.plan.hopeless else Exit.DONE


def _plan_page(plan: Plan) -> Page:
    page = Page()
    for line in plan.refs:
        if line:
            page.add(("left out of packed-refs: ", "dim"), line)
        else:
            page.add("packed-refs is empty, and will be a list of no branches.")
    for mend in plan.mends:
        page.add((mend.loop, "bold"), f" goes back to {mend.good[:_SHORT]}: {mend.fault}")
        page.extend(_lost(mend))
    if plan.restored:
        page.add(f"{count(len(plan.restored), 'object')} will be taken from the copy.")
    for file in plan.aside:
        page.add(("moved aside: ", "dim"), file)
    return page


def _lost(mend: Mend) -> Page:
    page = Page()
    for line in mend.said:
        page.add("  ", (line, "yellow"))
    if len(mend.lost) > len(mend.said):
        page.add(f"  and {len(mend.lost) - len(mend.said)} more")
    return page


def _repair_page(where: Place, repaired: Repair) -> Page:
    page = Page()
    for saved in repaired.loops:
        page.add(f"{saved.loop} goes on from {saved.commit[:_SHORT]}.")
        if saved.state.gate is not None:
            page.add(("look, then let it go on: ", "dim"), (where.paste("pending", saved.loop), "green"))
    if repaired.plan.restored and repaired.done:
        page.add(f"{count(len(repaired.plan.restored), 'object')} taken from the copy.")
    for file in repaired.kept:
        page.add(("kept: ", "dim"), file)
    for one in repaired.plan.hopeless:
        page.add((f"{one.loop} stays as it is. ", "red"), f"{one.why} {one.hint}")
    if repaired.plan.refs:
        what = "Damaged lines were left out of packed-refs" if any(repaired.plan.refs) else "packed-refs was empty"
        page.add(f"{what}. If a loop is missing: caesura repair LOOP")
    for note in repaired.plan.notes:
        page.add(("note: ", "dim"), note)
    return page if page.lines else page.add("There is nothing to repair.")


def _repair_json(repaired: Repair) -> dict[str, Any]:
    plan = repaired.plan
    return {
        "repaired": [
            {
                "loop": mend.loop,
                "commit": saved.commit,
                "back_to": mend.good,
                "fault": mend.fault,
                "lost": list(mend.lost),
            }
            for mend, saved in zip(plan.mends, repaired.loops, strict=True)
        ],
        "restored": list(plan.restored),
        "kept": list(repaired.kept),
        "hopeless": [{"loop": one.loop, "why": one.why, "hint": one.hint} for one in plan.hopeless],
        "refs": list(plan.refs),
        "notes": list(plan.notes),
    }
