"""Registered images reach the encoder as the paper's array, against nibabel and NumPy alone; on real heads."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage

import neuro_ssl
from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.manifest import validate
from neuro_ssl.data.registered import RegisteredDataset, RegisteredImages
from neuro_ssl.data.samplers import Draw
from neuro_ssl.data.supervised import SupervisedDataModule
from neuro_ssl.data.targets import Target
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.optim import Optimizer
from neuro_ssl.preprocessing.pipeline import Preprocessing
from neuro_ssl.tasks.supervised import Supervised
from neuro_ssl.views.intensity import gamma_, standardise
from tests.conftest import IXI

TEMPLATE = np.array([[1, 0, 0, -96], [0, 1, 0, -132], [0, 0, 1, -78], [0, 0, 0, 1.0]])  # ICBM 152 2009c
CENTRE_MM = (0, -22, 9.55)


def registered(name, folder):
    """A real head and its mask on the 09c grid, moved so that the brain lies where the template's does."""
    head, mask = nib.load(IXI / f"{name}_T1.nii.gz"), nib.load(IXI / "masks" / f"{name}_mask.nii.gz")
    brain = np.asarray(mask.dataobj) > 0
    move = np.eye(4)
    move[:3, 3] = nib.affines.apply_affine(mask.affine, ndimage.center_of_mass(brain)) - CENTRE_MM

    def on_grid(voxels, affine, order):
        to_voxel = np.linalg.inv(affine) @ move @ TEMPLATE
        return ndimage.affine_transform(voxels, to_voxel, output_shape=(193, 229, 193), order=order)

    voxels = on_grid(head.get_fdata(dtype=np.float32), head.affine, 1)
    inside = on_grid(brain.astype(np.uint8), mask.affine, 0)
    nib.Nifti1Image(voxels.round().astype(np.int16), TEMPLATE).to_filename(folder / f"{name}.nii.gz")
    nib.Nifti1Image(inside, TEMPLATE).to_filename(folder / f"{name}_mask.nii.gz")


def paper_array(image, mask):
    """Kaczmarek et al. 2025, as their loader does it, in float64."""
    image = nib.load(image).get_fdata().transpose(2, 1, 0)[10:160, 19:211, 1:]
    mask = nib.load(mask).get_fdata().transpose(2, 1, 0)[10:160, 19:211, 1:] > 0
    image = image * mask
    mean = image[mask].mean()
    return np.where(mask, (image - mean) / np.sqrt(((image[mask] - mean) ** 2).mean() + 1e-12), 0), mask


@dataclass(frozen=True)
class Scans:
    """`train.csv`, `val.csv`, `test.csv`, one scan each, and `all.csv`: a head as it is, the same head with its axes
    stored as posterior, superior, right, and another one normalised as WhiteStripe does."""

    root: Path

    @property
    def arguments(self):
        return ["dataset=registered", "dataset.cohort=registered", f"dataset.root='{self.root}'"]

    def open(self, **options):
        return RegisteredDataset(root=str(self.root), stores_dir=str(self.root / "stores"), **options).open("paper_1mm")


@pytest.fixture(scope="module")
def scans_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registered")
    first, second = "IXI206-HH-1650", "IXI443-HH-2215"
    for name in (first, second):
        registered(name, folder)
    for kind in ("", "_mask"):
        stored = nib.load(folder / f"{first}{kind}.nii.gz")
        turn = ornt_transform(io_orientation(TEMPLATE), axcodes2ornt(("P", "S", "R")))
        turned = stored.as_reoriented(turn)
        assert nib.aff2axcodes(turned.affine) == ("P", "S", "R")
        turned.to_filename(folder / f"turned{kind}.nii")
    voxels = nib.load(folder / f"{second}.nii.gz").get_fdata(dtype=np.float32)
    brain = np.asarray(nib.load(folder / f"{second}_mask.nii.gz").dataobj) > 0
    white = np.percentile(voxels[brain], 80)
    stripe = voxels[brain & (abs(voxels - white) < 0.05 * white)]
    normalised = ((voxels - stripe.mean()) / stripe.std()).astype(np.float32)
    assert (normalised[brain] < 0).mean() > 0.5
    nib.Nifti1Image(normalised, TEMPLATE).to_filename(folder / "whitestripe.nii")
    (folder / f"{second}.nii.gz").unlink()
    rows = {
        "train": (f"{first}.nii.gz", f"{first}_mask.nii.gz", 50),
        "val": ("turned.nii", "turned_mask.nii", 50),
        "test": ("whitestripe.nii", f"{second}_mask.nii.gz", 69),
    }
    for split, row in rows.items():
        pd.DataFrame([row], columns=["image_path", "mask_path", "label"]).to_csv(folder / f"{split}.csv", index=False)
    return Scans(folder)


