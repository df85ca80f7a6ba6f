from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import spearmanr

from neuro_ssl.errors import InputError
from neuro_ssl.simulation.atlas import load_atlas
from neuro_ssl.simulation.cohort import Session, Subject, plan_cohort
from neuro_ssl.simulation.deformation import random_field
from neuro_ssl.simulation.effects import TEACHING, Effects, RealisticEffects
from neuro_ssl.simulation.image import lesion_map, simulate_scan
from neuro_ssl.simulation.phenotype import phenotype

SUBJECT = Subject(seed=0, index=0, sessions=(Session(60.0),), sex="F", diagnosis="CN", nihss=None)
PLAN = {"n_sites": 3, "follow_up_fraction": 0.2, "alzheimers_fraction": 0.15, "stroke_fraction": 0.15}


@pytest.fixture(scope="module")
def atlas():
    return load_atlas(4.0)


def at(*ages_years):
    return tuple(map(Session, ages_years))


def scan(atlas, subject, session=0):
    """Image and mask as arrays in RAS, and the mask's volume in ml."""
    image, mask = (nib.as_closest_canonical(stored) for stored in simulate_scan(atlas, subject, session))
    inside = np.asarray(mask.dataobj) > 0
    voxel_ml = abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    return np.asarray(image.dataobj).astype(float), inside, inside.sum() * voxel_ml


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_ventricles_grow_with_age(atlas):
    ages = (22.0, 40.0, 55.0, 70.0, 88.0)
    x, y, z = atlas.axes_mm
    centre = (np.abs(x) < 45) & (y > -65) & (y < 40) & (z > -10) & (z < 40) & (atlas.depth_mm > 18)
    for index in range(3):
        subject = replace(SUBJECT, index=index, sessions=at(*ages))
        fluid_ml = []
        for session in range(len(ages)):
            image, inside, _ = scan(atlas, subject, session)
            dark = image < 0.5 * np.percentile(image[inside], 90)
            fluid_ml.append((dark & centre).sum() * 0.064)
        assert np.all(np.diff(fluid_ml) > 0), fluid_ml
        assert fluid_ml[-1] > 2.5 * fluid_ml[0] > 0


def test_sulci_widen_with_age(atlas):
    near_surface = (atlas.depth_mm > 2) & (atlas.depth_mm < 14)

    def surface_brightness(age):
        image, inside, _ = scan(atlas, replace(SUBJECT, sessions=at(age)))
        return image[near_surface & inside].mean() / np.percentile(image[inside], 90)

    young, middle, old = (surface_brightness(age) for age in (25.0, 55.0, 85.0))
    assert young > middle + 0.02 > old + 0.04


def test_a_lesion_fills_the_planted_volume_of_one_hemisphere(atlas):
    for seed, lesion_ml in enumerate((3.0, 20.0, 70.0)):
        lesion = lesion_map(atlas, lesion_ml, np.random.default_rng(seed))
        left, right = (lesion[(atlas.axes_mm[0] * side > 0)[:, 0, 0]].sum() * 0.064 for side in (-1, 1))
        assert min(left, right) == 0
        assert max(left, right) == pytest.approx(lesion_ml, rel=0.25, abs=0.5)


def test_what_a_stroke_darkens_grows_with_nihss(atlas):
    planted_ml, found_ml, severities = [], [], (2, 8, 14, 20, 25)
    for index, nihss in enumerate(severities):
        healthy = replace(SUBJECT, index=index)
        stroke = replace(healthy, diagnosis="stroke", nihss=nihss)
        # The same random numbers otherwise: what differs between the two images is the lesion.
        (before, inside, _), (after, _, _) = scan(atlas, healthy), scan(atlas, stroke)
        found_ml.append((before - after > 0.15 * np.median(before[inside])).sum() * 0.064)
        planted_ml.append(phenotype(stroke, 0).lesion_ml)
    assert found_ml == pytest.approx(planted_ml, rel=0.35, abs=1)
    assert spearmanr(severities, found_ml).statistic > 0.8


