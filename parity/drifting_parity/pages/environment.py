"""The templates of all pages, escaped by default, and what every page holds: style and script.

A page is one file that fetches nothing: style, the optional script and plots stand in it. Its
Content-Security-Policy lets no other script run, whatever judged code says.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from drifting_parity.errors import CommandError

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

MISSING = "HTML pages need Jinja2 and math-core: pip install jinja2 math-core"
"""What is said where the extra is not installed."""


@cache
def environment() -> jinja2.Environment:
    """Make the environment of ``templates/``, once.

    Its filters: ``tex`` and ``inline_tex`` typeset TeX as MathML, ``slug`` makes an id of a text,
    ``prose`` marks up what stands in backquotes. An undefined name in a template raises
    ``jinja2.UndefinedError``; :class:`CommandError` where Jinja2 is not installed.
    """
    try:
        import jinja2
        from markupsafe import Markup
    except ModuleNotFoundError as problem:
        raise CommandError(MISSING) from problem
    from drifting_parity.pages.mathml import mathml

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("drifting_parity.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["tex"] = mathml
    made.filters["inline_tex"] = partial(mathml, display=False)
    made.filters["slug"] = slug
    made.filters["prose"] = prose
    style, script = (_text(made, name) for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    shared = cast("dict[str, Any]", made.globals)
    shared.update(style=Markup(style), script=Markup(script), script_hash=digest)
    return made


def render(template: str, **context: Any) -> str:
    """Fill the template of that file name; text in ``context`` is escaped, ``Markup`` is not."""
    return environment().get_template(template).render(**context)


def slug(text: str) -> str:
    """Make an id for a fragment of a text: ``temperature stage`` → ``temperature-stage``."""
    return re.sub(r"[^\w.=-]+", "-", text).strip("-")


def prose(text: str) -> Markup:
    """Escape a text and set what stands in backquotes as code, its blank lines as paragraphs."""
    from markupsafe import Markup, escape

    paragraphs = (part for part in re.split(r"\n\s*\n", text.strip()) if part)
    marked = (re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(part))) for part in paragraphs)
    return Markup("</p><p>".join(marked))


def _text(made: jinja2.Environment, name: str) -> str:
    loader = made.loader
    assert loader is not None
    return loader.get_source(made, name)[0]
