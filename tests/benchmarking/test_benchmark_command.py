import json
import time

import pytest

from neuro_ssl.benchmarking.measurement import Measurement, measure
from neuro_ssl.benchmarking.table import ratios
from tests.conftest import IXI


def test_measure_is_the_median_a_unit():
    calls = iter([0.5, 0.02, 0.02, 0.2, 0.02, 0.02])  # the first does not count
    result = measure(lambda: time.sleep(next(calls)), units=2, min_seconds=0, least=5)
    assert result["repetitions"] == 5 and result["seconds"] == pytest.approx(0.01, abs=0.005)
    assert result["low"] <= result["seconds"] < result["high"] == pytest.approx(0.1, abs=0.02)


def test_ratios_compare_like_with_like():
    def row(part, side, seconds, what=""):
        return Measurement(part, what, side, seconds, "scan", seconds, seconds, 1)

    rows = [row("loader", "neuro_ssl", 0.01), row("loader", "reference", 0.3)]
    assert ratios(rows) == ["reading a scan: 30.0× less time on a core"]
    rows += [row("views", "neuro_ssl", 0.1, "kaczmarek2025"), row("views", "neuro_ssl", 9, "standard")]
    lines = ratios([*rows, row("views", "reference", 0.5)])
    assert "80× less than the reference" in lines[2] and "7.3× less" in lines[3]


def test_the_command_measures_both_sides(command, tmp_path, capsys):
    scan, mask = IXI / "IXI206-HH-1650_T1.nii.gz", IXI / "masks" / "IXI206-HH-1650_mask.nii.gz"
    command(
        *("benchmark", f"image='{scan}'", f"mask='{mask}'", f"output='{tmp_path}'", "grid=8mm"),
        *("step_grid=16mm", "encoder.width=8", "device=cpu", "min_seconds=0.01", "n_steps=2", "n_scans=3"),
        *("batch_size=2", "micro_batch_size=1", "num_workers=0", "loss_sizes=[[64,8]]"),
    )
    out = capsys.readouterr().out
    content = json.loads((tmp_path / "benchmark.json").read_text())
    rows = content["measurements"]
    assert {row["part"] for row in rows} == {"loader", "views", "loss", "step", "end_to_end"}
    for part in ("loader", "views", "end_to_end"):
        assert {row["side"] for row in rows if row["part"] == part} == {"neuro_ssl", "reference"}
    assert all(0 < row["low"] <= row["seconds"] <= row["high"] and row["repetitions"] > 0 for row in rows)
    assert all(0 <= row["waiting"] <= 1 for row in rows if row["part"] == "end_to_end")
    assert all(row["peak_mb"] > 0 for row in rows if row["part"] in ("loss", "step"))
    page = (tmp_path / "benchmark.md").read_text()
    assert all(line in page and line in out for line in content["ratios"]) and len(content["ratios"]) == 8
    assert content["commit"] and content["settings"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parts=[loader,lunch]", "parts: 'lunch' is none of loader, views, loss, step, end_to_end"),
        ("device=tpu", "device must be auto, cpu or cuda, got 'tpu'"),
        ("loss_sizes=[[4]]", "loss_sizes must be pairs and widths such as [[1024, 64]], got [[4]]"),
        ("n_scans=1", "n_scans must be at least 2, got 1"),
        ("num_workers=-1", "num_workers must be at least 0, got -1"),
        ("step_grid=fine", "'fine'"),
        ("encoder=sfcn", "SFCN takes volumes of at least 32×32×32 voxels"),
        ("n_steps=0", "n_steps must be at least 1, got 0"),
        ("mask=a.nii.gz", "mask is given without an image"),
        ("image=missing.nii.gz", "missing.nii.gz"),
    ],
)
def test_wrong_arguments_are_named(command, tmp_path, capsys, override, message):
    with pytest.raises(SystemExit):
        command("benchmark", f"output='{tmp_path / 'b'}'", "device=cpu", "grid=16mm", override)
    shown = capsys.readouterr()
    assert message in shown.err
    assert "…" not in shown.out  # nothing was measured
    assert not (tmp_path / "b").exists()
