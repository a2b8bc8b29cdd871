"""Everything that can be wrong with what comes in: one sentence that names it, before work, nothing half-written."""

import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from diga_lib import data, latent, runtime
from diga_lib.data import ImageDataset, LabelledImages
from diga_lib.data.photos import files as photos
from diga_lib.data.photos import layouts
from diga_lib.latent import checkpoints, training
from diga_lib.methods import ERM
from diga_lib.pages.parameters import ParameterError, check
from diga_lib.studies import store as results

ROOT = Path(__file__).resolve().parent.parent


CELL = """profile: str = 'quick'
dataset: str = 'rendered-faces'
data_root: str = ''
generator: str = ''
target: str = 'Smiling'
spurious: str = 'Male'
bias: float = 0.1
seeds: int = 3
"""


class World:
    """A small tree in each layout, in a folder of its own, to be spoiled by one case."""

    def __init__(self, root):
        self.root = root

    # ---- trees
    def celeba(self):
        root = self.root / "celeba"
        (root / "img_align_celeba").mkdir(parents=True)
        for i in range(1, 5):
            picture((178, 218)).save(root / "img_align_celeba" / f"{i}.png")
        rows = "".join(f"{i}.png {1 if i % 2 else -1} -1\n" for i in range(1, 5))
        (root / "list_attr_celeba.txt").write_text("4\nMale Smiling\n" + rows)
        (root / "list_eval_partition.txt").write_text("".join(f"{i}.png 0\n" for i in range(1, 5)))
        return root

    def folder(self):
        root = self.root / "folder"
        root.mkdir()
        for i in range(3):
            picture((90, 90)).save(root / f"{i}.png")
        (root / "attributes.csv").write_text(
            "image_id,Smiling,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
            + "".join(f"{i}.png,{i % 2},30,40,60,40\n" for i in range(3))
        )
        return root

    def animals(self):
        root = self.root / "animals"
        (root / "train").mkdir(parents=True)
        for name in ("cat.0.jpg", "dog.0.jpg"):
            picture((90, 90)).save(root / "train" / name)
        return root

    def people(self):
        root = self.root / "people"
        root.mkdir()
        picture((90, 90)).save(root / "26_1_2_2017.jpg")
        return root

    # ---- what is then done with them
    def read_celeba(self, file=None, change=None):
        root = self.celeba()
        if file:
            path = root / file
            path.write_text(change(path.read_text()))
        return data.load("celeba", root=root)

    def read_folder(self, change, **parameters):
        path = self.folder() / "attributes.csv"
        path.write_bytes(change(path.read_bytes()))
        return data.load("folder", root=path.parent, **parameters)

    def read_animals(self, table):
        root = self.animals()
        (root / "attributes.csv").write_text(table)
        return data.load("dogs-vs-cats", root=root)

    def read_image(self, spoil):
        root = self.folder()
        spoil(root / "1.png")
        return data.load("folder", root=root)

    def parameters(self, injected, cell=None):
        namespace = {}
        exec(cell or CELL, namespace)
        exec(injected, namespace)
        check(namespace)

    def split(self, n=40, **parameters):
        values = np.random.default_rng(0).integers(0, 2, (n, 3))
        table = pd.DataFrame(values, columns=["Smiling", "Male", "Young"], dtype=np.int8)
        pool = ImageDataset(np.zeros((n, 3, 8, 8), np.uint8), table, None, "small")
        return data.biased_split(pool, **({"n_train": 8} | parameters))

    def weights(self, spoil):
        folder = self.root / "weights"
        checkpoints.save_state("some", {"x": torch.arange(4.0)}, folder)
        spoil(folder)
        return checkpoints.load_state("some", folder)

    def generator(self, spoil):
        file = self.root / "mine.safetensors"
        latent.save_file(latent.Generator(32), file)
        spoil(file)
        return latent.load_file(file)

    def lines(self, *lines):
        path = self.root / "results.jsonl"
        lines = [results.line_of(line) + b"\n" if isinstance(line, dict) else line.encode() for line in lines]
        path.write_bytes(b"".join(lines))
        return results.read(path)


def picture(size):
    coarse = np.random.default_rng(size[0]).integers(0, 256, (6, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def announce(side):
    """Spoil a PNG: its header announces far more pixels than follow."""

    def spoil(path):
        whole = path.read_bytes()
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        path.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])

    return spoil


