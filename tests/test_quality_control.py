"""Quality control through its command, on the four real heads and noisy copies of them."""

import re

import numpy as np
import pandas as pd
import pytest

from neuro_ssl.data.exclusions import read_exclusions
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.store_writer import StoreWriter


@pytest.fixture
def quality(command, capsys):
    def run(folder, cohort, *overrides):
        options = ["dataset=csv", f"dataset.cohort={cohort}", "grid=8mm", f"data_dir={folder}", "n_jobs=1"]
        command("quality", *options, *overrides)
        return capsys.readouterr().out

    return run


@pytest.fixture
def copies(real_brains, tmp_path):
    """Four subjects, each with three noisy copies of a real head; the last scan measured as very noisy and turned."""
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    writer = StoreWriter(tmp_path / "stores" / "many", store.grid, store.info["preprocessing"])
    rng, rows = np.random.default_rng(0), []
    for i in range(12):
        row = store.manifest.iloc[i % 4]
        volume = store.read(row["volume"]).astype(np.float32)
        volume = np.where(volume > 0, np.clip(volume + rng.normal(0, 0.05, volume.shape), 0.01, None), 0)
        source = tmp_path / f"{i}.nii.gz"
        source.write_text(str(i))  # no image any more: the page must do without
        measurements = {"brain_ml": row["brain_ml"], "noise": 0.05 + i / 1000, "rotation_degrees": i, "entropy": 0.5}
        if i == 11:
            measurements |= {"noise": 0.3, "rotation_degrees": 90, "entropy": 0.9}
        writer.write(f"sub-{i:02d}", volume.astype(np.float16), measurements, np.eye(4), [str(source)])
        rows.append({"scan_id": f"sub-{i:02d}", "subject_id": f"many/{i % 4}", "image_path": str(source)})
    writer.finish(pd.DataFrame(rows).assign(cohort="many", split="train"), "many", False)
    return tmp_path


def test_real_heads(quality, real_brains):
    out = quality(real_brains, "ixi")
    assert re.match(r"\d of 4 scans are flagged\n", out)
    assert "not checked: left and right swapped, which needs a cohort of 20 scans" in out
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    assert f"page: {store.path / 'quality.html'}" in out
    table = pd.read_csv(store.path / "quality.csv")
    assert sorted(table["scan_id"]) == store.manifest["scan_id"].tolist()
    assert table["dice"].between(0.8, 1).all() and table["template_correlation"].between(0.2, 1).all()
    page = (store.path / "quality.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == 4
    assert "the stripped volume" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # nothing from elsewhere


def test_a_flagged_scan_is_first_and_excluded_on_demand(quality, copies):
    out = quality(copies, "many")
    assert re.search(r"^  sub-11: rotation_degrees 90 above .*; noise 0.3 above .*; entropy 0.9 above", out, re.M)
    store_dir = copies / "stores" / "many"
    assert read_exclusions(store_dir) == {}
    (page,) = store_dir.glob("*/quality.html")
    scans = re.findall(r'<th scope="row" data-value="(.*?)">', page.read_text())
    assert len(scans) == 12 and scans[0] == "sub-11"
    assert page.read_text().count("the stripped volume") == 12

    n_flagged = int(re.match(r"(\d+) of 12", out)[1])
    assert f"{n_flagged} scans were added" in quality(copies, "many", "exclude_flagged=true")
    excluded = read_exclusions(store_dir)
    assert len(excluded) == n_flagged and excluded["sub-11"].startswith("quality control: ")
    out = quality(copies, "many", "exclude_flagged=true")
    assert f"0 of {12 - n_flagged} scans are flagged; {n_flagged} more are excluded" in out
    scans = re.findall(r'<th scope="row" data-value="(.*?)">', page.read_text())
    assert set(scans[-n_flagged:]) == set(excluded)  # excluded ones last, still to be seen


def test_a_large_cohort_shows_a_sample(quality, copies, monkeypatch):
    monkeypatch.setattr("neuro_ssl.reporting.quality.page.MOST_SHOWN", 6)
    monkeypatch.setattr("neuro_ssl.reporting.quality.page.UNFLAGGED_SHOWN", 3)
    quality(copies, "many")
    (page,) = copies.glob("stores/many/*/quality.html")
    text = page.read_text()
    assert "Of 12 scans this page shows 6" in text
    assert 'data-value="sub-11"' in text


@pytest.mark.parametrize(
    ("override", "message"),
    [("grid=2mm", "no volume store of cohort ixi on grid 2mm"), ("n_jobs=0", "n_jobs must be at least 1")],
)
def test_refuses(quality, real_brains, capsys, override, message):
    with pytest.raises(SystemExit):
        quality(real_brains, "ixi", override)
    assert message in capsys.readouterr().err
