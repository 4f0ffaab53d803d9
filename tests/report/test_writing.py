import csv
import math
import re
import shutil
import subprocess

import pytest

from tlx.report import writing
from tlx.report.formats import Column, Table, sort_key, text
from tlx.results.stats import Interval

NASTY = r"50% & a_b #1 $x$ {y} ~z^ \w | <script> [k] * `c` __init__ … − Δ"
TABLE = Table(
    name="nasty",
    title="Title with 100% & more",
    columns=[
        Column(key="arm", label="Arm_1"),
        Column(key="value", label="accuracy", kind="interval", digits=3, with_n=True),
        Column(key="n", label="n", kind="share"),
        Column(key="p", label="p", kind="p"),
    ],
    rows=[
        [NASTY, Interval(value=0.5, low=0.4, high=0.6, n=5), (5, 5), 0.0004],
        ["[x]", Interval(value=math.nan, low=math.nan, high=math.nan, n=0), (0, 5), math.nan],
        ["line\nbreak", None, None, None],
    ],
    note="n_1 < 5%",
)


def unescaped(latex):
    """Characters that TeX would take for commands of its own, outside of our markup."""
    body = latex[latex.index(r"\toprule") : latex.index(r"\bottomrule")]
    body = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum|text\w+|ldots)\{\}", "", body)
    body = re.sub(r"\\[%&$#_{}]|\$(-|\\\w+)\$|\\(top|mid)rule|\\\\|\{\}", "", body)
    return set(body) & set("%#_$^~{}\\")


def test_latex_escapes_everything():
    made = writing.latex(TABLE, label="study_1-nasty")
    assert not unescaped(made)
    rows = made[made.index(r"\midrule") : made.index(r"\bottomrule")].splitlines()[1:]
    for row in [line for line in rows if line]:
        assert len(re.findall(r"(?<!\\)&", row)) == len(TABLE.columns) - 1
        assert row.endswith(r"\\")
        assert not row.startswith("[")  # an optional argument of the \\ before it
    assert made.count(r"\begin{") == made.count(r"\end{") == 2
    assert r"\label{tab:study-1-nasty}" in made


def test_the_check_of_latex_notices_what_is_not_escaped():
    assert unescaped("\\toprule a_b & 50% \\\\ \\bottomrule") == {"_", "%"}


def test_long_tables_break_over_pages():
    long = Table(name="t", title="t", columns=[Column(key="a", label="a")], rows=[["x"]] * 60)
    made = writing.latex(long, label="t")
    assert r"\begin{longtable}{l}" in made
    assert made.count(r"\begin{") == made.count(r"\end{") == 1


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_compiles(tmp_path):
    head = "\\documentclass{article}\\usepackage{booktabs,longtable}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(
        head + writing.latex(TABLE, label="t") + "\\end{document}\n", encoding="utf-8"
    )
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")


def test_markdown_keeps_its_columns():
    lines = [line for line in writing.markdown(TABLE).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(TABLE.rows)
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == len(TABLE.columns) + 1
    assert r"\<script>" in lines[2]
    assert "0.500 [0.400, 0.600] n=5" in lines[2]


def test_csv_and_parquet_hold_plain_numbers(tmp_path):
    paths = writing.write(tmp_path, TABLE, study="s")
    assert [path.suffix for path in paths] == [".csv", ".md", ".tex", ".parquet"]
    with open(tmp_path / "nasty.csv", encoding="utf-8", newline="") as file:
        first, second, third = csv.DictReader(file)
    assert first["arm"] == NASTY
    assert [float(first[k]) for k in ("value", "value_low", "value_high")] == [0.5, 0.4, 0.6]
    assert (first["n"], first["n_planned"], second["value"], third["p"]) == ("5", "5", "nan", "")
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(tmp_path / "nasty.parquet")
    assert frame["value"].tolist()[0] == 0.5
    assert str(frame["n_planned"].dtype).lower() in {"int64", "float64"}


def test_nan_and_none_are_told_apart():
    column = Column(key="a", label="a", kind="interval")
    assert text(column, None) == "–"
    assert text(column, Interval(value=math.nan, low=math.nan, high=math.nan, n=0)) == "–"
    assert text(Column(key="a", label="a", kind="number"), math.nan) == "NaN"
    assert sort_key(Interval(value=math.nan, low=0, high=0, n=1)) is None


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_text_that_a_spreadsheet_would_compute_is_quoted(text, tmp_path):
    columns = [Column(key="item", label="Item"), Column(key="=n", label="n", kind="number")]
    rows = [[text, -2.5], ["-0.5", 1.0], ["a=b", 2.0]]
    table = Table(name="errors", title="Errors", columns=columns, rows=rows, prose=False)
    (path, *_) = writing.write(tmp_path, table, study="s")
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["item", "'=n"]
    shown = text.replace("\r", "\n")
    assert rows == [[f"'{shown}", "-2.5"], ["-0.5", "1.0"], ["a=b", "2.0"]]