@pytest.fixture
def scans(scans_once, tmp_path):
    """A copy whose tables may be changed; its images are links."""
    for file in scans_once.root.iterdir():
        if file.suffix == ".csv":
            shutil.copy(file, tmp_path)
        else:
            (tmp_path / file.name).symlink_to(file)
    return Scans(tmp_path)


def edit(scans, table, **columns):
    path = scans.root / table
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)


class Eye(torch.nn.Module):
    """An encoder that keeps what it is shown."""

    embed_dim = 1

    def forward(self, volume):
        self.seen = volume
        return volume.mean(dim=(2, 3, 4))


@pytest.mark.filterwarnings("ignore:.*no subject_id")
def test_the_encoder_sees_the_papers_array(scans):
    volumes = scans.open()
    datamodule = SupervisedDataModule(volumes, [Target(name="label", target="label")], batch_size=1)
    eye = Eye()
    task = Supervised(eye, None, Optimizer(), 0, False, 0.0, 1.0, "label")
    files = {
        "train": ("IXI206-HH-1650.nii.gz", "IXI206-HH-1650_mask.nii.gz", 50),
        "val": ("IXI206-HH-1650.nii.gz", "IXI206-HH-1650_mask.nii.gz", 50),  # turned, and so the same array
        "test": ("whitestripe.nii", "IXI443-HH-2215_mask.nii.gz", 69),
    }
    for split, (image, mask, label) in files.items():
        (batch,) = datamodule.loader(split)
        task(batch)
        expected, inside = paper_array(scans.root / image, scans.root / mask)
        assert batch["target"].tolist() == [[label]]
        assert batch["volume"].shape == (1, 1, 150, 192, 192)
        np.testing.assert_array_equal(batch["volume"][0, 0].numpy() > 0, inside)
        assert (batch["volume"][0, 0].numpy()[~inside] == 0).all()
        assert abs(np.median(batch["volume"][0, 0].numpy()[inside]) - 0.9) < 0.25  # white matter near 1
        difference = abs(eye.seen[0, 0].numpy() - expected).max()
        print(f"{split}: largest difference from the paper's array {difference:.1e}")  # shown by pytest -s
        assert difference < 1e-5


@pytest.mark.filterwarnings("ignore:.*no subject_id")
def test_the_papers_gamma_is_that_of_the_image_itself(scans_once):
    """Gamma works on the range, in which shift and scale cancel; only what keeps the darkest voxel > 0 shows."""
    volumes = scans_once.open()
    (name,) = (name for name in volumes.manifest["volume"] if "whitestripe" in name)
    volume = torch.from_numpy(volumes.read(name))[None, None]
    seen = standardise(gamma_(volume.clone(), torch.tensor([0.6])), volume > 0)[0, 0].numpy()
    image, mask = paper_array(scans_once.root / "whitestripe.nii", scans_once.root / "IXI443-HH-2215_mask.nii.gz")
    raised = ((image[mask] - image[mask].min()) / np.ptp(image[mask])) ** 0.6
    difference = abs(seen[mask] - (raised - raised.mean()) / raised.std())
    assert difference.max() < 0.03 and np.quantile(difference, 0.999) < 1e-3


def test_one_table_is_split_by_subjects_and_stays_so(scans, recwarn):
    tables = [pd.read_csv(scans.root / f"{split}.csv") for split in ("train", "val", "test")]
    one = pd.concat(tables).assign(subject_id=["a", "a", "b"])
    one.to_csv(scans.root / "one.csv", index=False)
    options = {"table": "one.csv", "splits": {"train": 0.5, "val": 0.5}}
    splits = scans.open(**options).manifest.groupby("subject_id")["split"].unique()
    assert sorted(split for (split,) in splits) == ["train", "val"]
    for seed in range(1, 4):  # kept on file, so that nobody changes sides
        again = scans.open(**options, split_seed=seed).manifest.groupby("subject_id")["split"].unique()
        assert again.map(list).to_dict() == splits.map(list).to_dict()
    assert not [w for w in recwarn if "subject_id" in str(w.message)]


def test_without_subject_ids_every_image_is_a_subject_and_a_warning_says_so(scans):
    with pytest.warns(UserWarning, match="no subject_id column"):
        assert scans.open().manifest["subject_id"].nunique() == 3