def test_men_have_larger_heads_and_other_proportions(atlas):
    woman, man = (scan(atlas, replace(SUBJECT, sex=sex))[2] for sex in "FM")
    assert np.log(man / woman) == pytest.approx(TEACHING.head_volume_log, abs=0.06)

    people = plan_cohort(400, seed=1, age_range=(20, 90), **PLAN)
    traits = {sex: [phenotype(person, 0) for person in people if person.sex == sex] for sex in "FM"}

    def cohens_d(name):
        men, women = (np.array([getattr(person, name) for person in traits[sex]]) for sex in "MF")
        return (men.mean() - women.mean()) / np.sqrt((men.var() + women.var()) / 2)

    assert cohens_d("head_scale") == pytest.approx(1.43, abs=0.3)
    assert cohens_d("cerebellum_stretch") == pytest.approx(TEACHING.shape_d, abs=0.35)
    assert cohens_d("frontal_stretch") == pytest.approx(-TEACHING.shape_d, abs=0.35)


def test_alzheimers_takes_the_medial_temporal_lobe(atlas):
    healthy, inside, _ = scan(atlas, replace(SUBJECT, sessions=at(75.0)))
    ill, _, _ = scan(atlas, replace(SUBJECT, sessions=at(75.0), diagnosis="AD"))
    loss = (healthy - ill) / np.median(healthy[inside])
    medial = loss[inside & (atlas.medial_temporal > 0.6)].mean()
    elsewhere = loss[inside & (atlas.medial_temporal < 0.01)].mean()
    assert medial > 0.05 > 5 * abs(elsewhere)


def test_sites_store_other_axes_of_the_same_head(atlas):
    stored = [simulate_scan(atlas, replace(SUBJECT, sessions=(Session(60.0, site=site),)), 0)[1] for site in range(3)]
    assert ["".join(nib.aff2axcodes(mask.affine)) for mask in stored] == ["RAS", "LAS", "PSR"]
    first, *others = (nib.as_closest_canonical(mask) for mask in stored)
    for other in others:
        np.testing.assert_array_equal(other.dataobj, first.dataobj)
        np.testing.assert_allclose(other.affine, first.affine, atol=1e-9)


def test_a_follow_up_shows_the_same_person_in_a_new_position(atlas):
    subject = replace(SUBJECT, sessions=at(60.0, 63.0))
    (first, mask, _), (second, later_mask, _) = scan(atlas, subject, 0), scan(atlas, subject, 1)
    stranger, stranger_mask, _ = scan(atlas, replace(subject, index=1))
    assert dice(mask, later_mask) > 0.99 > dice(mask, stranger_mask)
    correlation = np.corrcoef([image[mask] for image in (first, second, stranger)])
    assert correlation[0, 1] > 0.95 > correlation[0, 2]
    affines = [simulate_scan(atlas, subject, session)[0].affine for session in (0, 1)]
    assert np.abs(affines[0] - affines[1]).max() > 0.5


def test_random_fields_have_unit_variance():
    fields = random_field((40, 30, 20), 5.0, np.random.default_rng(0), (50,))
    assert fields.shape == (50, 40, 30, 20)
    assert fields.std() == pytest.approx(1, abs=0.1)


def test_a_larger_cohort_begins_with_the_smaller_one():
    few, many = (plan_cohort(n, seed=3, age_range=(20, 90), **PLAN) for n in (5, 200))
    assert many[:5] == few
    assert all(s.sessions[0].age_years >= 55 for s in many if s.diagnosis == "AD")
    assert all((s.nihss is not None) == (s.diagnosis == "stroke") for s in many)
    shares = [np.mean([s.diagnosis == name for s in many]) for name in ("AD", "stroke")]
    assert shares == pytest.approx([0.15, 0.15], abs=0.02)
    assert np.mean([len(s.sessions) == 2 for s in many]) == pytest.approx(0.2, abs=0.02)
    intervals = [s.sessions[1].age_years - s.sessions[0].age_years for s in many if len(s.sessions) == 2]
    assert min(intervals) >= 1.9 and max(intervals) <= 4.1


