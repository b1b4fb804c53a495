"""Interchange: loops to and from the JSON continuation object of SnapLogic's agent-continuations.

The object, nested to any depth::

    {"continuation": {"messages": [...],
                      "resume_request": [tool call, with a "continuation" of its own where it called an agent],
                      "processed": [{"id": ..., "approved": false}]},
     "approval_info": [{"paths": [...], "path_ids": [...], "tool_call": {...}, "approved": null}],
     "end_reason": "approval_required"}

Decisions come from ``approval_info`` and from nowhere else: an item that says ``true`` approves, one that says
``false`` rejects; an item that is left out, or says ``null`` or nothing, leaves its call undecided. What ``processed``
says decides nothing. So an export writes every request into ``approval_info`` as a form to fill in, with ``null`` where
nobody has decided. An export of agent-continuations itself fills its form with ``false``: nothing in it tells an
untouched form from a refusal of everything. Read as it stands it rejects, because a call that did not run can be asked
for again, and one that ran cannot be called back; `import_loop` takes ``decide=False`` for a form nobody has touched.

For whoever resumes an export over there: that framework runs a call of the root agent whenever ``approval_info`` lists
it, whatever ``approved`` says, and counts a call that is not listed as rejected. So take out what is not to run; or
export without the form, and nothing runs.

Two keys are ours; the other side ignores both. ``suspend_list`` may also stand in a nested continuation, and says that
the loop has that gate, or, if empty, none: a continuation with neither it nor a ``resume_request`` stands behind a
gate. ``told`` is what a person has said that the model has not heard yet. What the object has no place for is left out:
standing decisions, what was spent, memory, who decided and why, and what only one model API understands.
"""

from ._document import BadDocument
from ._export import NotExportable, export_loop
from ._import import import_loop

__all__ = ["BadDocument", "NotExportable", "export_loop", "import_loop"]
