"""The papers' tables on photographs: CelebA, UTKFace and Dogs vs Cats, from a folder (``--data``) that holds them.

Only numbers are kept. Parts share nobody: CelebA's are official, the others have a tenth for validation and one
for testing. The image-text model learns from one half of the validation people, the search looks at the other.
"""

import hashlib
import itertools
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from sklearn.manifold import TSNE

from diga_lib import data, image_text, latent, runtime
from diga_lib.data import ImageDataset
from diga_lib.data.bias import group_sizes
from diga_lib.latent import checkpoints
from diga_lib.metrics import group_metrics
from diga_lib.pages.parameters import Sizes
from diga_lib.studies import grids, representations, sampling, store
from diga_lib.studies import rows as all_rows
from diga_lib.studies.runner import Study
from diga_lib.studies.sampling import digest
from diga_lib.studies.setting import Setting
from diga_lib.studies.weights import contrastive

CELEBA = tuple(pair for pair in grids.PAIRS if pair[1] != "Ethnicity")
TWO_GENERATORS = (("Smiling", "Male"), ("Young", "Male"))  # pairs that have one of the biased images alone, too
PAIRS = {"celeba": CELEBA, "utkface": (("Male", "Ethnicity"),), "dogs-vs-cats": (grids.CRITTERS,)}
SIZES = {
    "quick": Sizes(0, 2_000, 200, 4, 2, 1),
    "table": Sizes(0, 4_000, 500, 6, 6, 3),
    "full": Sizes(0, 10_000, 1_000, 6, 6, 3),
}
GENERATOR = {"quick": (5_000, 1), "table": (20_000, 1), "full": (200_000, 2)}  # images and passes of its training
ROWS = (*grids.TABLE, "erm-pretrained", "pseudo-groups")


@dataclass(frozen=True)
class PhotoCell(grids.Cell):
    """One training run on photographs in a folder; `generator` is a file in place of one trained on a `share`."""

    record = store.PhotoResult
    dataset: str = "celeba"
    generator_pool: str = store.POOLS[0]
    folder: str = ""
    generator: str = ""
    share: float = 1.0

    def setting(self) -> Setting:
        what = (self.dataset, self.target, self.spurious, self.bias, self.seed, self.profile)
        edited = self.generator_pool if all_rows.ROWS[self.row].direction else ""
        return _setting(*what, edited, self.folder, self.generator, self.share, self.variant.startswith("trial"))


@lru_cache(maxsize=1)
def pool_of(name: str, folder: str) -> ImageDataset:
    """The photographs of a set with a part for each ("partition": train, validation, test, words)."""
    root = Path(folder) / name
    if not root.is_dir():
        raise ValueError(f"There is no folder {root}: --data is the folder that holds {', '.join(PAIRS)}.")
    plain = (root / "images").is_dir() and (root / "attributes.csv").is_file()
    faces = name != "dogs-vs-cats"
    pool = data.load("folder" if plain else name, root=root, align=faces, missing="drop")
    pool = pool if faces else _with_fur(pool)
    table, rng = pool.metadata, np.random.default_rng(0)
    if "partition" in table:
        part = table["partition"].astype(str).str.lower().replace({"val": "validation"}).to_numpy(object)
    else:
        part = rng.permutation(np.resize(np.array(["train"] * 8 + ["validation", "test"], object), len(pool)))
    people = table["identity"] if "identity" in table else table["image_id"]
    halves = np.array([hashlib.sha256(str(one).encode()).digest()[0] % 2 == 0 for one in people])
    part = np.where((part == "validation") & halves, "words", part)
    return replace(pool, metadata=table.assign(partition=part), name=name)


