"""The reader of DISFA on a small tree in its layout, and on what can be wrong with one."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from diga_lib import data
from diga_lib.data.photos import disfa

FRAMES = 5


@pytest.fixture
def tree(tmp_path):
    """Two subjects with five labelled frames each; subject SN002 has images of frames 2, 4 and 5 only."""
    rng, truth = np.random.default_rng(0), {}
    for name, shown in (("SN001", range(1, FRAMES + 1)), ("SN002", (2, 4, 5))):
        (tmp_path / "ActionUnit_Labels" / name).mkdir(parents=True)
        (tmp_path / "Images" / name).mkdir(parents=True)
        for unit in disfa.UNITS:
            values = rng.integers(0, 6, FRAMES)
            lines = [f"{frame},{value}" for frame, value in enumerate(values, start=1)]
            (tmp_path / "ActionUnit_Labels" / name / f"{name}_au{unit}.txt").write_text("\n".join(lines) + "\n")
            truth |= {(name, frame, unit): values[frame - 1] for frame in shown}
        for frame in shown:
            colour = (10 * frame, 100 if name == "SN001" else 200, 0)
            Image.new("RGB", (40, 40), colour).save(tmp_path / "Images" / name / f"{frame:05d}.png")
    return tmp_path, truth


def test_frames_and_intensities_belong_together(tree):
    root, truth = tree
    pool = data.load("disfa", root=root, align=False)
    assert len(pool) == 8 and pool.images.shape == (8, 3, 64, 64)
    assert list(pool.metadata["subject"]) == ["SN001"] * 5 + ["SN002"] * 3
    for row, (name, frame) in enumerate(zip(pool.metadata["subject"], pool.metadata["frame"], strict=True)):
        assert pool.images[row, :2, 30, 30].tolist() == [10 * frame, 100 if name == "SN001" else 200]
        assert [pool.factors.loc[row, f"AU{u}"] for u in disfa.UNITS] == [truth[name, frame, u] for u in disfa.UNITS]
    assert ((pool.factors >= 2) == pool.attributes.astype(bool)).all(axis=None)
    assert len(data.load("disfa", root=root, n=3, align=False)) == 3


def test_frames_are_in_the_order_of_time_whatever_their_names(tree):
    root, _ = tree
    (root / "Images" / "SN001" / "00003.png").rename(root / "Images" / "SN001" / "3.png")
    (root / "Images" / "SN001" / "00005.png").unlink()
    pool = data.load("disfa", root=root, align=False)
    assert list(pool.metadata["frame"]) == [1, 2, 3, 4, 2, 4, 5]
    assert pool.metadata["image_id"][2] == "SN001/3.png"


@pytest.mark.parametrize("shift", [-1, 1, 5])
def test_frames_numbered_otherwise_than_their_labels_are_refused(tree, shift):
    root, _ = tree
    images = root / "Images" / "SN001"
    for frame in sorted(range(1, FRAMES + 1), reverse=shift > 0):
        (images / f"{frame:05d}.png").rename(images / f"{frame + shift}.png")
    with pytest.raises(ValueError, match=r"has the image \d+.png, but labels go from frame 1 to 5"):
        data.load("disfa", root=root, align=False)


def test_a_subject_without_images_is_left_out(tree):
    root, _ = tree
    (root / "Images" / "SN002").rename(root / "elsewhere")
    assert set(data.load("disfa", root=root, align=False).metadata["subject"]) == {"SN001"}


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda root: (root / "ActionUnit_Labels/SN001/SN001_au4.txt").write_text("1,6\n"),
            ["Line 1", "SN001_au4", "0 to 5"],
        ),
        (
            lambda root: (root / "ActionUnit_Labels/SN001/SN001_au4.txt").write_text("1;2\n"),
            ["Line 1", "SN001_au4", "comma"],
        ),
        (
            lambda root: (root / "ActionUnit_Labels/SN001/SN001_au4.txt").write_text("1,2\n1,3\n"),
            ["SN001_au4", "more than once"],
        ),
        (lambda root: (root / "ActionUnit_Labels/SN001/SN001_au4.txt").write_text("1,2\n"), ["AU4", "frame 2"]),
        (
            lambda root: (root / "Images/SN001/00001.png").rename(root / "Images/SN001/first.png"),
            ["first.png", "00001.jpg"],
        ),
        (lambda root: Image.new("RGB", (40, 40)).save(root / "Images/SN001/1.jpg"), ["two images of frame 1"]),
        (lambda root: [file.unlink() for file in (root / "Images/SN002").iterdir()], ["SN002", "no image"]),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(tree, change, words):
    root, _ = tree
    change(root)
    with pytest.raises(ValueError) as caught:
        data.load("disfa", root=root, align=False)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tree, tmp_path):
    root, _ = tree
    (root / "ActionUnit_Labels/SN001/SN001_au26.txt").unlink()
    with pytest.raises(FileNotFoundError, match="SN001_au26.txt"):
        data.load("disfa", root=root)
    with pytest.raises(FileNotFoundError, match="Images"):
        data.load("disfa", root=root / "ActionUnit_Labels")
    with pytest.raises(ValueError, match="'error' and 'drop'"):
        data.load("disfa", root=root, missing="ignore")
    with pytest.raises(ValueError, match="'disfa' is read from disk"):
        data.load("disfa")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.load("disfa", root=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="n is 0"):
        data.load("disfa", n=0, root=root)


def test_faces_are_aligned_and_frames_without_one_are_left_out(tree, capsys):
    root, _ = tree
    for missing in ("error", "drop"):
        with pytest.raises(ValueError, match="without a face"):
            data.load("disfa", root=root, missing=missing)  # plain colours: no face in any frame
    pd.testing.assert_frame_equal(disfa.disfa(root).factors, data.load("disfa", root=root, align=False).factors)
