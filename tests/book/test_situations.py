"""What people reported of tools like this one, tried on ours: a line for each situation, in its own words.

Each line of the tables is a situation and what must happen. Those of data on disk are in tests/data, those of results
and studies in tests/studies.
"""

import json
import signal
import subprocess
import sys
import time

import build
import execution
import nbformat
import numpy as np
import psutil
import pytest
from execution import Executor, last_fingerprint, plan, typed
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import code, made_box
from PIL import Image

from diga_lib import data
from diga_lib.pages import parameters
from diga_lib.pages.parameters import ParameterError, check

PARAMETERS = """profile: str = 'quick'
dataset: str = 'rendered-faces'
data_root: str = ''
generator: str = ''
target: str = 'Smiling'
spurious: str = 'Male'
bias: float = 0.1
photos: str = ''
"""


def refused(injected: str) -> str:
    """Check a notebook's parameters after papermill's cell, and return the sentence."""
    namespace = {}
    exec(PARAMETERS + injected, namespace)
    with pytest.raises(ParameterError) as caught:
        check(namespace, several=True)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


COMMAND_LINES = {
    "a page that is not there": (["--only", "99_nothing"], "there is no page '99_nothing'; the pages are 00_tour"),
    "cores below zero": (["--cores", "-1"], "'-1' is not valid; valid is a whole number"),
    "cores in words": (["--cores", "two"], "'two' is not valid"),
    "a profile that is not there": (["--profile", "nope"], "choose from"),
    "a parameter that no notebook has": (["-p", "taget", "Young"], "no notebook has a parameter 'taget'"),
    "a folder of somebody who is not there": (["-p", "photos", "~nosuchuser/x"], "photos = '~nosuchuser/x' is no path"),
    "a path of 5,000 characters": (["-p", "photos", "x" * 5000], "the value of photos has 5,000 characters"),
    "a name without a value": (["-p", "photos"], "expected 2 arguments"),
}


@pytest.mark.parametrize("what", COMMAND_LINES)
def test_a_build_ends_with_a_sentence_and_two(what, capsys):
    arguments, words = COMMAND_LINES[what]
    try:
        status = build.main(arguments)
    except SystemExit as end:  # of argparse
        status = end.code
    assert status == 2
    assert words in capsys.readouterr().err


TEXTS = {
    "a folder called 2024": ("photos", "2024", "str", "2024"),
    "a folder called [2024] trip": ("photos", "[2024] trip", "str", "[2024] trip"),
    "a folder called null": ("data_root", "null", "str", "null"),
    "a folder called yes": ("data_root", "yes", "str", "yes"),
    "a folder called 1e3": ("photos", "1e3", "str", "1e3"),
    "an attribute called No": ("target", "No", "str", "No"),
    "a fraction": ("bias", "1/9", "float", "1/9"),
    "a number": ("seed", "3", "int", 3),
    "a list": ("methods", "[ERM, DiGA]", "list", ["ERM", "DiGA"]),
    "a list that never closes": ("methods", "[" * 1_000, "list", "[" * 1_000),
    "a number that would take an hour": ("bias", "1e999999999", "float", "1e999999999"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_text_of_the_command_line_stays_what_the_notebook_declares(what):
    name, text, kind, meant = TEXTS[what]
    value = typed(name, text, kind)
    assert (value.rsplit("/", 1)[-1] if name in execution.PATHS else value) == meant
    assert type(value) is type(meant)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=30).filter(lambda text: text and "\0" not in text and "/" not in text and text[0] != "~"))
def test_any_text_for_a_word_stays_as_it_is(text):
    assert typed("target", text, "str") == text
    assert typed("photos", text, "str") == str((execution.Path.cwd() / text).resolve())