def flip(file, at=-40):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def a_folder_of_that_name(path):
    path.unlink()
    path.mkdir()


def labelled(**changes):
    parts = {
        "images": np.zeros((4, 3, 8, 8), np.uint8),
        "target": np.array([0, 1, 0, 1]),
        "spurious": None,
        "index": np.arange(4),
    }
    return LabelledImages(**(parts | changes))


RESULT = {
    "method": "ERM",
    "row": "erm",
    "version": 1,
    "target": "Smiling",
    "spurious": "Male",
    "bias": 0.1,
    "seed": 0,
    "accuracy": 0.5,
    "worst_group": 0.5,
    "equalized_odds": 0.5,
    "groups": {},
    "seconds": 1.0,
    "peak_memory_mb": 1.0,
    "profile": "quick",
    "commit": "x",
    "versions": {},
}
ATTR, PART = "list_attr_celeba.txt", "list_eval_partition.txt"
CASES = {
    # ---- parameters of a notebook
    "parameter misspelt": (lambda w: w.parameters("taget = 'Male'"), "no parameter 'taget' (did you mean target?)"),
    "parameter unknown": (lambda w: w.parameters("zzz = 1"), "no parameter 'zzz'; its parameters are profile"),
    "profile unknown": (
        lambda w: w.parameters("profile = 'fast'"),
        "profile = 'fast' is not valid; valid is quick, full",
    ),
    "data set unknown": (
        lambda w: w.parameters("dataset = 'mnist'"),
        "dataset = 'mnist' is not valid; valid is rendered-faces",
    ),
    "data set without folder": (lambda w: w.parameters("dataset = 'utkface'"), "dataset = 'utkface' needs data_root"),
    "folder without data set": (lambda w: w.parameters(f"data_root = {str(w.root)!r}"), "belongs to no dataset"),
    "folder that is not there": (
        lambda w: w.parameters("dataset = 'celeba'; data_root = '/nowhere'"),
        "the folder of a data set that exists",
    ),
    "folder with a null byte": (lambda w: w.parameters("dataset = 'celeba'; data_root = '/no\\0where'"), "data_root"),
    "attribute unknown": (lambda w: w.parameters("target = 'Smilling'"), "did you mean Smiling?"),
    "attribute twice": (lambda w: w.parameters("target = 'Male'"), "must name different attributes"),
    "attribute empty": (lambda w: w.parameters("spurious = ''"), "spurious = '' is not an attribute"),
    "attribute of another data set": (
        lambda w: w.parameters("dataset = 'rendered-critters'"),
        "target = 'Smiling' is not an attribute of rendered-critters; valid are Dog",
    ),
    "bias of zero": (lambda w: w.parameters("bias = 0"), "bias = 0 is not valid; valid is minority/majority above 0"),
    "bias not a number": (lambda w: w.parameters("bias = 'nan'"), "bias = 'nan' is not valid"),
    "bias divided by zero": (lambda w: w.parameters("bias = '1/0'"), "bias = '1/0' is not valid"),
    "seeds not whole": (lambda w: w.parameters("seeds = 2.5"), "seeds = 2.5 is not valid; valid is how many seeds"),
    "seeds a truth value": (lambda w: w.parameters("seeds = True"), "seeds = True is not valid"),
    "generator not there": (lambda w: w.parameters("generator = 'x.safetensors'"), "a .safetensors file that"),
    "generator a pickle": (
        lambda w: (w.root / "x.pt").touch() or w.parameters(f"generator = {str(w.root / 'x.pt')!r}"),
        ".safetensors",
    ),
    # ---- arguments of the loader
    "pool unknown": (lambda w: data.load("selfies"), "'selfies' is not a data set: valid are rendered-faces"),
    "pool without root": (lambda w: data.load("celeba"), "valid is root="),
    "no images": (lambda w: data.load("rendered-faces", n=0), "n is 0: valid is a whole number of at least 1"),
    "seed negative": (lambda w: data.load("rendered-faces", n=1, seed=-1), "seed is -1"),
    "resolution huge": (lambda w: data.load("rendered-faces", n=1, resolution=4096), "at most 512"),
    "more than there are": (lambda w: data.load("folder", root=w.folder(), n=9), "n is 9, but folder has 3 images"),
    # ---- attribute tables and image trees
    "no such folder": (lambda w: data.load("celeba", root=w.root / "gone"), "There is no folder"),
    "a file for a folder": (lambda w: data.load("celeba", root=Path(__file__)), "There is no folder"),
    "empty folder": (lambda w: data.load("celeba", root=w.root), ATTR),
    "table empty": (lambda w: w.read_celeba(ATTR, lambda t: ""), "does not begin as CelebA's does"),
    "count wrong": (lambda w: w.read_celeba(ATTR, lambda t: "5" + t[1:]), "announces 5 images and lists 4"),
    # Lists come without the count, too: then the first line names the attributes, here one.
    "count not a number": (lambda w: w.read_celeba(ATTR, lambda t: "four" + t[1:]), "Line 2 of"),
    "value of zero": (lambda w: w.read_celeba(ATTR, lambda t: t.replace("1.png 1", "1.png 0")), "Line 3 of"),
    "row too short": (lambda w: w.read_celeba(ATTR, lambda t: t.replace("2.png -1 -1", "2.png -1")), "Line 4 of"),
    "attribute listed twice": (
        lambda w: w.read_celeba(ATTR, lambda t: t.replace("Male", "Smiling")),
        "'Smiling' empty or more",
    ),
    "image listed twice": (
        lambda w: w.read_celeba(ATTR, lambda t: t.replace("3.png", "2.png")),
        "image '2.png' empty or more",
    ),
    "image not there": (lambda w: w.read_celeba(ATTR, lambda t: t.replace("3.png", "7.png")), "does not place 7.png"),
    "partition unknown": (lambda w: w.read_celeba(PART, lambda t: t.replace("2.png 0", "2.png 3")), "Line 2 of"),
    "partition missing": (lambda w: w.read_celeba(PART, lambda t: t.replace("2.png 0\n", "")), "does not place 2.png"),
    "table not text": (lambda w: w.read_folder(lambda b: b"\xff\xfe\x00" + b), "not a table of comma-separated values"),
    "table without rows": (lambda w: w.read_folder(lambda b: b.splitlines()[0]), "has 0 rows"),
    "table without names": (lambda w: w.read_folder(lambda b: b.replace(b"image_id", b"file")), "a column image_id"),
    "table ragged": (lambda w: w.read_folder(lambda b: b + b"3.png,1,2,3,4,5,6,7,8,9\n"), "not a table"),
    "table with a quote left open": (lambda w: w.read_folder(lambda b: b.replace(b"1.png", b'"1.png')), "not a table"),
    "column twice": (
        lambda w: w.read_folder(lambda b: b.replace(b"left_eye_y", b"Smiling")),
        "column 'Smiling' empty or more",
    ),
    "value of two": (
        lambda w: w.read_folder(lambda b: b.replace(b"1.png,1", b"1.png,2")),
        "Smiling = '2' for 1.png: valid are 0 and 1",
    ),
    "no attribute": (
        lambda w: w.read_folder(lambda b: b.replace(b"Smiling", b"Mood").replace(b"1.png,1", b"1.png,x")),
        "only 0 and 1",
    ),
    "name leaves": (lambda w: w.read_folder(lambda b: b.replace(b"1.png", b"../1.png")), "'../1.png', which leaves"),
    "name absolute": (lambda w: w.read_folder(lambda b: b.replace(b"1.png", b"/etc/hostname")), "which leaves"),
    "name with a null byte": (lambda w: w.read_folder(lambda b: b.replace(b"1.png", b"1\0.png")), "attributes.csv"),
    "one eye": (lambda w: w.read_folder(lambda b: b.replace(b"right_eye_x", b"mole")), "all of left_eye_x"),
    "eyes not numbers": (lambda w: w.read_folder(lambda b: b.replace(b"30,40", b"a,b")), "four numbers"),
    "eyes infinite": (lambda w: w.read_folder(lambda b: b.replace(b"30,40", b"inf,40")), "four numbers"),
    "eyes swapped": (
        lambda w: w.read_folder(lambda b: b.replace(b"30,40,60", b"60,40,30")),
        "left_eye_x below right_eye_x",
    ),
    "eyes outside": (
        lambda w: w.read_folder(lambda b: b.replace(b"30,40,60,40", b"3000,40,3060,40")),
        "cannot be aligned",
    ),
    "faces not found": (
        lambda w: w.read_folder(lambda b: b.replace(b"_eye_", b"_ear_")),
        "3 of 3 images are without a face: 0.png, 1.png, 2.png",
    ),
    "names without labels": (lambda w: data.load("utkface", root=w.folder()), "age_gender_race_date.jpg"),
    "animals without animals": (lambda w: data.load("dogs-vs-cats", root=w.folder()), "valid are columns of 0 and 1"),
    "people for animals": (
        lambda w: data.load("dogs-vs-cats", root=w.people()),
        "26_1_2_2017.jpg: valid are files named",
    ),
    "animal unknown": (
        lambda w: w.read_animals("image_id,Dark_Fur\nfox.0.jpg,1\n"),
        "fox.0.jpg: valid are files named",
    ),
    "fur in words": (
        lambda w: w.read_animals("image_id,Dark_Fur\ncat.0.jpg,black\n"),
        "column 'Dark_Fur': valid are columns of 0 and 1",
    ),
    # ---- images
    "image empty": (lambda w: w.read_image(lambda p: p.write_bytes(b"")), "1.png is not an image"),
    "image of text": (lambda w: w.read_image(lambda p: p.write_text("hello")), "1.png is not an image"),
    "image truncated": (
        lambda w: w.read_image(lambda p: p.write_bytes(p.read_bytes()[:-3000])),
        "1.png cannot be decoded",
    ),
    "image damaged": (lambda w: w.read_image(lambda p: flip(p, 60)), "1.png cannot be decoded"),
    "image animated": (
        lambda w: w.read_image(
            lambda p: picture((90, 90)).save(
                p, "GIF", save_all=True, append_images=[picture((91, 90)).resize((90, 90))]
            )
        ),
        "holds 2 frames: valid is a still",
    ),
    "image too large": (lambda w: w.read_image(announce(12_000)), "12000x12000 pixels: valid are at most 110,000,000"),
    "decompression bomb": (lambda w: w.read_image(announce(30_000)), "1.png cannot be decoded"),
    "image too small": (
        lambda w: w.read_image(lambda p: picture((5, 90)).save(p)),
        "5x90 pixels: valid are sides of at least 16",
    ),
    "image a program": (lambda w: w.read_image(lambda p: picture((90, 90)).save(p, "EPS")), "1.png is not an image"),
    "image a folder": (lambda w: w.read_image(a_folder_of_that_name), "There is no file"),
    "image of another size": (
        lambda w: (
            w.celeba()
            and picture((99, 218)).save(w.root / "celeba/img_align_celeba/2.png")
            or data.load("celeba", root=w.root / "celeba")
        ),
        "2.png has 99x218 pixels and not 178x218",
    ),
    "image gone": (
        lambda w: (
            w.celeba()
            and (w.root / "celeba/img_align_celeba/2.png").unlink()
            or data.load("celeba", root=w.root / "celeba")
        ),
        "There is no file",
    ),
    # ---- arrays, splits, training sets
    "images as floats": (
        lambda w: labelled(images=np.zeros((4, 3, 8, 8))),
        "valid is uint8 of shape (N, 3, height, width)",
    ),
    "images channels last": (lambda w: labelled(images=np.zeros((4, 8, 8, 3), np.uint8)), "valid is uint8 of shape"),
    "labels too few": (lambda w: labelled(target=np.zeros(3)), "target has shape (3,) for 4 images"),
    "targets of three kinds": (
        lambda w: ERM(epochs=1).fit(labelled(target=np.array([0, 1, 2, 1]))),
        "with targets 0 and 1",
    ),
    "no epochs": (lambda w: ERM(epochs=0), "epochs is 0; it must be a whole number of at least 1"),
    "setting unknown": (lambda w: ERM(epoch=3), "no setting 'epoch'; valid settings: epochs"),
    "target unknown": (
        lambda w: w.split(target="Happy"),
        "'Happy' is not an attribute of small: valid are Smiling, Male, Young",
    ),
    "spurious is the target": (lambda w: w.split(spurious="Smiling"), "must all differ"),
    "split bias above one": (lambda w: w.split(bias=2), "bias is 2: valid is a number above 0, at most 1"),
    "split too large": (lambda w: w.split(n_train=4000), "The pool has too few images for this split"),
    "split negative": (lambda w: w.split(n_train=-8), "n_train is -8: valid is a whole number"),
    "split aligned sideways": (lambda w: w.split(aligned="left"), "valid are 'opposite' and 'same'"),
    "generator of few images": (
        lambda w: training.Training(np.zeros((9, 3, 32, 32), np.uint8), latent.FactorNetwork(), w.root),
        "There are 9 images to train a generator on; at least 64",
    ),
    # ---- weights
    "weights unknown": (
        lambda w: latent.load("faces-9000"),
        "There are no weights named 'faces-9000-base'; valid names",
    ),
    "weights gone": (lambda w: w.weights(lambda f: (f / "some.safetensors").unlink()), "there is no file"),
    "weights damaged": (
        lambda w: w.weights(lambda f: flip(f / "some.safetensors", -1)),
        "some.safetensors is damaged: its sha256",
    ),
    "table of weights damaged": (
        lambda w: w.weights(lambda f: (f / "checkpoints.json").write_text("{")),
        "checkpoints.json is damaged",
    ),
    "table of weights a list": (
        lambda w: w.weights(lambda f: (f / "checkpoints.json").write_text("[]")),
        "checkpoints.json is damaged",
    ),
    "own generator damaged": (
        lambda w: w.generator(flip),
        "mine.safetensors is damaged: its tensors do not have the hash",
    ),
    "own generator truncated": (
        lambda w: w.generator(lambda f: f.write_bytes(f.read_bytes()[:5000])),
        "mine.safetensors is damaged",
    ),
    "own generator a pickle": (
        lambda w: w.generator(lambda f: f.write_bytes(pickle.dumps({"x": 1}))),
        "not a safetensors file",
    ),
    "own generator other weights": (
        lambda w: latent.load_file(checkpoints.FOLDER / "rendered-faces-text.safetensors"),
        "rendered-faces-text.safetensors carries no hash",
    ),
    "own generator another name": (
        lambda w: latent.save_file(latent.Generator(32), w.root / "x.pt"),
        "ends in .safetensors",
    ),
    # ---- lines of results
    "results not there": (lambda w: results.read(w.root / "none.jsonl"), "There are no results at"),
    "results not JSON": (lambda w: w.lines("{]\n", RESULT), "results.jsonl, line 1 is not a result"),
    "results without a field": (
        lambda w: w.lines(RESULT, {"version": 1, "method": "ERM"}),
        "results.jsonl, line 2 is not a result: row",
    ),
    "results beyond one": (lambda w: w.lines(RESULT | {"accuracy": 1.5}), "line 1 is not a result: accuracy"),
    "results not a number": (
        lambda w: w.lines(json.dumps(RESULT).replace("0.5", "NaN", 1) + "\n"),
        "line 1 is not a result",
    ),
    "results of another kind": (lambda w: w.lines(RESULT | {"colour": "red"}), "line 1 is not a result: colour"),
    # ---- the machine
    "precision unknown": (
        lambda w: runtime.autocast(precision="fp8"),
        "precision 'fp8' is unknown; valid are auto, fp32, bf16",
    ),
    "device unknown": (lambda w: runtime.device("tpu"), "device 'tpu' is not available here; valid are auto, cpu"),
}
IMAGES_ARE_MADE = ("image ", "decompression", "eyes outside", "faces not found")  # known only when it is decoded