@pytest.mark.filterwarnings("ignore:.*no subject_id")
def test_identity_follows_content_and_not_place(scans, scans_once, tmp_path):
    ours, moved = scans_once.open(), scans.open(cohort=scans_once.root.name)
    assert moved.identity == ours.identity and moved.path != ours.path
    edit(scans, "train.csv", label=51)
    assert scans.open(cohort=scans_once.root.name).identity != ours.identity
    edit(scans, "train.csv", label=50)
    assert scans.open(cohort=scans_once.root.name).identity == ours.identity
    voxels = np.array(nib.load(scans.root / "whitestripe.nii").dataobj)
    voxels[90, 100, 90] += 1
    (scans.root / "whitestripe.nii").unlink()
    nib.Nifti1Image(voxels, TEMPLATE).to_filename(scans.root / "whitestripe.nii")
    assert scans.open(cohort=scans_once.root.name).identity != ours.identity


@pytest.mark.filterwarnings("ignore:.*no subject_id")
def test_weights_of_a_store_are_refused(scans_once):
    ours = scans_once.open().summary
    of_store = {"grid": "paper_1mm", "preprocessing": Preprocessing(Grid.named("paper_1mm"), "mask").settings}
    weights = Weights("run", Path("run"), {"dataset": of_store}, {}, {})
    with pytest.raises(InputError, match="weights=run were trained on scans with .*, these have"):
        weights.check_data(ours)
    Weights("run", Path("run"), {"dataset": ours}, {}, {}).check_data(ours)


def test_labels_are_classes_whether_written_as_numbers_or_with_decimals():
    """The paper's label column is 0 or 1; where some are missing, pandas makes decimals of them."""
    splits = [split for split in ("train", "val", "test") for _ in range(4)]
    table = pd.DataFrame({"image_path": map(str, range(12)), "label": ["0", "1", None, "2"] * 3, "split": splits})
    with pytest.warns(UserWarning, match="subject_id"):
        manifest = validate(table, "table").assign(volume=table["image_path"])
    images = RegisteredImages(Path("table"), "c", Grid.named("paper_1mm"), manifest)
    with pytest.raises(InputError, match=r"column 'label' holds 2, not in task.classes=\['0', '1'\]"):
        SupervisedDataModule(images, [Target(name="label", target="label", classes=(0, 1))], batch_size=1)
    target = Target(name="label", target="label", classes=("0", "1"), leave_out=("2",))
    datamodule = SupervisedDataModule(images, [target], batch_size=1)
    assert datamodule.datasets["test"].target.tolist() == [[0], [1]]


def test_an_image_without_contrast_is_named_when_it_is_read(scans):
    image = np.array(nib.load(scans.root / "IXI206-HH-1650.nii.gz").dataobj)
    image[np.asarray(nib.load(scans.root / "IXI206-HH-1650_mask.nii.gz").dataobj) > 0] = 7
    (scans.root / "IXI206-HH-1650.nii.gz").unlink()
    nib.Nifti1Image(image, TEMPLATE).to_filename(scans.root / "IXI206-HH-1650.nii.gz")
    with pytest.warns(UserWarning, match="subject_id"):
        datamodule = SSLDataModule(scans.open(), batch_size=1)
    with pytest.raises(InputError, match="IXI206-HH-1650.nii.gz: no contrast inside its mask"):
        datamodule.datasets["train"][[Draw(0, 0, 0)]]


def replaced(scans, name, content):
    (scans.root / name).unlink()
    if isinstance(content, bytes):
        (scans.root / name).write_bytes(content)
    else:
        nib.Nifti1Image(*content).to_filename(scans.root / name)


