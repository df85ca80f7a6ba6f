"""Tables for papers: LaTeX with booktabs, each with caption, label and notes."""

import re
from collections.abc import Collection, Sequence

PREAMBLE = (
    "% \\input this file; in the preamble: \\usepackage{booktabs,adjustbox} and, before TeX Live 2018, "
    "\\usepackage[utf8]{inputenc}\n"
)
_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        '"': r"\textquotedbl{}",
        "“": "``",
        "”": "''",
        "–": "--",
        "—": "---",
    },
    **{"−": "$-$", "×": r"$\times$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$", "…": r"\ldots{}"},
    **{"²": "$^2$", "³": "$^3$", "ρ": r"$\rho$", "τ": r"$\tau$", "α": r"$\alpha$", "κ": r"$\kappa$", "λ": r"$\lambda$"},
}


def latex_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str,
    label: str,
    notes: Sequence[str] = (),
    rules_before: Collection[int] = (),
) -> str:
    """A `table` environment; what is wider than the text is shrunk to it.

    Args:
        header: of the columns; the first is set left, the others centred.
        rows: cells as plain text, as many as the header has; LaTeX's special characters are escaped.
        caption: above the table.
        label: for `\\ref`, such as `tab:brain-age`.
        notes: below it, a line each.
        rules_before: the rows above which a thin line separates groups.

    Raises:
        ValueError: a row has another number of cells than the header.
    """
    if odd := [row for row in rows if len(row) != len(header)]:
        raise ValueError(f"{len(header)} columns, but a row of {len(odd[0])} cells: {odd[0]}")
    body = [
        f"{chr(92) + 'midrule' + chr(10) if i in rules_before else ''}{' & '.join(map(escape, row))} \\\\"
        for i, row in enumerate(rows)
    ]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        f"\\caption{{{escape(caption)}}}",
        f"\\label{{{label}}}",
        r"\begin{adjustbox}{max width=\textwidth}",
        f"\\begin{{tabular}}{{@{{}}l{'c' * (len(header) - 1)}@{{}}}}",
        r"\toprule",
        f"{' & '.join(map(escape, header))} \\\\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{adjustbox}",
        *(f"\\par\\smallskip\\raggedright\\footnotesize {escape(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Plain text as LaTeX shows it."""
    # An opening bracket that begins a cell after `\\` would be taken for that command's argument.
    escaped = re.sub(".", lambda match: _SPECIAL.get(match[0], match[0]), text.replace("\n", " "))
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith("[") else escaped
