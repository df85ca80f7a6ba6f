"""What the trained networks in fact go by: their outputs for the same heads with one planted effect changed.

    python experiments/explanations/reliance.py WORK [--heads 10]

Test subjects of the cohorts are simulated again, position, scanner and noise included, once as they are and once with
more of one effect; the change of the output is that effect's doing alone. Against it the attribution is to be held.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from cohorts import Cohort

from neuro_ssl.preprocessing.pipeline import Preprocessing
from neuro_ssl.simulation.effects import TEACHING
from neuro_ssl.simulation.image import simulate_scan
from neuro_ssl.views.intensity import normalise

YEARS = 20


def older(subject):
    (session,) = subject.sessions
    return replace(subject, sessions=(replace(session, age_years=session.age_years + YEARS),))


def ageing(subject, effects):
    """By what is changed, the subject and the effects that it is simulated with."""
    as_before = replace(effects, cortex_start_mm=effects.cortex_start_mm - effects.cortex_mm * YEARS / 70)
    ahead = replace(effects, cortex_start_mm=effects.cortex_start_mm + effects.cortex_mm * YEARS / 70)
    return {
        f"ventricles {YEARS} years older": (older(subject), as_before),
        f"cortex {YEARS} years older": (subject, ahead),
        "both": (older(subject), effects),
    }


def ageing_of_the_cortex(subject, effects):
    """Where ventricles don't age: as `ageing`, and with the ventricles that people of this age have elsewhere."""
    return {
        "ventricles as of their age": (subject, replace(effects, ventricle_mm=TEACHING.ventricle_mm)),
        f"cortex {YEARS} years older": (older(subject), effects),
    }


def illness(subject, effects):
    ill = replace(subject, diagnosis="AD")
    temporal = replace(effects, alzheimers_ventricle_mm=0.0)
    ventricles = replace(effects, alzheimers_hippocampus=0.0, alzheimers_horn_mm=0.0, alzheimers_cortex_mm=0.0)
    return {
        "medial temporal lobe ill": (ill, temporal),
        "ventricles ill": (ill, ventricles),
        "both": (ill, effects),
    }


def stroke(subject, effects):
    return {"lesion of NIHSS + 8": (replace(subject, nihss=subject.nihss + 8), effects)}


CHANGES = {
    "lifespan": (ageing, lambda s: s.sessions[0].age_years < 65, "years"),
    "cortical": (ageing_of_the_cortex, lambda s: s.sessions[0].age_years < 65, "years"),
    "memory": (illness, lambda s: s.diagnosis == "CN", "logit"),
    "stroke": (stroke, lambda s: s.nihss < 15, "points"),
}


def output(model, prepare, planted, subject, effects):
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("image.nii.gz", "mask.nii.gz")]
        for image, file in zip(simulate_scan(planted.atlas, subject, 0, effects), files, strict=True):
            nib.save(image, file)
        volume = torch.from_numpy(prepare(*files).volume)[None, None]
    with torch.no_grad():
        return model(normalise(volume, "z_score_brain")).item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--cohorts", nargs="+", default=list(CHANGES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| cohort | what is changed | mean change of the output | SD over heads | heads |\n|---|---|---|---|---|")
    for name in arguments.cohorts:
        change, chosen, unit = CHANGES[name]
        cohort = Cohort(arguments.work, name, n_scans=1)
        planted, model = cohort.planted, cohort.trained
        manifest = cohort.store.manifest
        images = manifest["image_path"][manifest["split"] == "test"]
        test = {Path(path).resolve().relative_to(planted.root.resolve()).as_posix() for path in images}
        subjects = [s for image, (s, _) in planted.scans.items() if image in test and chosen(s)][: arguments.heads]
        prepare = Preprocessing.of(cohort.store.grid, cohort.store.info["preprocessing"])
        changes = []
        for subject in subjects:
            before = output(model, prepare, planted, subject, planted.effects)
            after = change(subject, planted.effects)
            changes.append({what: output(model, prepare, planted, *as_) - before for what, as_ in after.items()})
        for what in changes[0]:
            values = np.array([one[what] for one in changes])
            cells = (name, what, f"{values.mean():+.2f} {unit}", f"{values.std(ddof=1):.2f}", len(values))
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
