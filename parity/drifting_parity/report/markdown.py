"""The report as Markdown tables, for the summaries of continuous integration."""

from __future__ import annotations

from drifting_parity.report import wording
from drifting_parity.report.data import FAILING, ClauseReport, Report
from drifting_parity.report.screen import by_section, first_screen, section_lines
from drifting_parity.report.table import plain_cell, table


def markdown(report: Report) -> str:
    """Render ``report`` as GitHub-flavoured Markdown: first screen, sections, clauses."""
    first, *rest = first_screen(report)
    lines = [f"## {plain_cell(first.text)}", ""]
    lines += [f"{' ' * line.indent}- {plain_cell(line.text)}" for line in rest]
    lines += ["", *_section_table(report)]
    failing = [clause for clause in report.clauses if clause.verdict in FAILING]
    if failing:
        lines += ["", "### Failing clauses", ""]
        for clause in failing:
            lines += _failing(clause)
    lines += _headlines(report)
    lines += ["", "### Readings that differ from those asked for", ""]
    differing = [axis for axis in report.axes if axis.differs]
    if differing:
        rows = ((axis.id, axis.reading, axis.expected, axis.evidence) for axis in differing)
        lines += table(("axis", "takes", "asked for", "evidence"), rows)
    else:
        lines.append("none")
    lines += [*_conduct(report), *_effects(report), *_clauses(report)]
    lines += ["", "### The run", "", *_facts(report)]
    return "\n".join([*lines, "", f"**{plain_cell(wording.conclusion(report))}**"]) + "\n"


def _section_table(report: Report) -> list[str]:
    rows = ((name, title, text) for name, title, text, _ in section_lines(report))
    return table(("section", "title", "clauses"), rows)


def _code(text: str) -> str:
    return f"`{text}`"


def _facts(report: Report) -> list[str]:
    rows = [
        ("implementation", report.implementation),
        ("readings", report.readings),
        ("paper", f"{report.paper['title']}, arXiv {report.paper['arxiv']}"),
        ("scan", f"sha256 {report.paper['scan_sha256']}"),
        ("tool", f"{report.tool['name']} {report.tool['version']}"),
        *report.environment.items(),
    ]
    return table(("", ""), rows)


def _failing(clause: ClauseReport) -> list[str]:
    said = [f"  - {plain_cell(line)}" for line in wording.explanation(clause)]
    command = [f"  - {_code(clause.reproduce)}"] if clause.reproduce else []
    mark = wording.MARKS[clause.verdict]
    return [
        f"- {mark} **{clause.id}** {plain_cell(clause.title)}: {clause.verdict}",
        *said,
        *command,
    ]


def _headlines(report: Report) -> list[str]:
    lines: list[str] = []
    for name, outcomes in wording.headlines(report):
        mark = wording.MARKS[wording.together(outcomes)]
        lines += ["", f"### {mark} {plain_cell(name)}", ""]
        figures = [item for outcome in outcomes for item in outcome.figures]
        rows = [(item.label, item.value) for item in figures if item.headline == name]
        rows += [(item.title, item.error or item.not_observable) for item in outcomes]
        lines += table(("what", "measured"), (row for row in rows if row[1]))
    return lines


def _conduct(report: Report) -> list[str]:
    if not report.conduct:
        return []
    rows = [("✗" if item.failing else "·", item.kind, str(item)) for item in report.conduct]
    return ["", "### Conduct: what it did beside answering", "", *table(("", "kind", "what"), rows)]


def _effects(report: Report) -> list[str]:
    if not report.effects:
        return []
    heads = ("", "effect", "title", "measured", "band", "unit")
    rows = (
        (
            "✓" if item.within else "✗",
            item.id,
            item.witness.title,
            item.error or wording.size(item.value),
            item.witness.band,
            item.witness.unit,
        )
        for item in report.effects
    )
    title = "### Deltas: measured effects"
    return ["", title, "", f"{wording.effects(report)}.", "", *table(heads, rows)]


def _clauses(report: Report) -> list[str]:
    heads = ("", "clause", "title", "verdict", "error and allowed", "headroom", "cases")
    lines: list[str] = []
    for section, members in by_section(report).items():
        lines += ["", f"### {section} {report.sections.get(section, '')}".rstrip(), ""]
        lines += table(heads, (_row(clause) for clause in members))
    return lines


def _row(clause: ClauseReport) -> tuple[str, ...]:
    worst = clause.worst
    numbers = ("", "", "")
    if worst is not None:
        size = wording.comparison(worst)
        numbers = (size, wording.number(worst.headroom), str(clause.cases))
    return (wording.MARKS[clause.verdict], clause.id, clause.title, clause.verdict, *numbers)
