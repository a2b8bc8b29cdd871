"""Stage 1 of DiGA: find the spurious attribute in W+ from boundaries that are regularised differently.

Only latents and targets go in. The truth about the spurious attribute is read by `true_shifts` and `flip_rates` alone,
which score what was found. Naming the attribute by an image-text model is in :mod:`diga_lib.directions.words`.
"""

from diga_lib.directions.boundaries import (
    COEFFICIENTS,
    STRENGTHS,
    Direction,
    agreement,
    biased_directions,
    boundary,
    combine,
    cosine,
    held_out_gain,
    paper_direction,
    refine,
    sharpen,
    spurious_direction,
)
from diga_lib.directions.clusters import Clusters, fit_clusters
from diga_lib.directions.truth import flip_rates, true_shifts
from diga_lib.directions.words import Named, changed_words, name_spurious

__all__ = ["COEFFICIENTS", "STRENGTHS", "Clusters", "Direction", "Named", "agreement", "biased_directions", "boundary"]
__all__ += ["changed_words", "combine", "cosine", "fit_clusters", "flip_rates", "held_out_gain"]
__all__ += ["name_spurious", "paper_direction", "refine", "sharpen", "spurious_direction", "true_shifts"]
