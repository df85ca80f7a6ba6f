from collections import Counter
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from neuro_ssl.simulation.atlas import load_atlas
from neuro_ssl.simulation.cohort import Session, Subject, plan_cohort
from neuro_ssl.simulation.effects import TEACHING, RealisticEffects
from neuro_ssl.simulation.image import simulate_scan
from neuro_ssl.simulation.phenotype import phenotype
from neuro_ssl.simulation.scanner import Scanner, scanner_name

PLAN = {
    "seed": 2,
    "n_sites": 3,
    "follow_up_fraction": 0.4,
    "alzheimers_fraction": 0.2,
    "stroke_fraction": 0.1,
    "age_range": (20, 90),
}
MANY = {"scanners_per_site": 2, "field_strengths": (1.5, 3.0), "n_follow_ups": 3, "retest_fraction": 0.5}
SUBJECT = Subject(seed=0, index=0, sessions=(Session(60.0),), sex="F", diagnosis="CN", nihss=None)


@pytest.fixture(scope="module")
def atlas():
    return load_atlas(4.0)


def scan(atlas, subject, session, effects=TEACHING):
    image, mask = (nib.as_closest_canonical(part) for part in simulate_scan(atlas, subject, session, effects))
    return np.asarray(image.dataobj).astype(float), np.asarray(mask.dataobj) > 0, image.affine


def test_people_are_the_same_with_more_scanners_and_visits():
    few, many = plan_cohort(60, **PLAN), plan_cohort(60, **PLAN, **MANY)
    for a, b in zip(few, many, strict=True):
        assert replace(a, sessions=()) == replace(b, sessions=())
        ages = [session.age_years for session in b.sessions if session.visit != "retest"]
        assert ages[: len(a.sessions)] == [session.age_years for session in a.sessions]
        assert len(ages) == (4 if len(a.sessions) == 2 else 1)
        assert phenotype(a, 0) == phenotype(b, 0)


def test_retests_are_where_and_when_they_are_said_to_be():
    people = plan_cohort(600, **PLAN, **MANY)
    places = Counter()
    for person in people:
        first, *later = person.sessions
        assert (first.visit, first.days) == ("baseline", 0)
        assert [session.days for session in person.sessions] == sorted({session.days for session in person.sessions})
        for session in later:
            if session.visit == "retest":
                assert session.age_years == first.age_years and 1 <= session.days <= 14
                places[(session.site == first.site, scanner_name(session) == scanner_name(first))] += 1
            else:
                assert scanner_name(session) == scanner_name(first)
                years = session.age_years - first.age_years
                assert session.days == pytest.approx(365.25 * years, abs=0.11 * 365.25)
    assert sum(places.values()) == pytest.approx(300, abs=2)
    shares = [places[kind] / 300 for kind in ((True, True), (True, False), (False, False))]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.08)


@pytest.mark.parametrize(
    ("n_sites", "per_site", "elsewhere"), [(1, 1, set()), (1, 2, {(0, 1)}), (3, 1, {(1, 0), (2, 0)})]
)
def test_without_a_choice_retests_take_what_there_is(n_sites, per_site, elsewhere):
    people = plan_cohort(80, **PLAN | {"n_sites": n_sites}, scanners_per_site=per_site, retest_fraction=1.0)
    moves = {
        ((retest.site - first.site) % n_sites, (retest.scanner - first.scanner) % per_site)
        for first, retest, *_ in (person.sessions for person in people)
    }
    assert moves == elsewhere | {(0, 0)}


def test_fields_are_in_turn_and_known_by_their_noise():
    sessions = {
        scanner_name(session): session for person in plan_cohort(200, **PLAN, **MANY) for session in person.sessions
    }
    assert len(sessions) == 6
    for session in sessions.values():
        assert session.field_tesla == (1.5, 3.0)[(session.site + session.scanner) % 2]
        own, weaker = (Scanner.of(s, 0, TEACHING) for s in (session, replace(session, field_tesla=1.5)))
        at_3t = session.field_tesla == 3
        assert own.noise / weaker.noise == pytest.approx(TEACHING.noise_3t if at_3t else 1)
        assert own.bias / weaker.bias == pytest.approx(TEACHING.bias_3t if at_3t else 1)
    assert len({Scanner.of(session, 0, TEACHING).gm for session in sessions.values()}) == 6


def test_noise_in_the_air_is_the_scanners(atlas):
    for field_tesla in (1.5, 3.0):
        session = Session(60.0, scanner=1, field_tesla=field_tesla)
        image, inside, _ = scan(atlas, replace(SUBJECT, sessions=(session,)), 0)
        corner = image[:6, -6:, :6]  # in front of the face: air
        white = np.percentile(image[inside], 90)
        sigma = corner.mean() / np.sqrt(np.pi / 2) / white  # Rayleigh
        assert sigma == pytest.approx(Scanner.of(session, 0, TEACHING).noise, rel=0.15)


def test_a_retest_shows_the_same_anatomy(atlas):
    retest = Session(60.0, "retest", days=3)
    subject = replace(SUBJECT, sessions=(Session(60.0), retest, replace(retest, scanner=1), replace(retest, site=1)))
    assert len({phenotype(subject, session) for session in range(4)}) == 1
    first, *others = (scan(atlas, subject, session) for session in range(4))
    stranger = scan(atlas, replace(subject, index=1), 0)
    likeness = [np.corrcoef(first[0][first[1]], other[0][first[1]])[0, 1] for other in [*others, stranger]]
    assert min(likeness[:3]) > 0.95 > likeness[3]
    for image, mask, affine in others:
        np.testing.assert_array_equal(mask, first[1])
        assert np.abs(image - first[0]).max() > 0 and np.abs(affine - first[2]).max() > 0.5


def test_realistic_retests_differ_by_where_the_grid_lies(atlas):
    subject = replace(SUBJECT, sessions=(Session(60.0), Session(60.0, "retest", days=3)))
    masks = [scan(atlas, subject, session, RealisticEffects())[1] for session in (0, 1)]
    assert (masks[0] != masks[1]).any()
    assert masks[0].sum() == pytest.approx(masks[1].sum(), rel=0.02)