def test_there_are_at_least_sixty_kinds():
    assert len(CASES) >= 60


@pytest.mark.parametrize("what", CASES)
def test_one_sentence_before_work_and_nothing_half_written(what, tmp_path, monkeypatch):
    cache, world = tmp_path / "cache", World(tmp_path / "world")
    monkeypatch.setenv("DIGA_CACHE", str(cache))
    world.root.mkdir()
    case, words = CASES[what]
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        case(world)
    sentence = str(caught.value)
    assert words in sentence and "\n" not in sentence and len(sentence) < 1000, sentence
    if not what.startswith(IMAGES_ARE_MADE):
        assert not list(cache.rglob("*.bin")), "something was made before the input was checked"
    left = [path for path in tmp_path.rglob(".*") if path.is_file()]
    assert not left, f"half a file is left behind: {left}"


COMMANDS = {
    "no such folder": (
        ["diga_lib.latent", "--dataset", "celeba", "--root", "/nowhere", "--output", "x.safetensors"],
        "There is no folder",
    ),
    "no epochs": (["diga_lib.latent", "--epochs", "0", "--output", "x.safetensors"], "at least 2 images and 1 epoch"),
    "an unknown row": (["diga_lib.studies", "fair_training", "--rows", "magic"], "magic"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_ends_with_the_sentence_and_not_with_zero(what, tmp_path):
    arguments, words = COMMANDS[what]
    environment = os.environ | {"DIGA_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode not in (0, -9) and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("*.png"))


cells = st.text(alphabet="01-,.;\"'\n\r\t \0abSmiling_é#%{", max_size=60)
quiet = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quiet
@given(header=cells, body=cells)
def test_any_celeba_table_is_read_or_refused_in_a_sentence(tmp_path, header, body):
    (tmp_path / ATTR).write_text(f"2\n{header}\n{body}", errors="surrogateescape", newline="")
    (tmp_path / PART).write_text("a 0\nb 1\n")
    (tmp_path / "img_align_celeba").mkdir(exist_ok=True)
    refused_or_read(layouts.celeba, tmp_path)


@quiet
@given(table=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=5))
def test_any_table_of_fur_is_read_or_refused_in_a_sentence(tmp_path, table):
    text = "\n".join(",".join(row) for row in [["image_id", "Dark_Fur"], *table])
    (tmp_path / "attributes.csv").write_text(text, newline="")
    refused_or_read(layouts.dogs_vs_cats, tmp_path)


@quiet
@given(names=st.lists(st.text(alphabet="0123456789_.jpgchi-", min_size=1, max_size=30), max_size=4))
def test_any_file_names_are_read_or_refused_in_a_sentence(tmp_path, names):
    folder = tmp_path / str(abs(hash(tuple(names))))
    folder.mkdir(exist_ok=True)
    for name in names:
        if name not in (".", ".."):
            (folder / name).touch()
    refused_or_read(layouts.utkface, folder)


def refused_or_read(reader, root):
    try:
        listing = reader(root)
    except (ValueError, FileNotFoundError) as error:
        assert str(root) in str(error) and "\n" not in str(error)
    else:
        assert len(listing.paths) == len(listing.attributes) == len(listing.metadata)
        assert listing.attributes.isin([0, 1]).all(axis=None)


values = st.none() | st.booleans() | st.integers() | st.floats() | cells | st.binary(max_size=5) | st.lists(cells)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from([*(line.split(":")[0] for line in CELL.splitlines()), "zeal"]), value=values)
def test_any_parameter_is_taken_or_refused_in_a_sentence(name, value):
    namespace = {}
    exec(CELL, namespace)
    namespace[name] = value
    try:
        check(namespace)
    except ParameterError as error:
        assert name in str(error) or "data_root" in str(error)
        assert "\n" not in str(error)
    else:
        assert namespace["profile"] in ("quick", "full")
        assert 0 < namespace["bias"] <= 1 and 1 <= namespace["seeds"] <= 100


def test_a_tiff_whose_second_picture_has_no_size_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "x.tif"
    picture((40, 30)).save(path)
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * tags, len(content))  # where the second picture's tags begin
    path.write_bytes(content + bytes(6))  # no tag at all
    with pytest.raises(ValueError, match="x.tif cannot be decoded") as told:
        photos.open_rgb(str(path))
    assert "\n" not in str(told.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, about what it reads all the same
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data_=st.data())
def test_any_damage_of_an_image_is_decoded_or_refused_in_a_sentence(tmp_path, data_):
    kind = data_.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"]))
    path = tmp_path / "x.img"
    picture((40, 30)).save(path, kind)
    content = bytearray(path.read_bytes())
    for _ in range(data_.draw(st.integers(1, 4))):
        content[data_.draw(st.integers(0, len(content) - 1))] = data_.draw(st.integers(0, 255))
    path.write_bytes(content[: data_.draw(st.integers(0, len(content)))])
    try:
        image = photos.open_rgb(str(path))
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert image.mode == "RGB" and min(image.size) >= photos.LEAST_SIDE
