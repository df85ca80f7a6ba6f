"""Tables for papers: LaTeX with booktabs, each with caption, label and notes."""

import re
import textwrap
from collections.abc import Collection, Sequence
from itertools import count

PREAMBLE = (
    "% \\input this file; in the preamble: \\usepackage{booktabs,adjustbox,makecell} and, before TeX Live 2018, "
    "\\usepackage[utf8]{inputenc}\n"
)
END = r"\\"  # of a row
SMALL = r"\footnotesize"
HEADING_WIDTH = 16  # characters
_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        '"': "''",
        "“": "``",
        "”": "''",
        "–": "--",
        "—": "---",
    },
    **{"−": "$-$", "×": r"$\times$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$", "…": r"\ldots{}"},
    **{"→": r"$\rightarrow$", "°": r"$^\circ$", "∝": r"$\propto$", "’": "'"},
    **{
        "²": "$^2$",
        "³": "$^3$",
        "ρ": r"$\rho$",
        "τ": r"$\tau$",
        "α": r"$\alpha$",
        "κ": r"$\kappa$",
        "λ": r"$\lambda$",
        "σ": r"$\sigma$",
    },
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
        rows: cells as plain text, as many as the header has; LaTeX's special characters are escaped. Lines after a
            cell's first are set smaller.
        caption: above the table.
        label: for `\\ref`, such as `tab:brain-age`.
        notes: below it, a line each.
        rules_before: the rows above which a thin line separates groups.

    Raises:
        ValueError: a row has another number of cells than the header.
    """
    if odd := [row for row in rows if len(row) != len(header)]:
        raise ValueError(f"{len(header)} columns, but a row of {len(odd[0])} cells: {odd[0]}")
    headings = [[escape(line) for line in textwrap.wrap(text, HEADING_WIDTH)] for text in header]
    body = []
    for i, row in enumerate(rows):
        if i:
            body.append(r"\midrule" if i in rules_before else r"\addlinespace")
        cells = [[escape(line) for line in cell.split("\n")] for cell in row]
        body.append(_row([[first, *(f"{{{SMALL} {line}}}" for line in more)] for first, *more in cells], "t"))
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        f"\\caption{{{escape(caption)}}}",
        f"\\label{{{label}}}",
        r"\begin{adjustbox}{max width=\textwidth}",
        f"\\begin{{tabular}}{{@{{}}l{'c' * (len(header) - 1)}@{{}}}}",
        r"\toprule",
        _row(headings, "b"),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{adjustbox}",
        *(f"\\par\\smallskip\\raggedright\\footnotesize {escape(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def together(tables: Sequence[str]) -> str:
    """A file of several tables; later ones of one label are numbered: `tab:sex-ixi-2`."""
    taken: set[str] = set()

    def apart(match: re.Match[str]) -> str:
        label = match[1]
        if label in taken:
            label = next(name for i in count(2) if (name := f"{match[1]}-{i}") not in taken)
        taken.add(label)
        return f"\\label{{{label}}}"

    return PREAMBLE + "\n" + "\n".join(re.sub(r"\\label\{(.*)\}", apart, table) for table in tables)


def _row(cells: Sequence[Sequence[str]], align: str) -> str:
    """Cells of a line each, or of several, which are aligned at the top or bottom."""
    texts = []
    for lines, side in zip(cells, "l" + "c" * len(cells), strict=False):
        texts.append(lines[0] if len(lines) == 1 else f"\\makecell[{align}{side}]{{{END.join(lines)}}}")
    return f"{' & '.join(texts)} {END}"


def escape(text: str) -> str:
    """Plain text as LaTeX shows it."""
    # An opening bracket that begins a cell after `\\` would be taken for that command's argument.
    escaped = re.sub(".", lambda match: _SPECIAL.get(match[0], match[0]), text.replace("\n", " "))
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith("[") else escaped
