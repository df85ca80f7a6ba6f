"""Pictures of features: from evaluations' results and files of `embed` to figures on the page."""

import json
import re
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from matplotlib.colors import to_hex
from sklearn.neighbors import KNeighborsClassifier

import neuro_ssl.reporting.embeddings.section as embeddings
from neuro_ssl.errors import InputError
from neuro_ssl.reporting.embeddings import encoded, projections
from neuro_ssl.reporting.embeddings.section import embedding_sections
from neuro_ssl.reporting.panel import COLOURS

N = 12


def scans_of(n=N):
    i = np.arange(n)
    return pd.DataFrame(
        {
            "scan_id": [f"secret-{k}" for k in i],
            "subject_id": [f"own/secret-{k // 2}" for k in i],
            "split": np.where(i % 2, "val", "test"),
            "age_years": np.where(i == 3, np.nan, 20.0 + 5 * i),
            "sex": np.array(["F", "M"])[i % 2],
            "site": np.array(["north", "south", "west"])[i % 3],
            "scanner": np.array(["n1", "s1", "w1"])[i % 3],
        }
    )


def features_of(seed, width=6, n=N):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def evaluation(folder, models, finished="2026-01-01", simulated=True):
    """Results as `evaluate` leaves them; `models`: name to (role, features)."""
    folder.mkdir(parents=True)
    record = {"finished": finished, "data": {"own": {"simulated": simulated}}}
    (folder / "evaluation.yaml").write_text(yaml.safe_dump(record))
    parts = [
        scans_of(len(features)).assign(
            model=name, role=role, cohort="own", n_held_out=len(features), features=list(features)
        )
        for name, (role, features) in models.items()
    ]
    pd.concat(parts, ignore_index=True).to_parquet(folder / "features.parquet")
    return folder


def embedded(file, features, weights="ours", seen=False, **about):
    """A file as `embed` writes it."""
    labels = scans_of(len(features)).assign(seen_in_training=pd.array(np.broadcast_to(seen, len(features)), "boolean"))
    table = pa.Table.from_pandas(labels, preserve_index=False)
    for i, column in enumerate(features.T):
        table = table.append_column(f"f{i}", pa.array(column))
    made_by = {"weights": weights, "store": {"cohort": "own"}}
    metadata = {**table.schema.metadata, b"neuro_ssl": json.dumps({"made_by": made_by, **about}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), file)
    return str(file)


def cells_of(panel):
    """Of each row of the figure, the axes of its cells."""
    cells = [axes for axes in panel.image.axes if axes.get_subplotspec()]
    n_columns = cells[0].get_subplotspec().get_gridspec().ncols
    return [cells[i : i + n_columns] for i in range(0, len(cells), n_columns)]


def drawn(axes):
    """All points of a cell, in any order."""
    points = [line.get_xydata() for line in axes.lines] + [np.asarray(c.get_offsets()) for c in axes.collections]
    return np.array(sorted(map(tuple, np.concatenate(points))))


def test_rows_are_encoders_and_columns_colourings_of_principal_components(tmp_path):
    models = {"untrained": ("untrained", features_of(0)), "ours": ("pretrained", features_of(1, width=9))}
    (section,) = embedding_sections([evaluation(tmp_path / "results-1", models)], projections=["pca"])
    (panel,) = section.panels
    rows = cells_of(panel)
    assert [axes.get_title() for axes in rows[0]] == ["Age (years)", "Sex", "Site"]  # a site has one scanner
    for (_, features), (name, row) in zip(models.values(), zip(models, rows, strict=True), strict=True):
        x = features.astype(float) - features.mean(axis=0, dtype=float)
        u, s, _ = np.linalg.svd(x, full_matrices=False)
        share = s**2 / (s**2).sum()
        assert row[0].get_ylabel() == f"{name}\nPC 2 ({100 * share[1]:.0f} %)"
        assert row[0].get_xlabel() == f"PC 1 ({100 * share[0]:.0f} %)"
        for axes in row:
            found = drawn(axes)
            # A component's sign is free.
            signs = [np.array([a, b]) for a in (-1, 1) for b in (-1, 1)]
            expected = [np.array(sorted(map(tuple, u[:, :2] * s[:2] * sign))) for sign in signs]
            assert any(np.allclose(found, points, atol=1e-6) for points in expected)
    assert section.simulated == ["own"] and "12 scans of 6 subjects" in section.content["clouds"][0].about


