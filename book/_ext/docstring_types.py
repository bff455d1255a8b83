"""Sphinx: docstrings name types and variables as prose does.

A type of this library is linked by its bare name, wherever it is defined
(``Rule``, not ``wheretolearn.rules.Rule``), and a colon in the description of a
field is punctuation, not the end of a type.
"""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def keep_colons(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Put an empty comment first: napoleon reads ``type: description`` from the first line."""
    if what in ("attribute", "data", "property") and lines and ":" in lines[0]:
        lines[:0] = ["..", ""]


def find_by_bare_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """Link to the one documented object of that name, if there is just one."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target or "." in target:
        return None
    objects = env.domains["py"].data["objects"]
    found = {o.node_id: o for n, o in objects.items() if n.endswith(f".{target}") and not o.aliased}
    if len(found) != 1:
        return None
    (entry,) = found.values()
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, [contnode])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both; before napoleon, which listens at priority 500."""
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("missing-reference", find_by_bare_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
