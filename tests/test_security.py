"""Nothing that comes from outside is run: the sources are searched for what would run it, and some of it is tried."""

import ast
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from diga_lib import data, latent
from diga_lib.data.photos import layouts
from diga_lib.latent import checkpoints
from diga_lib.latent.adapters import PairGenerator

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for folder in ("diga_lib", "book", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if "_build" not in path.parts
)
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "telnetlib", "ftplib"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "torch.load",
    "joblib.load",
    "np.loadtxt",
    "pd.read_pickle",
    "yaml.load",
    "yaml.unsafe_load",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "tempfile.mktemp",
    "torch.hub.load",
    "torch.jit.load",
}


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_source_runs_nothing_from_outside(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & FORBIDDEN_MODULES, f"{path}, line {node.lineno}"
    for name, call in calls(path):
        where = f"{path}, line {call.lineno}: {name}"
        keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert name not in FORBIDDEN_CALLS, where
        assert not name.endswith(".extractall"), where
        assert keywords.get("shell", "False") == "False", f"{where} with a shell"
        assert keywords.get("allow_pickle", "False") == "False", where
        if name in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle") == "False", f"{where} without allow_pickle=False"
        if name.startswith("subprocess.") and call.args:
            assert not isinstance(call.args[0], (ast.JoinedStr, ast.BinOp)), f"{where} with a command in one string"


def test_the_search_finds_what_it_searches_for(tmp_path):
    bad = [
        "import pickle",
        "from pickle import loads",
        "torch.load('x')",
        "np.load('x')",
        "np.load('x', allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "subprocess.run(f'ls {x}')",
        "os.system('ls')",
        "yaml.load(x)",
        "eval(x)",
        "torch.jit.load('x')",
    ]
    for line in bad:
        (tmp_path / "bad.py").write_text(line)
        with pytest.raises(AssertionError):
            test_the_source_runs_nothing_from_outside(tmp_path / "bad.py")
    (tmp_path / "good.py").write_text("np.load('x', allow_pickle=False)\nsubprocess.run(['ls', x])\nyaml.safe_load(x)")
    test_the_source_runs_nothing_from_outside(tmp_path / "good.py")


class Bomb:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def bomb(tmp_path):
    """A pickle under many names, and the file that it makes when it is opened the wrong way."""
    made = tmp_path / "it went off"
    content = pickle.dumps(Bomb(str(made)))
    pickle.loads(content).close()
    assert made.exists(), "the bomb works"
    made.unlink()
    return content, made


def test_a_pickle_is_refused_wherever_a_file_is_opened(tmp_path, bomb, monkeypatch):
    content, made = bomb
    monkeypatch.setenv("DIGA_CACHE", str(tmp_path / "cache"))
    weights, archive = tmp_path / "x.safetensors", tmp_path / "x.pt"
    weights.write_bytes(content)
    torch.save({"x": Bomb(str(made))}, archive)
    for file in (weights, archive):
        with pytest.raises(ValueError, match="not a safetensors file"):
            latent.load_file(file)
        with pytest.raises(ValueError, match="not an ONNX network"):
            PairGenerator.from_onnx(file, file)
        assert not made.exists()
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "faces.safetensors").write_bytes(content)
    checkpoints.register("faces", folder / "faces.safetensors")
    with pytest.raises(ValueError, match="not a safetensors file"):
        checkpoints.load_state("faces", folder)
    (tmp_path / "attributes.csv").write_bytes(content)
    with pytest.raises(ValueError, match="attributes.csv"):
        layouts.folder(tmp_path)
    (tmp_path / "attributes.csv").write_text("image_id,Smiling\nx.png,1\n")
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError, match="x.png is not an image"):
        data.load("folder", root=tmp_path, align=False)
    assert not made.exists()


def test_arrays_of_objects_are_refused(tmp_path, bomb):
    """What the rule about `allow_pickle` is for."""
    _, made = bomb
    np.save(tmp_path / "x.npy", np.array([Bomb(str(made))], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        np.load(tmp_path / "x.npy", allow_pickle=False)
    assert not made.exists()


OUTSIDE = [
    "../secret.png",
    "/etc/hostname",
    "a/../../secret.png",
    "./../secret.png",
    "~/secret.png",
    "..\\secret.png",
    "link.png",
    "linked/secret.png",
    "images/../../secret.png",
    "..",
    ".",
    "secret.png\0.png",
]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("layout", ["folder", "celeba", "dogs-vs-cats"])
def test_no_name_in_a_table_leads_out_of_its_folder(tmp_path, layout, name):
    from PIL import Image

    root = tmp_path / "root"
    images = root / {"folder": "images", "celeba": "img_align_celeba", "dogs-vs-cats": "train"}[layout]
    images.mkdir(parents=True)
    Image.new("RGB", (178, 218)).save(tmp_path / "secret.png")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    (images / "linked").symlink_to(tmp_path)
    if layout == "celeba":
        (root / "list_attr_celeba.txt").write_text(f"1\nSmiling\n{name} 1\n")
        (root / "list_eval_partition.txt").write_text(f"{name} 0\n")
    else:
        (root / "attributes.csv").write_text(f"image_id,Smiling\n{name},1\n")
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        data.load(layout, root=root)
    assert re.search("which leaves|There is no file|valid (is|are)", str(refused.value))


def test_a_name_with_a_command_in_it_is_a_name(tmp_path):
    from PIL import Image

    name = f"$(touch {tmp_path}_x); `touch y`.png".replace(os.sep, "_")
    Image.new("RGB", (64, 64)).save(tmp_path / name)
    (tmp_path / "attributes.csv").write_text(f'image_id,Smiling\n"{name}",1\n')
    assert layouts.folder(tmp_path).metadata["image_id"].tolist() == [name]
    assert {path.name for path in tmp_path.iterdir()} == {name, "attributes.csv"}