def test_colours_are_the_labels(tmp_path):
    (section,) = embedding_sections(
        [evaluation(tmp_path / "results-1", {"ours": ("pretrained", features_of(0))})], projections=["pca"]
    )
    ((age, sex, site),) = cells_of(section.panels[0])
    (points,) = age.collections
    expected = scans_of()["age_years"].dropna()
    scaled = (expected - 20) / 55
    np.testing.assert_allclose(points.get_facecolors()[:, :3], mpl.colormaps["cividis"](scaled.to_numpy())[:, :3])
    (unknown,) = age.lines
    assert len(unknown.get_xdata()) == 1
    by_label = {line.get_label(): line for line in [*sex.lines, *site.lines]}
    assert {label: len(line.get_xdata()) for label, line in by_label.items()} == {
        **{"F": 6, "M": 6},
        **{"north": 4, "south": 4, "west": 4},
    }
    assert len({(to_hex(line.get_color()), line.get_marker()) for line in site.lines}) == 3
    assert {to_hex(line.get_color()).upper() for line in site.lines} <= set(COLOURS)
    tips = re.findall(r'data-tip="([^"]*)"', section.panels[0].html)
    assert len(tips) == 3 * N and "Split test, 20 years, F, Site north, Scanner n1" in tips
    assert "secret" not in section.panels[0].html


def test_rare_sites_are_one_colour_and_the_rest_have_their_own():
    from neuro_ssl.reporting.embeddings.figures import PALETTE, _levels

    values = pd.Series([f"site {k:02d}" for k in range(20) for _ in range(20 - k)])
    levels = _levels(values)
    assert [name for name, *_ in levels] == [f"site {k:02d}" for k in range(len(PALETTE) - 1)] + ["other"]
    assert len({colour for _, colour, _ in levels}) == len({marker for *_, marker in levels}) == len(levels)


def test_each_set_of_scans_is_shown_once_and_names_that_mean_two_things_are_told_apart(tmp_path):
    same = ("pretrained", features_of(0))
    results = [
        evaluation(tmp_path / "results-1", {"ours": same}),
        evaluation(tmp_path / "results-2", {"ours": same, "theirs": ("pretrained", features_of(1))}),
        evaluation(tmp_path / "results-3", {"ours": ("pretrained", features_of(2))}),
        evaluation(tmp_path / "results-4", {"not": same, "finished": same}, finished=None),
        evaluation(tmp_path / "results-5", {"fewer": ("pretrained", features_of(3, n=6))}),
        evaluation(tmp_path / "results-6", {"of an earlier version": same}),
    ]
    (results[-1] / "features.parquet").unlink()
    (section,) = embedding_sections(results, projections=["pca"])
    names = [[row[0].get_ylabel().split("\nPC")[0] for row in cells_of(panel)] for panel in section.panels]
    assert names == [["ours", "theirs", "ours (results-3)"], ["fewer"]]
    assert embedding_sections(results[-1:]) == []


def test_image_statistics_of_different_units_count_alike(tmp_path):
    features = features_of(0) * [1000, 1, 1, 1, 1, 1]
    (section,) = embedding_sections(
        [evaluation(tmp_path / "results-1", {"volume": ("image_statistics", features)})], projections=["pca"]
    )
    share = re.search(r"PC 1 \((\d+) %\)", cells_of(section.panels[0])[0][0].get_xlabel())
    assert int(share.group(1)) < 60


def test_what_an_encoder_was_trained_on_is_hollow_and_said(tmp_path):
    seen = np.arange(N) < 5
    files = [
        embedded(tmp_path / "a.parquet", features_of(0), seen=seen, simulated=True),
        embedded(tmp_path / "b.parquet", features_of(1), weights="theirs", seen=pd.NA),
        embedded(tmp_path / "c.parquet", features_of(2), weights="new"),
    ]
    (section,) = embedding_sections([], files, ["pca"])
    (panel,) = section.panels  # of the same scans
    for row, n_hollow in zip(cells_of(panel), (5, 0, 0), strict=True):
        hollow = [line for line in row[1].lines if line.get_markerfacecolor() == "none"]
        assert sum(len(line.get_xdata()) for line in hollow) == n_hollow
    assert "Hollow: scans or persons that the encoder was trained on" in panel.caption
    assert len(section.warnings) == 2 and section.simulated == ["own"]
    assert "ours was trained on 5 of these 12 scans" in section.warnings[0]
    assert "theirs doesn't say whom it was trained on" in section.warnings[1]


def test_of_many_scans_the_same_are_drawn_from_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "MAX_SCANS", 8)
    files = [embedded(tmp_path / f"{k}.parquet", features_of(k), weights=f"w{k}") for k in range(2)]
    (section,) = embedding_sections([], files, ["pca"])
    (panel,) = section.panels
    assert [len(drawn(row[1])) for row in cells_of(panel)] == [8, 8]
    assert "8 scans of" in section.content["clouds"][0].about
    assert "drawn at random (seed 0) from 12" in section.content["clouds"][0].about


