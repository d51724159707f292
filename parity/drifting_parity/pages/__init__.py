"""Pages: one self-contained HTML file each, of the paper, of a report, of a comparison.

What they share stands here: templates and style (:mod:`.environment`), formulas (:mod:`.mathml`)
and plots (:mod:`.plots`). Jinja2 and math-core come with the extra ``pages``.
"""