SENTENCES = {
    "a number that would take an hour to read": ("bias = '1e999999999'", "bias = '1e999999999' is not valid"),
    "a number beyond all floats": ("bias = '1e400'", "bias = '1e400' is not valid"),
    "a fraction of numbers beyond all floats": ("bias = '1e400/1e400'", "is not valid"),
    "a list nested 100,000 deep": ("bias = '[' * 100_000", "is not valid; valid is minority/majority"),
    "a path of 5,000 characters": ("photos = 'x' * 5000", "valid is a folder of photographs that exists"),
    "a folder of somebody who is not there": ("photos = '~nosuchuser/x'", "a folder of photographs that exists"),
    "a folder that is a number": ("data_root = 5", "data_root = 5 is not valid"),
    "a folder that is nothing": ("photos = None", "photos = None is not valid"),
    "a script for an attribute": ("target = '<script>alert(1)</script>'", "is not an attribute; valid are words"),
    "an attribute that closes a code span": ("spurious = '` <b>'", "is not an attribute; valid are words"),
    "a bias that leaves a group without images": ("bias = 0.0001", "valid with profile = quick is at least"),
    "the same with two spurious attributes": ("bias = 0.01; spurious = 'Male&Young'", "is at least"),
}


@pytest.mark.parametrize("what", SENTENCES)
def test_a_notebook_s_second_cell_refuses_in_a_sentence(what):
    injected, words = SENTENCES[what]
    assert words in refused(injected)


def test_the_least_bias_that_is_named_is_accepted():
    for spurious in ("Male", "Male&Young"):
        least = refused(f"bias = 1e-6; spurious = {spurious!r}").rsplit(" ", 1)[-1]
        exec(f"{PARAMETERS}bias = {least}; spurious = {spurious!r}", namespace := {})
        check(namespace, several=True)


def test_a_misspelt_attribute_of_a_folder_is_told_before_an_image_is_decoded(tmp_path):
    (tmp_path / "attributes.csv").write_text("image_id,Smiling,Male\na.png,1,0\nb.png,0,1\n")
    for name in "ab":  # no images: whoever decodes one fails otherwise
        (tmp_path / f"{name}.png").write_bytes(b"")
    sentence = refused(f"dataset = 'folder'; data_root = {str(tmp_path)!r}; target = 'Smilling'")
    assert "did you mean Smiling?" in sentence and "valid are Smiling, Male" in sentence


def folder_of(root, labels) -> dict:
    """A folder of files that nobody has to decode, with these values of Smiling and Male, and a page's parameters."""
    root.mkdir(exist_ok=True)
    lines = [f"{i}.png,{y},{s}" for i, (y, s) in enumerate(labels)]
    (root / "attributes.csv").write_text("\n".join(["image_id,Smiling,Male", *lines]))
    for i in range(len(labels)):
        (root / f"{i}.png").touch()
    exec(f"{PARAMETERS}dataset = 'folder'; data_root = {str(root)!r}", namespace := {})
    return namespace


FOUR = [(0, 0), (0, 1), (1, 0), (1, 1)]
FOLDERS = {
    "3 photographs": (FOUR[:3], "holds 3 images; valid is at least 150"),
    "400 photographs on a page of thousands": (FOUR * 100, "Smiling=0 Male=1: 100 exist, 2,400 asked"),
    "nobody who smiles": (FOUR[:2] * 100, "Smiling=1 Male=0: 0 exist"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_too_few_images_are_told_before_one_is_decoded(what, tmp_path):
    labels, words = FOLDERS[what]
    with pytest.raises(ParameterError, match=words):
        check(folder_of(tmp_path, labels))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(FOUR), min_size=140, max_size=500), st.sampled_from([0.01, 0.05, 1 / 9, 0.5, 1.0]))
