"""What a scan costs: processor time (other work on the machine stretches it less than the clock's) and memory.

    python experiments/simulated_cohort/cost.py [--scans 20]

Simulating and writing image and mask, one process; then the projection to 1000 subjects at the default plan.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import nibabel as nib
from threadpoolctl import threadpool_limits

from neuro_ssl.simulation.atlas import load_atlas
from neuro_ssl.simulation.cohort import plan_cohort
from neuro_ssl.simulation.effects import TEACHING, RealisticEffects
from neuro_ssl.simulation.image import simulate_scan


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=20)
    args = parser.parse_args()
    people = plan_cohort(1000, 0, 3, 0.2, 0.15, 0.15, (20.0, 90.0))
    n_scans = sum(len(person.sessions) for person in people)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}; 1000 subjects have {n_scans} scans")
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        for spacing_mm in (3.0, 2.0):
            atlas = load_atlas(spacing_mm)
            for name, effects in (("teaching", TEACHING), ("realistic", RealisticEffects())):
                start, megabytes = time.process_time(), 0.0
                for person in people[: args.scans]:
                    for part, image in zip("im", simulate_scan(atlas, person, 0, effects), strict=True):
                        path = Path(folder) / f"{part}.nii.gz"
                        nib.save(image, path)
                        megabytes += path.stat().st_size / 1e6
                seconds = (time.process_time() - start) / args.scans
                print(
                    f"{spacing_mm:g} mm, {name}: {seconds:.2f} s and {megabytes / args.scans:.1f} MB a scan; projected "
                    f"for 1000 subjects: {seconds * n_scans / 60:.1f} minutes of one core, "
                    f"{megabytes / args.scans * n_scans / 1000:.1f} GB"
                )
            print(f"  largest memory so far: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
