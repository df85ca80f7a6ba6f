"""Planted regions against what the images of two lives differ in, made by the same simulation without noise."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from neuro_ssl.errors import InputError
from neuro_ssl.simulation import simulate_cohort
from neuro_ssl.simulation.atlas import load_atlas
from neuro_ssl.simulation.cohort import Session, Subject
from neuro_ssl.simulation.effects import TEACHING, RealisticEffects
from neuro_ssl.simulation.image import simulate_scan
from neuro_ssl.simulation.regions import REGIONS, PlantedCohort, planted_regions

SUBJECT = Subject(seed=0, index=0, sessions=(Session(60.0),), sex="F", diagnosis="CN", nihss=None)
STILL = replace(TEACHING, noise=(0.0, 0.0), bias=(0.0, 0.0))


@pytest.fixture(scope="module")
def atlas():
    return load_atlas(4.0)


def arrays(images):
    return [np.asarray(nib.as_closest_canonical(image).dataobj).astype(float) for image in images]


def of_age(age_years, **changes):
    return replace(SUBJECT, sessions=(Session(age_years),), **changes)


def changed(atlas, before, after, effects=STILL):
    """How much each voxel of the brain changes from one life to another, and the regions of the latter."""
    (first, inside), (second, inside_too) = (arrays(simulate_scan(atlas, s, 0, effects)) for s in (before, after))
    brain = (inside > 0) & (inside_too > 0)
    masks = planted_regions(atlas, after, 0, effects)
    return np.abs(first - second)[brain] ** 2, dict(
        zip(masks, (m[brain] > 0 for m in arrays(masks.values())), strict=True)
    )


def density(change, region):
    """Mean change within a region, over the mean elsewhere."""
    return change[region].mean() / change[~region].mean()


def test_ageing_changes_ventricles_and_cortex(atlas):
    def between_35_and_75(effects):
        return changed(atlas, of_age(35.0), of_age(75.0), effects)

    change, regions = between_35_and_75(STILL)
    both = regions["ventricles"] | regions["cortex"]
    assert both.mean() < 0.5  # of the brain
    assert change[both].sum() > 0.8 * change.sum()
    assert density(change, regions["medial_temporal"]) < 1
    change, regions = between_35_and_75(replace(STILL, ventricle_mm=0.0))
    assert density(change, regions["cortex"]) > 8 > 0.5 > density(change, regions["ventricles"])
    change, regions = between_35_and_75(replace(STILL, cortex_mm=0.0))
    assert density(change, regions["ventricles"]) > 30 and not regions["cortex"].any()


def test_alzheimers_changes_the_medial_temporal_lobe(atlas):
    change, regions = changed(atlas, of_age(72.0), of_age(72.0, diagnosis="AD"))
    assert 0.01 < regions["medial_temporal"].mean() < 0.05
    assert density(change, regions["medial_temporal"]) > 20
    assert density(change, regions["cortex"]) < 1


def test_a_stroke_changes_its_lesion(atlas):
    for index, nihss in enumerate((4, 25)):
        healthy = replace(SUBJECT, index=index)
        change, regions = changed(atlas, healthy, replace(healthy, diagnosis="stroke", nihss=nihss))
        assert change[regions["lesion"]].sum() > 0.85 * change.sum()
        assert change[regions["lesion"]].min() > 0
        _, without = changed(atlas, healthy, healthy)
        assert not without["lesion"].any()


def test_left_and_right_are_those_of_the_image_whatever_its_axes(atlas):
    lesions = []
    for site in range(3):
        subject = replace(SUBJECT, sessions=(Session(60.0, site=site),), diagnosis="stroke", nihss=12)
        image, _ = simulate_scan(atlas, subject, 0)
        masks = planted_regions(atlas, subject, 0)
        for mask in masks.values():
            np.testing.assert_allclose(mask.affine, image.affine)
            assert mask.shape == image.shape
        lesions.append(arrays([masks["lesion"]])[0])
    np.testing.assert_array_equal(lesions[0], lesions[1])
    np.testing.assert_array_equal(lesions[0], lesions[2])


def test_a_cohort_on_disk_knows_the_regions_of_its_scans(tmp_path):
    effects = RealisticEffects(grid_shift_mm=6.0)
    root = tmp_path / "simulated"
    simulate_cohort(root, 2, spacing_mm=4, stroke_fraction=1.0, alzheimers_fraction=0.0, effects=effects, n_jobs=1)
    cohort = PlantedCohort.open(root)
    images = sorted(root.glob("sub-*/ses-*/anat/*_T1w.nii.gz"))
    assert sorted(cohort.scans) == [image.relative_to(root).as_posix() for image in images]
    for path in images:
        image = nib.load(path)
        masks = cohort.regions(path)
        assert tuple(masks) == REGIONS
        voxels, brain, lesion = arrays(
            [
                image,
                nib.load(
                    root / "derivatives/masks" / path.relative_to(root).as_posix().replace("T1w", "desc-brain_mask")
                ),
                masks["lesion"],
            ]
        )
        np.testing.assert_allclose(masks["lesion"].affine, image.affine, atol=1e-5)
        # Old infarcts are about half as bright as the tissue that they are in.
        assert np.median(voxels[lesion > 0]) < 0.75 * np.median(voxels[(brain > 0) & (lesion == 0)])


def test_what_is_no_simulated_cohort_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no simulation.json"):
        PlantedCohort.open(tmp_path)
    (tmp_path / "simulation.json").write_text('{"simulation_version": 1}')
    with pytest.raises(InputError, match="damaged .*spacing_mm"):
        PlantedCohort.open(tmp_path)
    simulate_cohort(tmp_path / "c", 1, spacing_mm=4, follow_up_fraction=0, n_jobs=1)
    with pytest.raises(InputError, match="sub-0002.*is no scan of the simulated cohort"):
        PlantedCohort.open(tmp_path / "c").regions(tmp_path / "c" / "sub-0002/ses-01/anat/sub-0002_ses-01_T1w.nii.gz")
    record = tmp_path / "c" / "simulation.json"
    record.write_text(record.read_text().replace('"simulation_version": 1', '"simulation_version": 0'))
    with pytest.raises(InputError, match="simulation_version 0, and this version of neuro_ssl makes 1"):
        PlantedCohort.open(tmp_path / "c")
