"""Notebook: writes hits, explanations, plans and reports as HTML, for people who look at them in a notebook.

Values that inherit from `diptych.repr_html.ReprHtml` call `html` here. Begin with `elements`: all text goes through
its `tag`, which escapes it. `charts` draws bars and intervals as SVG; the other modules write one kind of value each.
The HTML needs no script, style sheet or file, and no package besides the host's.
"""

from __future__ import annotations

from importlib import import_module

# By the class that a value is of, or inherits from: the module here, whose function has the name of the class in lower
# case. They are imported when first needed, since each imports the part of the host that it shows.
MODULES = {
    "Hit": "hits",
    "Hits": "hits",
    "Answers": "hits",
    "HitGroups": "hits",
    "Explanation": "explanations",
    "Explanations": "explanations",
    "Evaluation": "evaluations",
    "Comparison": "evaluations",
    "Verdict": "evaluations",
    "Plan": "swaps",
    "GateReport": "swaps",
    "ApplyReport": "swaps",
    "VerifyReport": "swaps",
    "SearchReport": "tuning",
    "EncoderReport": "tuning",
    "IndexReport": "tuning",
}


def html(value: object) -> str:
    """The value, a `ReprHtml`, as a piece of HTML that stands alone."""
    name = next(own.__name__ for own in type(value).__mro__ if own.__name__ in MODULES)
    module = import_module(f"diptych_lab.notebook.{MODULES[name]}")
    return str(getattr(module, name.lower())(value))
