import re
import shutil
import subprocess

import pytest

from neuro_ssl.reporting.latex import PREAMBLE, latex_table, together

# What TeX shows, written the other way round than the code does it.
COMMANDS = {
    **{r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textbar{}": "|"},
    **{r"\textless{}": "<", r"\textgreater{}": ">", "''": '"', "$^2$": "²", r"$\rho$": "ρ", "$-$": "−"},
    **{r"\%": "%", r"\&": "&", r"\_": "_", r"\#": "#", r"\{": "{", r"\}": "}", r"\$": "$", "---": "—", "--": "–"},
    "{[}": "[",
}
TEX = re.compile("|".join(map(re.escape, sorted(COMMANDS, key=len, reverse=True))))
HEADER = ["Model", "R²", "Spearman ρ", "100 %_# of all of these"]
ROWS = [[r"a_b & c\d{e}", "0.12\n[−0.30, 0.42]", "^~", "$5"], ["[x]", "20–30", '<"|">', "n/a"]]


def table():
    return latex_table(
        HEADER, ROWS, caption="50 % of {it}", label="tab:x", notes=["* p < 0.05", "“so”"], rules_before={1}
    )


def shown(cell):
    several = re.fullmatch(r"\\makecell\[[tb][lc]\]{(.*)}", cell)
    lines = several[1].split(r"\\") if several else [cell]
    return "\n".join(
        TEX.sub(lambda match: COMMANDS[match[0]], re.sub(r"{\\footnotesize (.*)}", r"\1", x)) for x in lines
    )


def test_a_table_has_the_cells_that_were_put_in_and_nothing_open():
    lines = table().splitlines()
    start = lines.index(r"\toprule")
    body = [line for line in lines[start + 1 : lines.index(r"\bottomrule")] if line.endswith(r" \\")]
    cells = [[shown(cell) for cell in line.removesuffix(r" \\").split(" & ")] for line in body]
    cells[1] = [" & ".join(cells[1][:-3]), *cells[1][-3:]]  # the ampersand that is text is \&
    cells[0] = [heading.replace("\n", " ") for heading in cells[0]]
    assert cells == [HEADER, *ROWS]
    rules = [r"\toprule", r"\midrule", r"\midrule", r"\bottomrule"]
    assert [line for line in lines if line.endswith("rule")] == rules
    assert lines[lines.index(r"\bottomrule") - 2] == r"\midrule"
    assert r"\caption{50 \% of \{it\}}" in lines
    assert lines[-3].endswith(r"* p \textless{} 0.05")
    bare = re.sub(r"\\\\|\\[{}$&]", "", table())
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    opened = re.findall(r"\\begin{(\w+)}", bare)
    assert opened == re.findall(r"\\end{(\w+)}", bare)[::-1] == ["table", "adjustbox", "tabular"]
    with pytest.raises(ValueError, match="4 columns, but a row of 1 cells"):
        latex_table(HEADER, [["a"]], caption="", label="")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs, adjustbox and makecell")
def test_latex_compiles_it(tmp_path):
    packages = re.search(r"\\usepackage{booktabs[^}]*}", PREAMBLE)[0]
    document = "\n".join([r"\documentclass{article}", packages, r"\begin{document}", table(), r"\end{document}"])
    (tmp_path / "table.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "table.log").read_text()


def test_labels_in_one_file_are_unique():
    names = ["tab:sex", "tab:sex", "tab:sex-2", "tab:sex", "tab:age"]
    text = together([latex_table(["a"], [["b"]], caption="c", label=name) for name in names])
    labels = re.findall(r"\\label\{(.*)\}", text)
    assert labels == ["tab:sex", "tab:sex-2", "tab:sex-2-2", "tab:sex-3", "tab:age"]
