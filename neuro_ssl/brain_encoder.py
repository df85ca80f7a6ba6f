"""A trained encoder as a scikit-learn transformer: from T1w files to features, in a `Pipeline` with anything."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from neuro_ssl.checkpoint import Weights
from neuro_ssl.embedding import weights_hash
from neuro_ssl.encoders.pooled import Layer, Pooled, Pooling
from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing
from neuro_ssl.inference import embed_files

Paths = Sequence[str | Path] | npt.NDArray[Any]

# Features by what decides them, of this process: a cross-validation clones its estimators for each fold.
_KNOWN: dict[str, npt.NDArray[np.float32]] = {}


class BrainEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Features of NIfTI images, preprocessed as the encoder's training scans were (see `embed_files`).

    Nothing is learnt in `fit`: the encoder stays as it is, so that a cross-validation doesn't leak through it, unless
    its weights were trained on the same subjects. Each file is computed once, and again when it, its mask or the
    weights have changed.

    Args:
        weights: a run directory, an imported folder, or a published file.
        masks: image → its brain mask, for all images or none; without, see `embed_files`.
        layer: see `encoders.pooled.Pooled`.
        pooling: see `encoders.pooled.Pooled`.
        batch_size: volumes in memory at once.
        cache_dir: a folder to keep features in, for later processes and for those of `n_jobs`; by default they are
            kept in this process's memory.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        masks: Mapping[Any, str | Path] | None = None,
        layer: Layer = "last",
        pooling: Pooling = "encoder",
        batch_size: int = 8,
        cache_dir: str | Path | None = None,
    ) -> None:
        self.weights = weights
        self.masks = masks
        self.layer = layer
        self.pooling = pooling
        self.batch_size = batch_size
        self.cache_dir = cache_dir

    def fit(self, X: Paths, y: Any = None) -> Self:
        """Check the weights and the options.

        Args:
            X: image files, (n,) or one column (n, 1).
            y: not used.

        Raises:
            InputError: weights that cannot be used, a layer or pooling that the encoder doesn't have, no files, or a
                file without a mask while others have theirs.
        """
        self._files(X)
        weights = Weights.load(str(self.weights))
        self._n_features_out = Pooled(weights.build_encoder(), self.layer, self.pooling).eval().embed_dim
        self.weights_hash_ = weights_hash(weights)
        return self

    def transform(self, X: Paths) -> npt.NDArray[np.float32]:
        """The features, (n, features) in the order of X.

        Args:
            X: as for `fit`.

        Raises:
            InputError: as `embed_files`; no files, or one without a mask while others have theirs; or the weights have
                changed since `fit`.
            NotFittedError: `fit` was not called.
        """
        check_is_fitted(self)
        files = self._files(X)
        keys = [self._key(image, mask) for image, mask in files]
        new = {key: file for key, file in zip(keys, files, strict=True) if self._known(key) is None}
        if new:
            if weights_hash(Weights.load(str(self.weights))) != self.weights_hash_:
                raise InputError(f"weights={self.weights} are others than when fit was called; call it again")
            images, masks = zip(*new.values(), strict=True)
            features = embed_files(
                self.weights,
                images,
                masks=None if self.masks is None else masks,
                batch_size=self.batch_size,
                layer=self.layer,
                pooling=self.pooling,
            )
            for key, row in zip(new, features, strict=True):
                self._keep(key, row)
        return np.stack([row for key in keys if (row := self._known(key)) is not None])

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn is to know of X: names of files, which it cannot check."""
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags

    def _files(self, X: Paths) -> list[tuple[str, str | None]]:
        """Each image with its mask."""
        if isinstance(X, str | Path):
            raise InputError(f"X must be a list of files, got {X!r}")
        table = np.asarray(X, dtype=object)
        if table.size == 0 or table.ndim not in (1, 2) or (table.ndim == 2 and table.shape[1] != 1):
            raise InputError(f"X must be files (n,) or one column of them (n, 1), n ≥ 1; got the shape {table.shape}")
        images = [str(path) for path in table.ravel()]
        if self.masks is None:
            return [(image, None) for image in images]
        masks = {str(image): str(mask) for image, mask in self.masks.items()}
        if without := [image for image in images if image not in masks]:
            raise InputError(f"masks has none for {len(without)} of {len(images)} images, first {without[0]}")
        return [(image, masks[image]) for image in images]

    def _key(self, image: str, mask: str | None) -> str:
        """What decides the features of a file; a change of it shows in its size or time."""
        content = [self.weights_hash_, self.layer, self.pooling, *(_state(file) for file in (image, mask) if file)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

    def _known(self, key: str) -> npt.NDArray[np.float32] | None:
        if self.cache_dir is None:
            return _KNOWN.get(key)
        file = Path(self.cache_dir) / f"{key}.npy"
        return np.load(file) if file.is_file() else None

    def _keep(self, key: str, row: npt.NDArray[np.float32]) -> None:
        if self.cache_dir is None:
            _KNOWN[key] = row
            return
        with appearing(Path(self.cache_dir) / f"{key}.npy") as file, file.open("wb") as stream:
            np.save(stream, row)


def _state(file: str) -> tuple[str, int, int]:
    try:
        found = Path(file).stat()
    except OSError as error:
        raise InputError(f"{file}: no such file, or none that can be read ({error.strerror})") from error
    return str(Path(file).resolve()), found.st_size, found.st_mtime_ns
