import base64
import gzip
import json
import re
from datetime import datetime

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from fake_explanations import LEFT_HIPPOCAMPUS_MM, RUN, write_explanation
from scipy import ndimage

from neuro_ssl.errors import InputError
from neuro_ssl.reporting.explanations import volumes as viewer_volumes
from neuro_ssl.reporting.explanations.section import explanation_sections, niivue
from neuro_ssl.reporting.page import render


def by_scipy(file, like):
    """A volume on the pixels that it is shown on, and smoothed as it is shown: full width at half maximum 8 mm."""
    image = nib.load(file)
    step = np.linalg.inv(image.affine) @ like.affine
    fine = ndimage.affine_transform(image.get_fdata(), step[:3, :3], step[:3, 3], like.shape, order=1)
    return fine, ndimage.gaussian_filter(fine, 8 / 2 / np.sqrt(2 * np.log(2)) / 2, mode="nearest")


def volume(text):
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_the_viewers_volume_is_the_map_in_place(tmp_path):
    folder = write_explanation(tmp_path, grid="4mm")
    attribution, background = viewer_volumes.viewer_volumes(folder)
    shown = volume(attribution["data"])
    assert nib.aff2axcodes(shown.affine) == ("R", "A", "S")
    assert np.array_equal(nib.affines.voxel_sizes(shown.affine), [2, 2, 2])
    brain, _ = by_scipy(folder / "background.nii.gz", shown)
    _, values = by_scipy(folder / "mean.nii.gz", shown)
    limit = np.percentile(np.abs(values)[brain > 0.35], 99.5)
    assert attribution["limit"] == pytest.approx(limit, rel=1e-3)
    difference = shown.get_fdata() * limit / 127 - np.clip(values, -limit, limit)
    assert np.abs(difference).max() <= limit / 127 / 2 * 1.1
    assert np.abs(np.subtract(attribution["peak_mm"], LEFT_HIPPOCAMPUS_MM)).max() <= 2
    assert np.array_equal(volume(background).get_fdata() > 0, brain > 0.35)  # it has no holes


def test_thresholds_leave_as_many_voxels_as_they_say(tmp_path):
    folder = write_explanation(tmp_path)
    brain = nib.load(folder / "background.nii.gz")
    values = np.random.default_rng(0).normal(size=brain.shape).astype(np.float32)
    nib.save(nib.Nifti1Image(values, brain.affine), folder / "mean.nii.gz")
    attribution, background = viewer_volumes.viewer_volumes(folder)
    background = volume(background)
    inside = np.abs(by_scipy(folder / "mean.nii.gz", background)[1][background.get_fdata() > 0])
    for share, level in attribution["thresholds"]:
        shown = 100 * np.mean(inside >= level * attribution["limit"] / 127)
        assert shown == pytest.approx(share, abs=2.5 if share == 100 else 0.2)  # what is below level 1 is not drawn


def test_a_map_of_zeros_shows_nothing(tmp_path):
    folder = write_explanation(tmp_path)
    brain = nib.load(folder / "background.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(brain.shape, np.float32), brain.affine), folder / "mean.nii.gz")
    attribution, _ = viewer_volumes.viewer_volumes(folder)
    assert not volume(attribution["data"]).get_fdata().any()
    assert all(level == 1 for _, level in attribution["thresholds"])


def test_what_lies_outside_the_brain_is_said_and_no_peak(tmp_path):
    folder = write_explanation(tmp_path, outside_brain=0.67)
    image = nib.load(folder / "mean.nii.gz")
    values = image.get_fdata()
    values[0, 0, 0] = 9
    nib.save(nib.Nifti1Image(values.astype(np.float32), image.affine), folder / "mean.nii.gz")
    (section,) = explanation_sections([folder])
    assert "67 % of the attribution lies outside the brain." in section.panels[0].caption
    assert section.warnings[0].startswith(f"Integrated gradients of {RUN} (predicted age (years)) lies")
    peak_mm = section.content["explained"][0].maps[0].volume["peak_mm"]
    assert np.abs(np.subtract(peak_mm, LEFT_HIPPOCAMPUS_MM)).max() <= 4  # half a voxel of the grid


def test_an_empty_map_of_the_untrained_network_is_said(tmp_path):
    folder = write_explanation(tmp_path, sanity_check={"n_scans": 2, "likeness": {"input": float("nan")}})
    (section,) = explanation_sections([folder])
    caption = section.panels[0].caption
    assert "The map of the untrained network is empty" in caption and "nan" not in caption


def test_fine_volumes_are_averaged_and_stay_where_they_are():
    values = np.random.default_rng(0).normal(size=(7, 6, 9))
    affine = nib.affines.from_matvec(np.diag([1.0, 1.0, 1.0]), [-98, -134, -72])
    means, coarse = viewer_volumes.coarser(values, affine)
    padded = torch.nn.functional.pad(torch.from_numpy(values)[None, None], (0, 1, 0, 0, 0, 1), mode="replicate")
    assert np.allclose(means, torch.nn.functional.avg_pool3d(padded, 2)[0, 0].numpy())
    assert np.allclose(coarse @ [0, 0, 0, 1], [-97.5, -133.5, -71.5, 1])
    assert np.allclose(nib.affines.voxel_sizes(coarse), 2)
    same, unchanged = viewer_volumes.coarser(values, np.diag([1.5, 1.5, 1.5, 1]))
    assert np.array_equal(same, values)
    assert np.array_equal(unchanged, np.diag([1.5, 1.5, 1.5, 1]))


def test_methods_of_one_run_share_a_viewer_and_runs_have_their_own(tmp_path, command):
    for method in ("occlusion", "integrated_gradients"):
        write_explanation(tmp_path, method)
    write_explanation(
        tmp_path, "grad_cam", run="probe", signed=False, output="logit of sex = M", n_scans=1, n_subjects=1
    )
    command("report", f"runs_dir={tmp_path}", "figures=[png]")
    page = (tmp_path / "report" / "report.html").read_text()
    viewers = [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page)]
    assert [[one["title"] for one in viewer["maps"]] for viewer in viewers] == [
        ["Integrated gradients", "Occlusion"],
        ["Grad-CAM"],
    ]
    assert [viewer["maps"][0]["signed"] for viewer in viewers] == [True, False]
    assert page.count("niivue-script") == 2  # the script, once, and who takes it
    assert page.count("Copyright (c) 2021, Niivue") == 1
    assert "These data are simulated:" in page
    assert "The explanations of probe show the brain of a single person" in page
    assert "Mean over 43 scans of 36 people (cohort simulated, test split, grid 8mm)." in page
    assert page.count("Attributions add up to what they explain but for 2.1 %.") == 1
    assert page.count("Rank correlation with the map of the untrained network: 0.23") == 3
    assert len(list((tmp_path / "report" / "figures").glob("explanation-*.png"))) == 3