def test_a_page_for_few_images_refuses_a_folder_or_can_split_it(tmp_path_factory, labels, bias):
    namespace = folder_of(tmp_path_factory.mktemp("some"), labels) | {"bias": bias}
    try:
        check(namespace, n_train=lambda images: images // 3)
    except ParameterError as refused:
        sentence = str(refused)
        assert "\n" not in sentence and ("data_root = " in sentence or "bias" in sentence and "valid" in sentence)
    else:
        pool = parameters.labels("folder", namespace["data_root"], "quick", "Male")
        split = data.biased_split(pool, bias=bias, n_train=len(pool) // 3)
        assert np.bincount(split.train.group).min() >= 2 and len(split.test) >= 4


def test_a_partition_that_is_none_is_told_as_it_is(tmp_path):
    namespace = folder_of(tmp_path, FOUR * 40)
    table = (tmp_path / "attributes.csv").read_text().splitlines()
    (tmp_path / "attributes.csv").write_text(
        "\n".join([f"{table[0]},partition", *(f"{row},third" for row in table[1:])])
    )
    with pytest.raises(ParameterError, match="has 'third': valid are train, validation and test"):
        check(namespace)


def test_attributes_too_rare_for_a_page_are_told_with_remedies_that_it_has():
    sentence = refused("spurious = 'Eyeglasses'")
    assert "Smiling=1 Eyeglasses=1" in sentence and "n_train" not in sentence
    assert sentence.endswith("valid are more images, another target or spurious, or another bias")


ALBUMS = {
    "an album without the target": (
        "image_id,Young,Male\n0.png,1,0\n",
        "has no attribute 'Smiling'; it has Young, Male",
    ),
    "an album of two faces": ("image_id,Smiling,Male\n0.png,1,0\n1.png,0,0\n", "has 2 faces; valid are at least 3"),
    "nobody in it who smiles": (
        "image_id,Smiling,Male\n0.png,0,0\n1.png,0,1\n2.png,0,1\n",
        "that show every combination of Smiling and Male",
    ),
}


@pytest.mark.parametrize("what", ALBUMS)
def test_an_album_that_a_page_cannot_use_is_told_in_the_second_cell(what, tmp_path):
    table, words = ALBUMS[what]
    columns, *rows = table.split()
    eyes = [f"{row},20,30,44,30" for row in rows]
    lines = [f"{columns},left_eye_x,left_eye_y,right_eye_x,right_eye_y", *eyes]
    (tmp_path / "attributes.csv").write_text("\n".join(lines))
    for i in range(len(rows)):
        Image.new("RGB", (64, 64), (90 * i, 0, 0)).save(tmp_path / f"{i}.png")
    assert words in refused(f"photos = {str(tmp_path)!r}")


def test_animals_without_a_table_of_fur_are_told_in_the_second_cell(tmp_path):
    (tmp_path / "train").mkdir()
    for name in ("cat.0.jpg", "dog.0.jpg"):
        (tmp_path / "train" / name).write_bytes(b"")
    injected = f"dataset = 'dogs-vs-cats'; data_root = {str(tmp_path)!r}; target = 'Dog'; spurious = 'Dark_Fur'"
    assert "'Dark_Fur' is not an attribute of dogs-vs-cats" in refused(injected)


def test_a_cache_that_cannot_be_written_is_named_by_its_variable(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path / "file"))
    assert "DIGA_CACHE" in refused("")


def test_a_parameter_for_all_pages_leaves_alone_what_a_page_keeps():
    given = {"target": "Smiling", "spurious": "Young", "bias": "0.2", "08_beyond_faces.seed": "3"}
    runs = {run.page: run.parameters for run in plan("quick", given, [])}
    assert runs["04_fair_training"]["target"] == "Smiling" and "seed" not in runs["04_fair_training"]
    assert "target" not in runs["08_beyond_faces"] and runs["08_beyond_faces"]["bias"] == 0.2
    assert runs["08_beyond_faces"]["seed"] == 3
    own = plan("quick", {"08_beyond_faces.target": "Dark_Fur"}, ["08_beyond_faces"])[0]
    assert own.parameters["target"] == "Dark_Fur"


@settings(max_examples=200, deadline=None)
@given(value=st.text(max_size=60))
def test_nothing_ends_the_span_of_code_that_a_page_prints(value):
    from markdown_it import MarkdownIt

    shown = MarkdownIt("commonmark").render(f"Made with {code(f'target = {value}')}.")
    assert shown.count("<code>") == 1 and shown.count("<") == 4, shown


def test_a_page_s_own_command_cannot_be_ended_by_a_value():
    run = execution.Run("a", execution.Path("a.ipynb"), {"profile": "quick", "target": "x\n```\n::::\n<script>"})
    record = {"seconds": 1, "threads": 1, "peak_mb": 1, "versions": {}, "commit": "x"}
    lines = made_box(run, record).splitlines()
    assert lines.count("::::") == 1 and not any(line.startswith("<script>") for line in lines)


# ------------------------------------------------------------------------------------ killed, damaged, two at once
@pytest.fixture
def root(tmp_path):
    """A project of one page, which sleeps for as long as its parameter says."""
    for name in ("notebooks", "book", "diga_lib"):
        (tmp_path / name).mkdir()
    (tmp_path / "requirements.lock").touch()
    (tmp_path / "book" / "runs.yml").write_text("pages:\n- {page: a}\n")
    declared = nbformat.v4.new_code_cell(
        "profile: str = 'quick'  # profile\npause: float = 0  # seconds", id="one", metadata={"tags": ["parameters"]}
    )
    works = nbformat.v4.new_code_cell(
        "import os, pathlib, time\nwith open('../pids', 'a') as file:\n    print(os.getpid(), file=file)\n"
        "time.sleep(pause)",
        id="two",
    )
    notebook = nbformat.v4.new_notebook(cells=[declared, works])
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "notebooks" / "a.ipynb")
    return tmp_path


