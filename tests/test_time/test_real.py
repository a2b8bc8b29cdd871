"""Real data sets: torchvision's by name, through a stand-in for the module, and a folder of folders."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

from diga_lib.test_time.real import TORCHVISION, real_stream


def save(path, colour, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_a_folder_of_folders(tmp_path):
    for k in range(3):
        save(tmp_path / "red_fox" / f"{k}.png", (255, 0, 0))
        save(tmp_path / "owl" / f"{k}.jpg", (0, 0, 255), size=(20, 50))
    (tmp_path / "owl" / "notes.txt").write_text("not an image")
    s = real_stream("folder", tmp_path, size=16)
    assert s.images.shape == (6, 3, 16, 16) and s.images.dtype == np.uint8
    assert s.space.classes == ("owl", "red_fox") and list(s.space.prompts.values()) == ["an owl", "a red fox"]
    assert (s.images[s.labels == 1][:, 0] == 255).all() and (s.images[s.labels == 0][:, 2] > 250).all()
    assert len(real_stream("folder", tmp_path, n=4, size=16)) == 4
    with pytest.raises(FileNotFoundError, match="a folder of images for each of two or more classes"):
        real_stream("folder", tmp_path / "nowhere")


@pytest.fixture
def torchvision(monkeypatch):
    """A torchvision with one data set, which fails if it is asked to fetch anything."""

    class OxfordIIITPet:
        classes = ["Abyssinian", "Boxer"]

        def __init__(self, root, split="trainval", download=False):
            assert split == "test" and download is False
            if root != "here":
                raise RuntimeError("Dataset not found.")

        def __len__(self):
            return 4

        def __getitem__(self, k):
            return Image.new("RGB", (30, 20), (40 * k, 0, 0)), k % 2

    module = types.ModuleType("torchvision.datasets")
    module.OxfordIIITPet = OxfordIIITPet
    parent = types.ModuleType("torchvision")
    parent.datasets = module
    monkeypatch.setitem(sys.modules, "torchvision", parent)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)


def test_torchvision_by_name(torchvision):
    s = real_stream("OxfordIIITPet", "here", size=8)
    assert s.space.prompts["Abyssinian"] == "an abyssinian, a type of pet"
    assert sorted(s.labels) == [0, 0, 1, 1]
    assert ((s.images[:, 0].mean((1, 2)) / 40).round().astype(int) % 2 == s.labels).all()
    with pytest.raises(FileNotFoundError, match="OxfordIIITPet is not at there: Dataset not found"):
        real_stream("OxfordIIITPet", "there")


def test_what_is_not_there(monkeypatch):
    with pytest.raises(ValueError, match="valid are folder, FGVCAircraft"):
        real_stream("Pets", ".")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    for name in TORCHVISION:
        with pytest.raises(FileNotFoundError, match=f"Reading {name} needs the package torchvision"):
            real_stream(name, ".")


def test_pictures_of_a_folder_come_through_the_one_reader(tmp_path):
    """Upright by EXIF, 16 bits scaled, transparent white; hidden files and folders passed over; broken ones named."""
    turned = Image.new("RGB", (40, 20), (255, 0, 0))
    turned.paste((0, 0, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    turned.save(tmp_path / "a" / "turned.png", exif=exif)
    Image.fromarray(np.full((20, 20), 65535, np.uint16)).save(tmp_path / "b" / "deep.png")
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / "b" / "clear.png")
    save(tmp_path / ".cache" / "1.png", (0, 0, 0))
    (tmp_path / "a" / "._turned.png").write_bytes(b"of another system")
    s = real_stream("folder", tmp_path, size=16)
    assert s.space.classes == ("a", "b") and len(s) == 3
    assert (s.images[s.labels == 1] == 255).all(), "white both"
    left = s.images[s.labels == 0][0][:, 8, 2]
    assert left[0] > 200 > left[2], "red is at the left once it is upright"
    (tmp_path / "b" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        real_stream("folder", tmp_path, size=16)