def _with_fur(pool: ImageDataset) -> ImageDataset:
    """Pictures whose middle is clearly dark or clearly bright, as Dark_Fur; the middle third is left out."""
    side = pool.images.shape[2]
    middle = np.asarray(pool.images[:, :, side // 4 : -(side // 4), side // 4 : -(side // 4)])
    grey = np.median(np.einsum("nchw,c->nhw", middle, np.array([0.299, 0.587, 0.114])), axis=(1, 2))
    low, high = np.quantile(grey, (1 / 3, 2 / 3))
    return pool.with_attribute("Dark_Fur", grey <= low).select(np.flatnonzero((grey <= low) | (grey >= high)))


def largest(pool: ImageDataset, target: str, spurious: str, bias: float, part: str = "train") -> tuple[int, str]:
    """The largest biased set of a part and the alignment that allows it ("opposite" where both do)."""
    parts = pool.metadata
    some = parts["partition"] == part if parts is not None and "partition" in parts else slice(None)
    table = pool.attributes.loc[some, [target, *spurious.split("&")]]
    groups = np.array(list(itertools.product((0, 1), repeat=table.shape[1])))
    have = np.array([(table.to_numpy() == group).all(1).sum() for group in groups])
    most = {}
    for aligned in ("opposite", "same"):
        goes = (groups[:, 1:] == groups[:, :1]) == (aligned == "same")
        most[aligned] = int((have / (group_sizes(10**9, bias, (~goes).sum(1)) / 10**9)).min())
    aligned = max(most, key=most.get)
    return most[aligned], aligned


@lru_cache(maxsize=2)
def _setting(name, target, spurious, bias, seed, profile, pool_name, folder, generator, share, search) -> Setting:
    pool, sizes = pool_of(name, folder), SIZES[profile]
    part = pool.metadata["partition"].to_numpy(object).copy()
    if search:  # the test people are left out, and a quarter of the validation pictures stand in for theirs
        part[part == "test"] = "words"
        part[np.flatnonzero(part == "validation")[::4]] = "test"
    some = replace(pool, metadata=pool.metadata.assign(partition=part)).select(np.flatnonzero(part != "words"))
    n, aligned = largest(some, target, spurious, bias)
    sizes = replace(sizes, n_train=min(n, sizes.n_train))
    room = largest(some, target, spurious, bias, "validation")[0] if search else sizes.n_train // 20
    n = (sizes.n_train, room, sizes.n_test_per_group)
    split = data.biased_split(some, target, spurious, bias, *n, seed, aligned)
    network, kept = None, {"images": digest(split.train.images), "target": digest(split.train.target)}
    if pool_name == store.POOLS[0] and generator and share == 1:
        network = latent.load_file(generator)
    elif pool_name:
        most, passes = GENERATOR[profile]
        train = np.random.default_rng(0).permutation(np.flatnonzero(part == "train"))[:most]
        train = train[: round(share * len(train))]
        images = split.train.images if pool_name == store.POOLS[1] else pool.images[np.sort(train)]
        network = sampling.trained_generator(images, most * passes)
    if network:  # a row that edits nothing needs none
        kept["weights"] = checkpoints.digest(network.state_dict())
    return Setting(some, split, network, sizes, profile, seed, kept, partial(words_model, name, folder))


@lru_cache(maxsize=1)
def words_model(name: str, folder: str) -> image_text.ImageText:
    """An image-text model of captions made from the attributes of people who are in no split and no search."""
    pool = pool_of(name, folder)
    some = pool.select(np.flatnonzero(pool.metadata["partition"] == "words"))
    told = some.attributes.assign(**{name: some.attributes.get(name, -1) for name in image_text.PROMPTS})  # -1: unsaid
    file = runtime.cache_folder("training") / f"words-{digest(some.images)}.safetensors"
    if not file.exists():
        image_text.write(contrastive.train(some.images, told, epochs=60, batch_size=128), file)
    return image_text.read(file)


def compute(cell: PhotoCell) -> store.PhotoResult:
    """Train and test one cell; its extra "natural" is each group's share of all validation people, the paper's test."""
    names = [cell.target, *cell.spurious.split("&")]
    (result, model), pool = grids.trained(cell), pool_of(cell.dataset, cell.folder)
    seen = pool.attributes.loc[pool.metadata["partition"].isin(("validation", "words")), names]
    shares = seen.value_counts(normalize=True).reindex(list(itertools.product((0, 1), repeat=len(names))), fill_value=0)
    # What is kept does not name this machine's files.
    extra = result.extra | {"cell": {k: v for k, v in asdict(cell).items() if k not in ("folder", "generator")}}
    extra |= {"natural": dict(zip(result.groups, shares, strict=True))}
    extra |= MORE[cell.variant](cell, model) if cell.variant in MORE else {}
    more = {"dataset": cell.dataset, "generator_pool": cell.generator_pool, "extra": extra}
    return store.PhotoResult(**result.model_dump() | more)


def representation(cell: PhotoCell, model) -> dict:
    """The `representations.scores` of a network's features of test photographs, and their t-SNE, "points" (n, 2)."""
    test = cell.setting().split.test
    some = representations.first_of_each(test.group)
    features, y, s = model.features(test.images)[some], test.target[some], test.spurious[some]
    points = TSNE(init="pca", random_state=0).fit_transform(features).astype(float).round(1)
    return representations.scores(features, y, s) | {"points": points, "target": y, "spurious": s}


def elsewhere(cell: PhotoCell, model) -> dict:
    """Metrics, by set, of a network that is asked about the test pictures of other sets in the folder."""
    found = {}
    for name in filter(lambda name: (Path(cell.folder) / name).is_dir(), ("utkface", "fairface")):
        pool = pool_of(name, cell.folder)
        test = np.flatnonzero(pool.metadata["partition"] == "test")
        y, s = (pool.attributes[attribute].to_numpy()[test] for attribute in (cell.target, cell.spurious))
        found[name] = asdict(group_metrics(y, model.predict(pool.images[test]), s)) | {"images": len(test)}
    return {"sets": found}


def cells(data, pairs=None, rows=None, seeds=(0, 1, 2), bias=1 / 9, profile="table", generator="") -> list[PhotoCell]:
    """Smiling/Male on CelebA, then the other pairs, seed after seed; both DiGAs of two pairs with either generator."""
    all_rows.check(rows or ())
    sets = [name for name in PAIRS if (Path(data) / name).is_dir()]
    if not sets:
        raise ValueError(f"{data} holds none of {', '.join(PAIRS)}.")
    wanted = [(name, pair) for name in sets for pair in PAIRS[name] if pairs is None or pair in pairs]
    if not wanted:
        raise ValueError(f"No such pair; valid pairs: {', '.join('/'.join(p) for name in sets for p in PAIRS[name])}.")
    changes = {row: grids.chosen_on_photographs(row) for row in rows or ROWS}
    made = []
    for first, seed, (name, pair) in itertools.product((True, False), seeds, wanted):
        if (pair == CELEBA[0]) == first:
            same = {"bias": bias, "seed": seed, "profile": profile, "dataset": name, "folder": str(data)}
            same |= {"generator": str(generator)} if name == "celeba" else {}
            made += [PhotoCell(row, *pair, changes=changes[row], **same) for row in changes]
    both = [one for one in made if one.row in sampling.WITH_BIASED and (one.target, one.spurious) in TWO_GENERATORS]
    return made + [replace(cell, generator_pool=store.POOLS[1], generator="") for cell in both]


def search(data, rows=tuple(grids.TRIALS), profile="table", generator="") -> list[PhotoCell]:
    """Four trials of each method on Smiling/Male, that look at no test person."""
    all_rows.check(rows)
    return grids.trials([PhotoCell(row, profile=profile, folder=str(data), generator=str(generator)) for row in rows])


MORE = {"representation": representation, "elsewhere": elsewhere}  # by variant, what is looked at in a trained network


def ablations(data, seeds=(0,), profile="table", generator="") -> list[PhotoCell]:
    """On CelebA: other biases and sets, what features hold, strengths, generators of fewer images."""
    now = cells(data, CELEBA[:1], ("erm", "diga-paper", "diga-one-stage", "balanced"), seeds, 1 / 9, profile, generator)
    now = [cell for cell in now if cell.generator_pool == store.POOLS[0]]
    ours = [cell for cell in now if cell.row == "diga-one-stage"]
    made = [replace(cell, bias=bias) for bias in (1 / 4, 1 / 19, 1 / 49) for cell in now if cell.row != "balanced"]
    made += [replace(cell, variant="representation") for cell in now if cell.row in representations.ROWS]
    made += [replace(cell, target="Male", spurious="Young", variant="elsewhere") for cell in now]
    made += [one for cell in now if cell.row == "diga-paper" for one in grids.with_strengths(cell)]
    made += [replace(cell, share=k, variant=f"generator of {k:.0%} of the images") for k in (0.5, 0.1) for cell in ours]
    return made


MAKES = {"real_photos": cells, "real_photos_search": search, "real_photos_ablations": ablations}
STUDIES = [Study(name, make, compute) for name, make in MAKES.items()]
