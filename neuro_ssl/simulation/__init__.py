"""A simulated T1w cohort with planted effects, to learn, test and demonstrate on without any data.

Every subject derives from one real anatomy (ICBM 152, inside nilearn's wheel). What is planted, with all sizes in
`effects.py`; here those for teaching (`Effects`), to which `RealisticEffects` is the alternative:

- Age: ventricle walls move by 8 mm from 20 to 90, slowly at first, and sulci widen by 4 mm. A brain is older or younger
  than its age by 4 years (SD); ventricles and sulci also vary on their own.
- Sex: men's heads are 10 % larger by volume (Cohen's d 1.4) and their cerebellum 16 % wider, longer and higher (d 2);
  women's frontal lobes are 14 % wider (d 2). The two shapes survive cropping, flips and rotations; size does not.
- Alzheimer's disease, from 55: hippocampi shrink by 30 % across, temporal horns gain 3.5 mm in radius, sulci of the
  medial temporal lobe widen by 1.5 mm, ventricle walls move by 1 mm; all times a severity of 0.6 to 1.4, which may grow
  with the years.
- Stroke: one dark lesion of 3 ml per NIHSS point (log SD 0.25), in white and grey matter of either side.
- Scanner: contrast, intensity scale, bias field, noise, axis order of the files; at 3 T less noise, a stronger bias
  field and other contrast. A site has one scanner or several.

The rest means nothing: each subject has a smooth deformation (SD 1.7 mm) and texture of its own, each session a head
position, bias field and Rician noise. A follow-up shows the same anatomy, older by the interval; a retest, within days,
the same anatomy unchanged, in the same scanner, another one of the site, or another site's.

`experiments/simulated_cohort` shows all this, measures it in images, and tells by what a classifier knows them from
real ones. `regions.py` has masks of where it was planted in each scan.
"""

from neuro_ssl.simulation.dataset import simulate_cohort
from neuro_ssl.simulation.effects import Effects, RealisticEffects

__all__ = ["Effects", "RealisticEffects", "simulate_cohort"]