def test_two_maps_by_one_method_are_told_apart(tmp_path):
    folders = [write_explanation(tmp_path / name) for name in "ab"]
    other = folders[1].rename(folders[1].with_name("integrated_gradients-4567cdef"))
    (section,) = explanation_sections([folders[0], other])
    (group,) = section.content["explained"]
    labels = ["Integrated gradients (0123abcd)", "Integrated gradients (4567cdef)"]
    assert [one["title"] for one in group.viewer["maps"]] == labels
    assert [panel.caption.partition(" (n ")[0] for panel in section.panels] == labels


def test_commands_are_shown_without_ids_of_scans(tmp_path):
    command = "python -m neuro_ssl.explain max_scans=3 'scans=[sub-0001_ses-01, sub-0002]' methods=[grad_cam]"
    (section,) = explanation_sections([write_explanation(tmp_path, command=command)])
    page = render([section], datetime(2025, 1, 2))
    assert "sub-0001" not in page and "sub-0002" not in page
    assert "max_scans=3 &#39;scans=[…]&#39; methods=[grad_cam]" in page


def test_what_there_is_no_room_for_is_named(tmp_path):
    folders = [write_explanation(tmp_path, method) for method in ("integrated_gradients", "occlusion")]
    picture = len((folders[0] / "figure.png").read_bytes()) * 4 // 3
    for budget, n_figures, lines in (
        (2 * picture + 100, 2, ["predicted age (years) in 3D"]),
        (picture + 100, 1, ["Occlusion, predicted age (years)", "predicted age (years) in 3D"]),
    ):
        (section,) = explanation_sections(folders, budget)
        assert len(section.panels) == n_figures
        assert [line.partition(":")[0] for line in section.content["left_out"]] == lines
        assert section.content["niivue"] is None


def test_no_explanations_no_section():
    assert explanation_sections([]) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "figure.png").unlink(), "figure.png: unreadable .*explain again"),
        (lambda f: (f / "mean.nii.gz").write_bytes(b"no"), "mean.nii.gz: unreadable .*explain again"),
        (lambda f: shortened(f / "mean.nii.gz"), "mean.nii.gz: unreadable .*explain again"),
        (lambda f: (f / "explanation.yaml").write_text(yaml.safe_dump({"method": "m"})), "settings: Field required"),
        (lambda f: (f / "explanation.yaml").write_text("[1"), "explanation.yaml: unreadable"),
        (lambda f: save(f / "background.nii.gz", np.ones((3, 3, 3))), "is not of the grid of mean.nii.gz"),
        (lambda f: save(f / "mean.nii.gz", np.full((3, 3, 3), np.nan)), "not a volume of finite numbers"),
    ],
)
def test_a_broken_explanation_is_one_line(tmp_path, change, message):
    folder = write_explanation(tmp_path)
    change(folder)
    with pytest.raises(InputError, match=message):
        explanation_sections([folder])


def shortened(file):
    file.write_bytes(file.read_bytes()[:400])


def save(file, values):
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), file)


def test_runs_selects_explanations_too(tmp_path, command):
    for run in (RUN, "probe"):
        write_explanation(tmp_path, run=run)
    command("report", f"runs_dir={tmp_path}", f"runs=[explanations/{RUN}]", "figures=[]")
    assert "probe" not in (tmp_path / "report" / "report.html").read_text().partition("niivue-script")[0]


def test_a_nilearn_without_niivue_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(InputError, match="pip install 'nilearn>=0.14.1'"):
        niivue.__wrapped__()  # not from its cache
