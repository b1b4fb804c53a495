"""How a root loop begins: under a free name, in the folder that it is to work on."""

import os
import secrets
from contextlib import suppress

from msgspec.structs import replace

from caesura.continuations import LoopExists, LoopName, Moved, Saved, Started, root_name

from ._services import Services


def begin(
    services: Services,
    loop: str | None,
    event: Started,
    folder: str | os.PathLike[str] | None,
    origin: str | None,
    *,
    borrow: bool,
) -> Saved:
    """Make the loop under its name, or under the first of its agent's that is free, to work on the files of its folder,
    or on those that it is to get from a project."""
    author, new = event.by or services.committer, None
    if loop is not None and not (folder is None and origin is None):
        services.history.check_free(root_name(loop))  # before anything is copied
    if origin is not None:
        new, workspace, found = services.files.begin_from(origin, folder, borrow=borrow)
        event = replace(event, workspace=workspace, origin=found)
    elif folder is not None:
        new, workspace = services.files.begin(folder)
        event = replace(event, workspace=workspace)

    def make(name: LoopName) -> Saved:
        if new is not None:
            services.files.intend(new, name, event.nonce)
        saved = services.history.begin(name, event, services.committer, author)
        if new is not None:
            services.files.began(new, saved)
        return saved

    try:
        while loop is None:
            with suppress(LoopExists):
                return make(root_name(f"{event.definition.name}-{secrets.token_hex(2)}"))
        return make(root_name(loop))
    except (LoopExists, Moved):
        if new is not None:
            services.history.store.workspaces().give_up(new)
        raise