def test_points_that_are_too_many_for_the_page_are_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "MAX_POINTED", 3 * N - 1)
    folder = evaluation(tmp_path / "results-1", {"ours": ("pretrained", features_of(0))})
    (section,) = embedding_sections([folder], projections=["pca"])
    assert "data-tip" not in section.panels[0].html and "<image" in section.panels[0].html


def test_many_encoders_are_several_figures(tmp_path):
    models = {f"encoder {k}": ("pretrained", features_of(k)) for k in range(8)}
    (section,) = embedding_sections([evaluation(tmp_path / "results-1", models)], projections=["pca"])
    names = [row[0].get_ylabel().split("\nPC")[0] for panel in section.panels for row in cells_of(panel)]
    assert names == list(models) and len(section.panels) == 2


def test_a_damaged_file_is_named(tmp_path):
    folder = evaluation(tmp_path / "results-1", {"ours": ("pretrained", features_of(0))})
    (folder / "features.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"results-1/features.parquet: unreadable \("):
        embedding_sections([folder], projections=["pca"])


def test_a_collapsed_encoder_is_one_point_and_no_error(tmp_path):
    folder = evaluation(tmp_path / "results-1", {"collapsed": ("pretrained", np.ones((N, 4), np.float32))})
    (section,) = embedding_sections([folder], projections=["pca"])
    ((axes, *_),) = cells_of(section.panels[0])
    assert axes.get_xlabel() == "PC 1 (n/a)" and not drawn(axes).any() and section.panels[0].html


def test_too_few_scans_are_said(tmp_path):
    folder = evaluation(tmp_path / "results-1", {"ours": ("pretrained", features_of(0, n=2))})
    (section,) = embedding_sections([folder], projections=["pca"])
    assert section.panels == [] and "2 are too few for PCA" in section.content["clouds"][0].about


def test_the_command_shows_a_file_and_names_what_is_wrong(tmp_path, command, capsys):
    file = embedded(tmp_path / "a.parquet", features_of(0), simulated=True)
    options = [f"runs_dir='{tmp_path}'", "runs=[]", "figures=[svg]"]
    command("report", *options, f"embeddings=['{file}']", "projections=[pca]")
    text = (tmp_path / "report" / "report.html").read_text()
    assert 'id="embeddings-own-pca"' in text and "from 1 file of features" in text and "secret" not in text
    assert "These data are simulated" in text
    assert [f.name for f in (tmp_path / "report" / "figures").iterdir()] == ["embeddings-own-pca.svg"]
    scans_of().to_parquet(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("text")
    diverged = features_of(0)
    diverged[3, 2] = np.nan
    for wrong, said in (
        ([f"embeddings=['{tmp_path / 'none.parquet'}']"], "none.parquet: no such file"),
        ([f"embeddings=['{tmp_path / 'other.parquet'}']"], "not a file of python -m neuro_ssl.embed"),
        ([f"embeddings=['{tmp_path / 'text.parquet'}']"], "not a file of python -m neuro_ssl.embed"),
        ([f"embeddings=['{embedded(tmp_path / 'nan.parquet', diverged)}']"], "features that are no numbers"),
        ([f"embeddings=['{file}']", "projections=[tsne]"], "projections=[tsne]: not among pca, umap"),
    ):
        with pytest.raises(SystemExit):
            command("report", *options, *wrong)
        assert said in capsys.readouterr().err


def test_without_umap_the_page_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(projections, "find_spec", lambda name: None)
    folder = evaluation(tmp_path / "results-1", {"ours": ("pretrained", features_of(0))})
    (section,) = embedding_sections([folder])
    assert len(section.panels) == 1 and section.content["umap_extra"] == "pip install 'neuro_ssl[umap]'"
    with pytest.raises(InputError, match=r"umap needs pip install 'neuro_ssl\[umap\]'"):
        embedding_sections([folder], projections=["umap"])


@pytest.mark.slow  # numba compiles umap for half a minute
@pytest.mark.parametrize("n", [5, 8, 90])
def test_umap_keeps_neighbours_together_says_nothing_and_repeats_itself(n):
    group = np.arange(n) % 3
    features = features_of(0, n=n).astype(float) + 20 * np.eye(6)[group]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = projections.umap(features)
    assert found.points.shape == (n, 2) and np.isfinite(found.points).all() and found.shares is None
    np.testing.assert_array_equal(found.points, projections.umap(features).points)
    if n == 90:
        assert KNeighborsClassifier(5).fit(found.points, group).score(found.points, group) == 1