def truncate(scans):
    content = (scans.root / "IXI206-HH-1650.nii.gz").read_bytes()
    replaced(scans, "IXI206-HH-1650.nii.gz", content[: len(content) // 2])


def truncate_plain(scans):
    content = (scans.root / "whitestripe.nii").read_bytes()
    replaced(scans, "whitestripe.nii", content[: len(content) // 2])


def mask_of(value):
    def change(scans):
        voxels = np.zeros((193, 229, 193), np.uint8)
        voxels[90, 100, 90:92] = value
        replaced(scans, "turned_mask.nii", (voxels, TEMPLATE))

    return change


def shifted(scans):
    affine = TEMPLATE.copy()
    affine[0, 3] += 0.5
    replaced(scans, "whitestripe.nii", (np.ones((193, 229, 193), np.uint8), affine))


def same_image_elsewhere(scans):
    edit(scans, "test.csv", image_path=str(scans.root / "copy.nii.gz"))
    shutil.copy(scans.root / "IXI206-HH-1650.nii.gz", scans.root / "copy.nii.gz")


def subject_in_two_splits(scans):
    for table, subject in {"train": "a", "val": "b", "test": "a"}.items():
        edit(scans, f"{table}.csv", subject_id=subject)


BAD = {
    "an image off the grid": (
        lambda scans: edit(scans, "val.csv", image_path=str(IXI / "IXI206-HH-1650_T1.nii.gz")),
        ["val|{split}", "IXI206-HH-1650_T1.nii.gz: not on the ICBM 152 2009c grid: .*2×2×2 mm.*193×229×193", "preproc"],
    ),
    "half a voxel aside": (shifted, [r"whitestripe.nii: not on the .* from \[-95.5, -132.0, -78.0\]"]),
    "a mask of another shape": (
        lambda scans: edit(scans, "val.csv", mask_path=str(IXI / "masks" / "IXI206-HH-1650_mask.nii.gz")),
        ["IXI206-HH-1650_mask.nii.gz: not on the ICBM 152 2009c grid"],
    ),
    "an empty mask": (mask_of(0), ["turned_mask.nii: a mask is 0 outside"]),
    "a mask of labels": (mask_of([2, 3]), ["turned_mask.nii: a mask is 0 outside the brain and has one other value"]),
    "a missing image": (lambda scans: (scans.root / "turned.nii").unlink(), ["val.csv", "turned.nii", "correct"]),
    "a missing mask": (
        lambda scans: (scans.root / "turned_mask.nii").unlink(),
        ["val.csv", "mask_path are not there", "turned_mask.nii"],
    ),
    "a truncated image": (truncate, ["1 of 6 files", "IXI206-HH-1650.nii.gz: .*truncated"]),
    "a truncated .nii": (truncate_plain, ["whitestripe.nii: .*truncated"]),
    "no image at all": (
        lambda scans: replaced(scans, "turned.nii", b"text" * 500),
        ["turned.nii: cannot be read, truncated or not NIfTI"],
    ),
    "a row twice": (
        lambda scans: (scans.root / "train.csv").open("a").write((scans.root / "train.csv").read_text().split("\n")[1]),
        ["train.csv, row", "IXI206-HH-1650.nii.gz: this value occurs in another row too"],
    ),
    "an image in two tables": (
        lambda scans: shutil.copy(scans.root / "train.csv", scans.root / "test.csv"),
        ["IXI206-HH-1650.nii.gz is in train and in test; keep one"],
    ),
    "an image under two names": (same_image_elsewhere, ["copy.nii.gz", "are the same image"]),
    "a subject in two splits": (subject_in_two_splits, ["registered/a has scans in two splits"]),
    "no masks": (
        lambda scans: (scans.root / "val.csv").write_text("image_path,label\nturned.nii,50\n"),
        ["1 of 3 images have no mask_path, first .*turned.nii"],
    ),
    "no table": (lambda scans: (scans.root / "val.csv").unlink(), ["no file .*val.csv", "dataset.table=NAME.csv"]),
}


@pytest.mark.filterwarnings("ignore:.*no subject_id")
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trained_on_is_named(case, scans):
    damage, says = BAD[case]
    damage(scans)
    with pytest.raises(InputError) as error:
        scans.open(cohort="registered")
    for part in says:
        assert re.search(part, str(error.value)), error.value


@pytest.mark.filterwarnings("ignore:.*no subject_id")
@pytest.mark.parametrize(
    ("case", "option", "says"),
    [
        ("an empty mask", "grid=paper_1mm", "turned_mask.nii: a mask is 0 outside"),
        (None, "grid=4mm", "no volume store of cohort registered on grid 4mm"),
    ],
)
def test_the_command_says_so_before_training_starts(scans, command, capsys, tmp_path, case, option, says):
    if case:
        BAD[case][0](scans)
    with pytest.raises(SystemExit):
        command(
            *("train", option, *scans.arguments, f"data_dir='{tmp_path}'", f"runs_dir='{tmp_path / 'runs'}'"),
            "strategy=cpu",
        )
    shown = capsys.readouterr().err
    assert shown.count("error: ") == 1 and says in shown
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*no subject_id")
def test_the_command_trains_a_task_on_the_papers_tables(scans_once, command, tmp_path):
    command(
        "train",
        *scans_once.arguments,
        *("+experiment=linear_probe", "task.target=label", "encoder.width=8", "trainer.max_epochs=2", "batch_size=1"),
        *(f"data_dir='{tmp_path}'", f"runs_dir='{tmp_path}'", "strategy=cpu", "logger=csv", "num_workers=0"),
    )
    (run,) = tmp_path.glob("linear_probe-*")
    table = pd.read_parquet(run / "predictions.parquet")
    assert table.set_index("split")["target"].to_dict() == {"val": 50.0, "test": 69.0}
    contract = neuro_ssl.load_encoder(run).input_contract
    assert contract.grid == Grid.named("paper_1mm") and contract.intensity == "z-score over the brain"
    with pytest.raises(InputError, match="trained on registered images as they are"):
        neuro_ssl.embed_files(run, [IXI / "IXI206-HH-1650_T1.nii.gz"])
