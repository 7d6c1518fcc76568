"""Settings of the documentation site (Sphinx); `docs/make_site.py` gathers its sources and builds.

Equations are written as MathML, which browsers render themselves: a page needs no script and no
network.
"""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from flax import linen as nn
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

sys.path.insert(0, str(Path(__file__).parent))
import ddpg_jax

project = author = "ddpg_jax"
version = release = ddpg_jax.__version__
root_doc = "docs/index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.githubpages"]
html_theme = "furo"
html_static_path, html_css_files = ["static"], ["site.css"]
html_title = f"ddpg_jax {release}"
html_show_copyright = html_copy_source = False

nb_execution_mode = "off"
"""The tests run every notebook."""
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = napoleon_use_rtype = False
suppress_warnings = ["config.cache", "myst.header"]
nitpick_ignore_regex = [("py:.*", r"(?!ddpg_jax\.).*")]
"""Names of other libraries, and words in single backticks; all of this one must be found."""


def resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """A short name (``Agent``, ``ring.uniform``), as annotations and docstrings write it, is the
    one public name that ends with it.
    """
    target = node.get("reftarget", "").removeprefix("~")
    domain = env.domains["py"]
    last = target.rpartition(".")[2]
    found = {name for name in domain.objects if name.endswith(f".{target}")}
    found = found or {name for name in domain.objects if name.endswith(f".{last}")}
    near = node.get("py:module", "")
    best = [name for name in found if name.startswith(f"{near}.")] or sorted(found)
    if node.get("refdomain") != "py" or len(best) != 1:
        return None
    found_at = domain.objects[best[0]]
    place = node["refdoc"], found_at.docname, found_at.node_id
    return make_refnode(app.builder, *place, [content], best[0])


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out what `NamedTuple` and Flax add to a class, and defaults that are functions."""
    added = (getattr(obj, "__doc__", None) or "").startswith("Alias for field")
    added = added and not _has_words(app.env.current_document, name)
    default = callable(obj) and "." not in getattr(obj, "__qualname__", ".")
    of_flax = name in {"replace", "name", "parent", "scope"}
    return True if what == "class" and (added or default or of_flax) else None


def _has_words(document: Any, name: str) -> bool:
    """Whether the source says what this field of the class that is documented now holds."""
    documented = getattr(sys.modules[document.autodoc_module], document.autodoc_class)
    words = ModuleAnalyzer.for_module(documented.__module__).find_attr_docs()
    return (documented.__qualname__, name) in words


_PLAIN: dict[str, list[str]] = {}


def keep(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep the words of a constant or a field from napoleon, which reads "word: ..." as a type."""
    if what in {"attribute", "data", "property"}:
        _PLAIN[name] = list(lines)


def restore(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Give them back."""
    if name in _PLAIN:
        lines[:] = _PLAIN.pop(name)


def signed(app: Any, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, None] | None:
    """A protocol is not called; a Flax module takes its fields, as its source writes them."""
    if what != "class" or not isinstance(obj, type):
        return None
    if getattr(obj, "_is_protocol", False):
        return "", None
    if not issubclass(obj, nn.Module):
        return None
    (tree,) = ast.parse(inspect.getsource(obj)).body
    fields = [ast.unparse(node) for node in tree.body if isinstance(node, ast.AnnAssign)]
    return f"({', '.join(fields)})", None


def visit_math(self: Any, node: Any) -> None:
    """An equation in a line."""
    self.body.append(_mathml(node))
    raise nodes.SkipNode


def visit_displaymath(self: Any, node: Any) -> None:
    """An equation that stands alone."""
    self.body.append(f'<div class="equation">{_mathml(node)}</div>')
    raise nodes.SkipNode


def _mathml(node: Any) -> str:
    text = node.astext()
    aligned = f"\\begin{{aligned}}{text}\\end{{aligned}}" if "&" in text else text
    try:
        return str(latex2mathml.tex2mathml(aligned, as_block=isinstance(node, nodes.math_block)))
    except MathError as error:
        logging.getLogger(__name__).warning(f"{error}: {text}", location=node)
        return text


def setup(app: Any) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", keep, priority=400)  # napoleon: 500
    app.connect("autodoc-process-docstring", restore, priority=600)
    app.connect("autodoc-process-signature", signed)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    app.config.html_math_renderer = "mathml"
