"""Upkeep by hand: the objects and branches of a repository into few files."""

from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import asdict

from caesura.continuations import ConflictError, Holdings, Upkept, count

from ._options import Json, Repo, place
from ._output import Page, out, passing, write_json


class UnderWay(ConflictError):
    """Another process keeps the repository up at this moment."""


def gc(
    *,
    repo: Repo = None,
    dry_run: Annotated[
        bool, Parameter(name=["--dry-run", "-n"], negative="", help="Say what would be done, and do nothing.")
    ] = False,
    json: Json = False,
) -> int:
    """Put the objects and the branches of a repository into few files, while work goes on in it.

    Driving loops does it by itself before there are too many: more than 4,096 objects or 1,000 branches with files of
    their own, or more than 16 small packs. By hand it makes one pack of all. Nothing is deleted: an object's own file,
    or a pack, goes once the new pack was written, synced and read back. Steps that git does not see yet it sees from
    then on. It is safe beside everything that works with the loops, and beside git's own commands.

    The branches are those of root loops; that of a nested one goes when its result is taken. Git's own setting
    gc.packRefs says whether they are put into the list of them, as it does to 'git gc': true (the default), false, or
    notbare. It is heeded when loops are driven, too.

    With --json: {"objects", "packs", "branches", "left", "before": {"objects", "packs", "branches", "size"},
    "after": {...}}; "left" says why branches keep files of their own, or is null.
    """
    with place(repo).store() as store:
        if not dry_run:
            store.seal()  # a process that died may have left steps that git does not see
        upkeep = store.upkeep(progress=lambda done, total: passing(f"{done:,} of {count(total, 'object')} packed …"))
        done = upkeep.run(thorough=True, dry=dry_run)
    passing("")
    if done is None:
        raise UnderWay("Another process is tidying the repository up.", hint="There is nothing more to do.")
    if json:
        write_json({**asdict(done), "before": asdict(done.before), "after": asdict(done.after)})
    else:
        out(_page(done, dry=dry_run))
    return 0


def _page(done: Upkept, *, dry: bool) -> Page:
    page = Page()
    told = [
        _into_packs(done),
        f"{_branches(done.branches)} into the list of them" if done.branches else "",
    ]
    if any(told):
        page.add("would put " if dry else "put ", ", ".join(filter(None, told)))
    else:
        page.add("There is nothing to do. ", _held(done.after))
    if done.left:
        left = f"{_branches(done.after.branches)} with files of their own: {done.left}"
        page.add("would leave " if dry else "left ", left)
    if any(told) and not dry:
        page.add(("before: ", "dim"), _held(done.before)).add(("after: ", "dim"), _held(done.after))
    return page


def _into_packs(done: Upkept) -> str:
    objects = count(done.objects, "object") if done.objects else ""
    if not done.packs:
        return objects and f"{objects} into packs"
    return f"{' and '.join(filter(None, (objects, count(done.packs, 'pack'))))} into one"


def _held(held: Holdings) -> str:
    loose = f"{count(held.objects, 'object')} and {_branches(held.branches)} with files of their own"
    return f"{loose}, {count(held.packs, 'pack')}, {_size(held.size)}"


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def _branches(number: int) -> str:
    return f"{number} branch" if number == 1 else f"{number} branches"
