from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from neuro_ssl.reporting.panel import Panel, annotate

SVG = "{http://www.w3.org/2000/svg}"


def drawn(figure, folder=None):
    panel = Panel("name", "alt", "caption", figure)
    if folder:
        panel.write(folder)
    return ElementTree.fromstring(panel.html)


def marks(root):
    return {e.get("data-tip"): (float(e.get("cx")), float(e.get("cy"))) for e in root.iter(f"{SVG}circle")}


@pytest.mark.parametrize("kind", ["scatter", "markers", "bare line", "errorbar"])
def test_each_point_has_its_own_tip_where_it_is_drawn(kind):
    x, y = np.array([1.0, 2, np.nan, 4, 5]), np.array([10.0, 1000, 10, 100, 1e9])
    figure = Figure(figsize=(4, 3), layout="constrained", dpi=130)
    axes = figure.subplots()
    axes.set(yscale="log")
    artist = {
        "scatter": lambda: axes.scatter(x, y, c=[1, 2, 3, 4, 5]),
        "markers": lambda: axes.plot(x, y, "o")[0],
        "bare line": lambda: axes.plot(x, y)[0],
        "errorbar": lambda: axes.errorbar(x, y, yerr=1, fmt="o"),
    }[kind]()
    corners = axes.plot([0, 0, 6, 6], [1, 1e4, 1e4, 1], "k.", clip_on=False)[0]
    axes.set(xlim=(0, 6), ylim=(1, 1e4))
    annotate(artist, tips=[f"point {value}" for value in x])
    annotate(corners, tips=["lower left", "upper left", "upper right", "lower right"])
    root = drawn(figure)
    assert root.get("viewBox") == "0 0 288 216"
    found = marks(root)
    (left, bottom), (right, top) = found["lower left"], found["upper right"]
    at = {t: ((px - left) / (right - left) * 6, (py - bottom) / (top - bottom) * 4) for t, (px, py) in found.items()}
    for value, expected in {"1.0": (1, 1), "2.0": (2, 3), "4.0": (4, 2)}.items():
        assert at[f"point {value}"] == pytest.approx(expected, abs=0.02)
    assert set(at) & {"point nan", "point 5.0"} == set()  # not there, and out of the axes
    # Independently of how they were computed: matplotlib itself draws its markers at the corners there.
    drawn_at = [(float(e.get("x")), float(e.get("y"))) for e in root.iter(f"{SVG}use") if e.get("x")]
    for corner in ((left, bottom), (right, top)):
        assert min(np.hypot(*np.subtract(corner, place)) for place in drawn_at) < 0.1


def test_series_areas_bars_and_legends(tmp_path):
    figure = Figure()
    axes = figure.subplots()
    for name, height in (("a & b", 1), ("c", 2)):
        (line,) = axes.plot([0, 1], [0, height], label=f"{name}: 0.9")
        annotate(line, series=name)
        annotate(axes.fill_between([0, 1], [0, 0], [1, height], alpha=0.2), tips=[f"band of {name}"], series=name)
    bars = axes.bar([3, 4], [1, 2])
    annotate(bars, tips=["first", "second"])
    axes.legend()
    root = drawn(figure, tmp_path)
    series = [e.get("data-series") for e in root.iter() if e.get("data-series")]
    assert sorted(series) == ["a & b"] * 4 + ["c"] * 4  # line, band, and the legend's handle and text
    tips = [e.get("data-tip") for e in root.iter() if e.get("data-tip")]
    assert sorted(tips) == ["band of a & b", "band of c", "first", "second"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["name.pdf", "name.png", "name.svg"]
    plain = (tmp_path / "name.svg").read_text()
    assert "note-" not in plain and "data-" not in plain and "<circle" not in plain
    with pytest.raises(ValueError, match="3 tips for 2 points"):
        annotate(line, tips=["1", "2", "3"])
