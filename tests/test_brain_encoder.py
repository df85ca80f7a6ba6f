"""The encoder as a scikit-learn transformer, on four real heads."""

import os
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

import neuro_ssl
from neuro_ssl.errors import InputError
from tests.conftest import IXI

NAMES = ["IXI206-HH-1650", "IXI383-HH-2099", "IXI443-HH-2215", "IXI527-HH-2376"]
IMAGES = [IXI / f"{name}_T1.nii.gz" for name in NAMES]
MASKS = {image: IXI / "masks" / f"{name}_mask.nii.gz" for name, image in zip(NAMES, IMAGES, strict=True)}

# The checks of scikit-learn that don't feed numbers as X, which here are names of files.
CHECKS = [
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_fit1d",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_transformers_unfitted",
    "check_transformer_n_iter",
    "check_valid_tag_types",
]


@pytest.mark.parametrize("check", CHECKS)
def test_what_scikit_learn_asks_of_an_estimator(check):
    getattr(estimator_checks, check)("BrainEncoder", neuro_ssl.BrainEncoder("a run", masks={"a": "b"}))


@pytest.fixture(scope="module")
def features(pretrained):
    return neuro_ssl.embed_files(pretrained, IMAGES, masks=list(MASKS.values()))


def test_what_scikit_learn_asks_with_data(pretrained, features):
    """`check_dict_unchanged`, `check_fit_idempotent`, `check_estimators_pickle`, the samples' order and subsets."""
    encoder = neuro_ssl.BrainEncoder(pretrained, masks=MASKS)
    assert encoder.fit(IMAGES, ["y", "is", "not", "used"]) is encoder
    before = vars(encoder).copy()
    found = encoder.transform(IMAGES)
    assert vars(encoder) == before
    for again in (clone(encoder).fit(IMAGES[:1]), encoder.fit(IMAGES), pickle.loads(pickle.dumps(encoder))):
        np.testing.assert_array_equal(again.transform(IMAGES), found)
        np.testing.assert_array_equal(again.transform(IMAGES[::-1]), found[::-1])
        np.testing.assert_array_equal(again.transform(IMAGES[1:2]), found[1:2])
    found[:] = 0  # the caller's own
    np.testing.assert_allclose(encoder.transform(IMAGES), features, atol=1e-5)


@pytest.mark.parametrize("form", [list, np.asarray, pd.Series, lambda X: pd.DataFrame({"image": X}, dtype=object)])
def test_features_are_those_of_embed_files(pretrained, features, form):
    encoder = neuro_ssl.BrainEncoder(pretrained, masks=MASKS)
    order = [2, 0, 2]
    found = encoder.fit(form(IMAGES)).transform(form([IMAGES[i] for i in order]))
    np.testing.assert_allclose(found, features[order], atol=1e-5)
    assert encoder.get_feature_names_out().tolist() == [f"brainencoder{i}" for i in range(64)]


def test_an_inner_layer_as_a_data_frame(pretrained):
    encoder = neuro_ssl.BrainEncoder(pretrained, masks=MASKS, layer=1, pooling="mean").set_output(transform="pandas")
    table = encoder.fit_transform(IMAGES[:1])
    assert table.columns.tolist() == [f"brainencoder{i}" for i in range(8)]
    expected = neuro_ssl.embed_files(pretrained, IMAGES[:1], masks=[MASKS[IMAGES[0]]], layer=1, pooling="mean")
    np.testing.assert_allclose(table, expected, atol=1e-5)


def test_cross_validation_is_that_of_the_features(pretrained, features):
    sex = ["F", "M", "F", "M"]
    encoder = clone(neuro_ssl.BrainEncoder(pretrained, masks=MASKS))
    behind = (StandardScaler(), LogisticRegression())
    scores = cross_val_score(make_pipeline(encoder, *behind), IMAGES, sex, cv=2, error_score="raise")
    np.testing.assert_array_equal(scores, cross_val_score(make_pipeline(*behind), features, sex, cv=2))
    assert not hasattr(encoder, "weights_hash_")  # the folds worked on clones


def test_a_file_is_read_once_until_it_changes(pretrained, features, tmp_path):
    image, mask = tmp_path / "T1w.nii.gz", tmp_path / "mask.nii.gz"
    shutil.copy(IMAGES[0], image)
    shutil.copy(MASKS[IMAGES[0]], mask)
    encoder = neuro_ssl.BrainEncoder(pretrained, masks={image: mask}, cache_dir=tmp_path / "cache")
    np.testing.assert_allclose(encoder.fit_transform([image]), features[:1], atol=1e-5)
    before = image.stat()
    image.write_bytes(bytes(before.st_size))  # no image any more, but of the same size and time
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    np.testing.assert_allclose(clone(encoder).fit_transform([image]), features[:1], atol=1e-5)
    os.utime(image)
    with pytest.raises(InputError, match="T1w.nii.gz"):
        encoder.transform([image])
    shutil.copy(IMAGES[1], image)
    shutil.copy(MASKS[IMAGES[1]], mask)
    np.testing.assert_allclose(clone(encoder).fit_transform([image]), features[1:2], atol=1e-5)
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "X", "message"),
    [
        ({}, "a.nii.gz", "X must be a list of files, got 'a.nii.gz'"),
        ({}, [], r"got the shape \(0,\)"),
        ({}, [["a", "b"]], r"got the shape \(1, 2\)"),
        ({"masks": {"a": "b"}}, ["a", "c"], "masks has none for 1 of 2 images, first c"),
        ({"weights": "nowhere"}, ["a"], "weights=nowhere is not a run directory"),
        ({"layer": 7, "pooling": "mean"}, ["a"], "layer must be last or from 0 to 4"),
        ({}, ["absent.nii.gz"], "absent.nii.gz: no such file"),
    ],
)
def test_one_clear_error(pretrained, options, X, message):
    with pytest.raises(InputError, match=message):
        neuro_ssl.BrainEncoder(**{"weights": pretrained, **options}).fit_transform(X)
