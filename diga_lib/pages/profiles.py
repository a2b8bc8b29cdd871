"""How much is computed: one place for the sizes of the quick and the full profile."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Sizes of one profile: quick for a page, full for page 04's table, table for the cells of the large tables."""

    pool: int  # rendered faces that splits are drawn from
    n_train: int
    n_test_per_group: int
    epochs: int  # of supervised training
    byol_epochs: int  # of the self-supervised stage of the paper's DiGA
    seeds: int  # repetitions of a training run


SIZES = {
    "quick": Sizes(pool=12_000, n_train=4_000, n_test_per_group=400, epochs=6, byol_epochs=2, seeds=1),
    "table": Sizes(pool=22_000, n_train=4_000, n_test_per_group=500, epochs=6, byol_epochs=6, seeds=3),
    "full": Sizes(pool=18_000, n_train=6_000, n_test_per_group=1_000, epochs=8, byol_epochs=6, seeds=3),
}
SEARCH_POOL_SEED = 50  # of another population, on which hyperparameters are chosen
POOL_SEED = 0  # of the population that splits are drawn from; generator and image-text model learn from another