def test_alzheimers_and_age_go_on_over_follow_ups(atlas):
    subject = replace(SUBJECT, sessions=at(70.0, 72.0, 76.0), diagnosis="AD")
    rate = replace(TEACHING, alzheimers_progression=0.2)
    shrinkage = [phenotype(subject, session, rate).hippocampus_shrinkage for session in range(3)]
    start = phenotype(replace(subject, sessions=at(70.0)), 0).hippocampus_shrinkage
    assert shrinkage == pytest.approx([start + 0.2 * rate.alzheimers_hippocampus * years for years in (0, 2, 6)])
    medial, healthy = (atlas.medial_temporal > 0.6), replace(subject, diagnosis="CN")

    def change(person):
        (first, inside, _), (last, _, _) = (scan_of(atlas, person, session, rate) for session in (0, 2))
        return (first - last)[inside & medial].mean() / np.median(first[inside])

    assert change(subject) > change(healthy) + 0.02


def scan_of(atlas, subject, session, effects):
    image, mask = (nib.as_closest_canonical(part) for part in simulate_scan(atlas, subject, session, effects))
    return np.asarray(image.dataobj).astype(float), np.asarray(mask.dataobj) > 0, image.affine


def test_realistic_effects_are_smaller_in_the_images(atlas):
    x, y, z = atlas.axes_mm
    centre = (np.abs(x) < 45) & (y > -65) & (y < 40) & (z > -10) & (z < 40) & (atlas.depth_mm > 18)
    grown_ml = {}
    for effects in (TEACHING, RealisticEffects(head_size_log=0.0, grid_shift_mm=0.0)):
        of_age = []
        for age in (30.0, 80.0):
            fluid_ml = 0.0
            for index in range(4):
                image, inside, _ = scan_of(atlas, replace(SUBJECT, index=index, sessions=at(age)), 0, effects)
                fluid_ml += (image < 0.5 * np.percentile(image[inside], 90))[centre].sum() * 0.064 / 4
            of_age.append(fluid_ml)
        grown_ml[type(effects)] = of_age[1] - of_age[0]
    assert 5 < grown_ml[RealisticEffects] < 0.8 * grown_ml[Effects]


def test_a_shifted_grid_shows_the_same_head_at_the_same_place(atlas):
    still = replace(TEACHING, noise=(0.0, 0.0), bias=(0.0, 0.0))
    moved = replace(still, grid_shift_mm=3.0)
    (before, _, affine), (after, _, shifted) = (scan_of(atlas, SUBJECT, 0, effects) for effects in (still, moved))
    world = nib.affines.apply_affine(affine, np.argwhere(np.ones(before.shape)))
    voxels = nib.affines.apply_affine(np.linalg.inv(shifted), world)
    again = ndimage.map_coordinates(after, voxels.T, order=1).reshape(before.shape)
    offset = np.linalg.norm(nib.affines.apply_affine(np.linalg.inv(shifted), affine[:3, 3]))
    middle = (slice(8, -8),) * 3
    assert offset > 0.3  # voxels
    unaware = np.corrcoef(before[middle].ravel(), after[middle].ravel())[0, 1]
    assert np.corrcoef(before[middle].ravel(), again[middle].ravel())[0, 1] > max(0.98, unaware)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"gm": [0.8, 0.6]}, r"effects.gm must be .* in order; got \[0.8, 0.6\]"),
        ({"cortex_sd_mm": -1.0}, "effects.cortex_sd_mm must be 0 or more, got -1.0"),
        ({"sharpness": 0.0}, "effects.sharpness must be from 0.5 to 10, got 0.0"),
    ],
)
def test_impossible_effects_are_refused(size, message):
    with pytest.raises(InputError, match=message):
        replace(TEACHING, **size)
