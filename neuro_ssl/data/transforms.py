"""A user's TorchIO or MONAI transform of training volumes, random by (seed, epoch, draw) alone.

Both libraries draw from states that depend on who drew before: TorchIO from torch's global generator, MONAI from each
transform's own, user functions from numpy's or Python's. Here all of them are set before each volume and put back
afterwards, from what `samplers.Draw` says, so that neither workers, ranks nor restarts show, and a scan drawn twice
is transformed in two ways. One torch thread computes, for sums depend on how many share them.

    python -m neuro_ssl.train … +dataset.transform._target_=torchio.RandomBlur +dataset.transform.std=[0,1]
"""

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuro_ssl.data.samplers import Draw
from neuro_ssl.data.volumes import lifted
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid

Kind = Literal["torchio", "monai array", "monai dictionary"]
_STREAM = zlib.crc32(b"dataset.transform")


class ScanTransform:
    """Transforms one volume as it is loaded for training, before the views; both of SimCLR's views start from it.

    It sees what the libraries see of a NIfTI file: (1, x, y, z) in float32, with the affine of the grid (RAS, mm).

    - TorchIO: any transform, `Compose` and `OneOf` included, of a `Subject` with `t1`, the volume, and `brain`, its
      mask, which spatial transforms move along.
    - MONAI, dictionary: transforms whose `keys` are `t1` and `brain`; spatial ones need both, the mask with
      `mode=nearest`.
    - MONAI, array: intensity transforms of the volume; the mask stays.

    What comes back is a volume again: 0 outside the mask; inside, if it is not > 0 everywhere, shifted to be
    (`volumes.lifted`), which the z-score after the views removes.

    Args:
        transform: the transform.
        grid: of the volumes.
        seed: of the draws.

    Raises:
        InputError: neither library's, or not one of the above.
    """

    def __init__(self, transform: Any, grid: Grid, seed: int) -> None:
        self.transform, self.grid, self.seed = transform, grid, seed
        self.kind = _kind(transform)

    def __call__(self, volume: npt.NDArray[Any], draw: Draw) -> npt.NDArray[np.float32]:
        """The volume (z, y, x), as it is transformed in this draw, in float32.

        Raises:
            InputError: the result has another shape, NaN or infinite voxels, or no brain.
        """
        image = to_xyz(volume)
        brain = image > 0
        with _random_state(self.transform, [self.seed, draw.epoch, draw.position, _STREAM]):
            result, mask = self._apply(image, brain)
        for name, tensor in {"t1": result, "brain": mask}.items():
            if tensor.shape != image.shape:
                raise InputError(
                    f"{self} makes {name} of shape {tuple(image.shape)} (1, x, y, z) one of {tuple(tensor.shape)}; "
                    "use transforms that keep the shape"
                )
        transformed, inside = from_xyz(result), from_xyz(mask) > 0.5
        if not inside.any():
            raise InputError(f"{self} leaves no brain in the volume; use a milder transform")
        if not np.isfinite(transformed[inside]).all():
            raise InputError(f"{self} makes voxels NaN or infinite")
        transformed[inside] = lifted(transformed[inside])
        transformed[~inside] = 0
        return transformed

    def try_on(self, volume: npt.NDArray[Any], name: str) -> None:
        """Transform a volume once, to find out before training starts that it works.

        Args:
            volume: (z, y, x).
            name: its name, for the message.

        Raises:
            InputError: it does not.
        """
        try:
            self(volume, Draw(0, 0, 0))
        except InputError as error:
            raise InputError(f"{error}; tried on {name}") from error
        except Exception as error:  # whatever a foreign transform raises
            raise InputError(f"{self} fails on {name}: {type(error).__name__}: {error}") from error

    def __str__(self) -> str:
        return f"dataset.transform ({type(self.transform).__name__})"

    def _apply(self, image: Tensor, brain: Tensor) -> tuple[Tensor, Tensor]:
        affine = self.grid.affine
        if self.kind == "torchio":
            import torchio

            done = self.transform(
                torchio.Subject(
                    t1=torchio.ScalarImage(tensor=image, affine=affine),  # type: ignore[no-untyped-call]
                    brain=torchio.LabelMap(tensor=brain.to(torch.uint8), affine=affine),  # type: ignore[no-untyped-call]
                )
            )
            return done["t1"].data, done["brain"].data
        from monai.data.meta_tensor import MetaTensor

        if self.kind == "monai array":
            return _plain(self.transform(MetaTensor(image, affine=torch.from_numpy(affine)))), brain
        scan = {
            name: MetaTensor(tensor, affine=torch.from_numpy(affine))
            for name, tensor in {"t1": image, "brain": brain.float()}.items()
        }
        done = self.transform(scan)
        return _plain(done["t1"]), _plain(done["brain"])