SCRIPT = """
import pathlib, sys
sys.path.insert(0, {book!r})
from execution import Executor, plan
root = pathlib.Path({root!r})
Executor(root / "executed", root, cores=2).execute(plan("quick", {given!r}, [], root))
"""


def started(root, **given) -> subprocess.Popen:
    script = SCRIPT.format(book=str(execution.ROOT / "book"), root=str(root), given=given)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_build_that_is_killed_takes_its_kernels_with_it_and_the_next_one_begins_anew(root):
    pids = root / "pids"
    killed = started(root, pause="600")
    until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    kernel = int(pids.read_text())
    until(lambda: not alive(kernel), 30)
    run = plan("quick", {}, [], root)[0]
    assert last_fingerprint(run, root / "executed") is None
    executor = Executor(root / "executed", root, cores=2)
    executor.execute([run])
    assert not executor.failed and last_fingerprint(run, root / "executed")
    assert not list((root / "executed").glob("*unfinished*"))


def test_two_builds_of_one_page_execute_it_once(root):
    both = [started(root, pause="2") for _ in range(2)]
    said = [one.communicate()[0] for one in both]
    assert all(one.returncode == 0 for one in both)
    assert sum("done in" in text for text in said) == 1
    assert sum("another build has just made it" in text or "unchanged" in text for text in said) == 1
    assert len((root / "pids").read_text().splitlines()) == 1


DAMAGED = {
    "half a record": lambda text: text[: len(text) // 2],
    "an empty record": lambda text: "",
    "a record that is a list": lambda text: "[1, 2]",
    "a record without its parts": lambda text: json.dumps({"sha256": "x", "peak_mb": 1}),
    "a record whose parts are a number": lambda text: json.dumps(json.loads(text) | {"fingerprint": 3}),
    "a record of bytes": lambda text: "\x00\x01",
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_page_with_a_damaged_record_was_never_executed(what, root):
    run, folder = plan("quick", {}, [], root)[0], root / "executed"
    folder.mkdir()
    (folder / "a.ipynb").write_text("whole")
    whole = json.dumps({"sha256": execution.sha256(folder / "a.ipynb"), "peak_mb": 1, "fingerprint": {"x": "1"}})
    (folder / "a.json").write_text(whole)
    assert last_fingerprint(run, folder) == {"x": "1"}
    (folder / "a.json").write_text(DAMAGED[what](whole))
    assert last_fingerprint(run, folder) is None


def test_what_editors_and_systems_leave_in_a_folder_stops_no_build(tmp_path):
    (tmp_path / "one.jpg").write_bytes(b"1")
    before = execution._listing(tmp_path)
    (tmp_path / ".#attributes.csv").symlink_to(tmp_path / "gone")
    (tmp_path / "._one.jpg").write_bytes(b"x")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone")
    assert execution._listing(tmp_path) == before
