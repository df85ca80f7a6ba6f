import re

import pytest

from neuro_ssl.reporting.latex import latex_table

# What TeX shows, written the other way round than the code does it.
COMMANDS = {
    **{r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textbar{}": "|"},
    **{r"\textless{}": "<", r"\textgreater{}": ">", r"\textquotedbl{}": '"', "$^2$": "²", r"$\rho$": "ρ", "$-$": "−"},
    **{r"\%": "%", r"\&": "&", r"\_": "_", r"\#": "#", r"\{": "{", r"\}": "}", r"\$": "$", "---": "—", "--": "–"},
    "{[}": "[",
}
TEX = re.compile("|".join(map(re.escape, sorted(COMMANDS, key=len, reverse=True))))


def shown(tex):
    return TEX.sub(lambda match: COMMANDS[match[0]], tex)


def test_a_table_has_the_cells_that_were_put_in_and_nothing_open():
    header = ["Model", "R²", "Spearman ρ", "100 %_#"]
    rows = [[r"a_b & c\d{e}", "0.12 [−0.30, 0.42]", "^~", "$5"], ["[x]", "20–30", '<"|">', "n/a"]]
    text = latex_table(header, rows, caption="50 % of {it}", label="tab:x", notes=["* p < 0.05"], rules_before={1})
    lines = text.splitlines()
    start = lines.index(r"\toprule")
    body = [line for line in lines[start + 1 : lines.index(r"\bottomrule")] if not line.endswith("rule")]
    cells = [[shown(cell) for cell in line.removesuffix(r" \\").split(" & ")] for line in body]
    cells[1] = [" & ".join(cells[1][:-3]), *cells[1][-3:]]  # the ampersand that is text is \&
    assert cells == [header, *rows]
    assert [line for line in lines[start:] if line.endswith("rule")] == [
        r"\toprule",
        r"\midrule",
        r"\midrule",
        r"\bottomrule",
    ]
    assert lines[lines.index(r"\bottomrule") - 2] == r"\midrule"
    assert r"\caption{50 \% of \{it\}}" in lines
    assert lines[-2].endswith(r"* p \textless{} 0.05")
    bare = re.sub(r"\\[{}$&]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    opened = re.findall(r"\\begin{(\w+)}", text)
    assert opened == re.findall(r"\\end{(\w+)}", text)[::-1] == ["table", "adjustbox", "tabular"]
    with pytest.raises(ValueError, match="4 columns, but a row of 1 cells"):
        latex_table(header, [["a"]], caption="", label="")