def to_xyz(volume: npt.NDArray[Any]) -> Tensor:
    """(z, y, x) → (1, x, y, z) float32, as TorchIO and MONAI have it."""
    return torch.from_numpy(np.ascontiguousarray(volume.T, dtype=np.float32))[None]


def from_xyz(tensor: Tensor) -> npt.NDArray[np.float32]:
    """The way back."""
    return np.ascontiguousarray(tensor[0].numpy().T, dtype=np.float32)


def _plain(tensor: Any) -> Tensor:
    """Without MONAI's metadata."""
    return torch.as_tensor(tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor)


@contextmanager
def _random_state(transform: Any, entropy: list[int]) -> Iterator[None]:
    """Every generator that the transform may draw from, set from these numbers, and put back afterwards."""
    seeds = [int(word) for word in np.random.SeedSequence(entropy).generate_state(4)]
    python, numpy, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(1)
            torch.default_generator.manual_seed(seeds[0])
            np.random.seed(seeds[1])  # noqa: NPY002 - the global state is what foreign code draws from
            random.seed(seeds[2])
            if hasattr(transform, "set_random_state"):
                transform.set_random_state(seed=seeds[3])
            yield
        finally:
            torch.set_num_threads(threads)
            np.random.set_state(numpy)  # noqa: NPY002
            random.setstate(python)


def _kind(transform: Any) -> Kind:
    """Which of the accepted kinds it is.

    Raises:
        InputError: none.
    """
    import torchio
    from monai.transforms.transform import MapTransform, Transform

    name = type(transform).__name__
    members = list(_members(transform))
    if isinstance(transform, torchio.Transform):
        if any(type(member).__name__ == "MonaiAdapter" for member in members):
            raise InputError("dataset.transform: MonaiAdapter hides a random state; give the MONAI transform itself")
        return "torchio"
    foreign = [member for member in members if not isinstance(member, Transform)]
    if foreign:
        inside = "" if foreign[0] is transform else f" inside {name}"
        raise InputError(
            f"dataset.transform: a TorchIO or a MONAI transform is needed (such as torchio.RandomBlur or "
            f"monai.transforms.RandGaussianNoise), got {type(foreign[0]).__name__}{inside}"
        )
    dictionary = [isinstance(member, MapTransform) for member in members]
    if any(dictionary) and not all(dictionary):
        raise InputError(f"dataset.transform: {name} mixes MONAI's array and dictionary transforms; use one kind")
    for member in members:
        if _moves_voxels(member) and not {"t1", "brain"} <= set(getattr(member, "keys", ())):
            raise InputError(
                f"dataset.transform: {type(member).__name__} moves voxels, and the brain mask must move along; use "
                "the dictionary transform, with keys=[t1, brain] and mode=[bilinear, nearest], or TorchIO's"
            )
        if unknown := set(getattr(member, "keys", ())) - {"t1", "brain"}:
            raise InputError(f"dataset.transform: keys of {type(member).__name__} are t1 and brain, got {unknown}")
    return "monai dictionary" if all(dictionary) else "monai array"


def _members(transform: Any) -> Iterator[Any]:
    """A transform, or those that a `Compose` or `OneOf` is made of."""
    inner = getattr(transform, "transforms", None) or getattr(transform, "transforms_dict", None)
    if inner is None:
        yield transform
        return
    for member in inner:
        yield from _members(member)


def _moves_voxels(transform: Any) -> bool:
    module, name = type(transform).__module__, type(transform).__name__
    return module.startswith(("monai.transforms.spatial", "monai.transforms.croppad")) and "LowResolution" not in name
