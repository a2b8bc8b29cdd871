"""A wrong parameter stops a notebook at once, with one sentence that lists what is valid."""

import subprocess
import sys

import nbformat
import pytest

from diga_lib import latent
from diga_lib.pages.parameters import ParameterError, check


def notebook_globals(source: str, injected: str = "") -> dict:
    """Return the namespace that a parameters cell, and papermill's cell after it, leave behind."""
    namespace = {"In": [""], "Out": {}, "__name__": "__main__"}
    exec(source, namespace)
    exec(injected, namespace)
    return namespace


CELL = """import json
profile: str = "quick"
dataset: str = "rendered-faces"
target: str = "Smiling"
spurious: str = "Male"
bias: float = 0.1
seeds: int = 3
"""


def test_good_values_pass_and_take_their_type():
    namespace = notebook_globals(CELL, 'bias = "1/9"\nspurious = "Young"\nprofile = "full"\n')
    check(namespace)
    assert namespace["bias"] == pytest.approx(1 / 9)
    assert (namespace["spurious"], namespace["profile"]) == ("Young", "full")


@pytest.mark.parametrize(
    ("injected", "wrong", "valid"),
    [
        ('taget = "Young"', "no parameter 'taget' (did you mean target?)", "profile, dataset, target"),
        ("seed = 1", "no parameter 'seed' (did you mean seeds?)", "bias, seeds"),  # known elsewhere, not here
        ("zzz = 1", "no parameter 'zzz'; its", "target, spurious"),
        ('profile = "fast"', "profile = 'fast' is not valid", "quick, full"),
        ('dataset = "mnist"', "dataset = 'mnist' is not valid", "rendered-faces, celeba, utkface, disfa, dogs-vs-cats"),
        ("bias = 0", "bias = 0 is not valid", "above 0 and up to 1"),
        ("bias = 1.5", "bias = 1.5 is not valid", "above 0 and up to 1"),
        ('bias = "1/0"', "bias = '1/0' is not valid", "above 0 and up to 1"),
        ('bias = "nan"', "bias = 'nan' is not valid", "above 0 and up to 1"),
        ("seeds = 2.5", "seeds = 2.5 is not valid", "from 1 to 100"),
        ("seeds = 0", "seeds = 0 is not valid", "from 1 to 100"),
        ("seeds = True", "seeds = True is not valid", "from 1 to 100"),
        (
            'target = "Smilling"',
            "target = 'Smilling' is not an attribute of rendered-faces (did you mean Smiling?)",
            "Big_Nose",
        ),
        ('target = "Male"', "target = 'Male' and spurious = 'Male'", "different"),
        ('spurious = "Male&Smiling"', "spurious = 'Male&Smiling'", "different"),
        ('spurious = "Male&Tall"', "spurious = 'Tall' is not an attribute", "Young"),
    ],
)
def test_bad_parameters_are_one_sentence(injected, wrong, valid):
    with pytest.raises(ParameterError) as caught:
        check(notebook_globals(CELL, injected))
    sentence = str(caught.value)
    assert wrong in sentence
    assert valid in sentence
    assert "\n" not in sentence


def test_two_spurious_attributes_are_allowed():
    two = 'spurious = "Male&Young"'
    check(notebook_globals(CELL, two), several=True)
    with pytest.raises(ParameterError, match="valid on this page is one attribute"):
        check(notebook_globals(CELL, two))


def test_a_declared_parameter_that_nobody_checks_is_refused():
    with pytest.raises(ParameterError, match="no parameter 'depth'"):
        check(notebook_globals("profile: str = 'quick'\ndepth: int = 3"))


def test_a_notebook_may_have_parameters_of_its_own():
    source = "degree: float = 2\nface: int = 3\nmethods: list = ['ERM']\nside: str = 'left'"
    own = {"degree": (0.0, 5.0), "face": (0, 9), "methods": ["ERM", "DiGA"], "side": ["left", "right"]}
    namespace = notebook_globals(source, "methods = \"['ERM', 'DiGA']\"")
    check(namespace, **own)
    assert namespace["methods"] == ["ERM", "DiGA"]
    assert (namespace["degree"], namespace["face"]) == (2.0, 3)
    for injected, valid in [
        ("degree = 6", "a number from 0.0 to 5.0"),
        ("face = 1.5", "a whole number from 0 to 9"),
        ("methods = 'JTT'", "a list from ERM, DiGA"),
        ("methods = []", "a list from ERM, DiGA"),
        ("side = 'up'", "left, right"),
    ]:
        with pytest.raises(ParameterError, match=valid):
            check(notebook_globals(source, injected), **own)


def test_folders_must_exist(tmp_path):
    with pytest.raises(ParameterError, match="There is no file .*attributes.csv"):
        check(notebook_globals("photos: str = ''", f"photos = {str(tmp_path)!r}"))
    with pytest.raises(ParameterError, match="a folder of photographs that exists"):
        check(notebook_globals("photos: str = ''", f"photos = {str(tmp_path / 'none')!r}"))


def test_data_on_disk_needs_its_folder(tmp_path):
    cell = "dataset: str = 'rendered-faces'\ndata_root: str = ''"
    check(notebook_globals(cell))
    with pytest.raises(ParameterError, match="There is no file .*list_attr_celeba.txt"):
        check(notebook_globals(cell, f"dataset = 'celeba'; data_root = {str(tmp_path)!r}"))
    with pytest.raises(ParameterError, match="dataset = 'celeba' needs data_root"):
        check(notebook_globals(cell, "dataset = 'celeba'"))


def test_a_folder_without_its_data_set_is_refused(tmp_path):
    cell = "dataset: str = 'rendered-faces'\ndata_root: str = ''"
    with pytest.raises(ParameterError, match="belongs to no dataset; valid with it is dataset = celeba"):
        check(notebook_globals(cell, f"data_root = {str(tmp_path)!r}"))


def test_a_generator_is_a_file_of_weights(tmp_path):
    cell = "profile: str = 'quick'\ngenerator: str = ''"
    check(notebook_globals(cell))
    latent.save_file(latent.Generator(64), tmp_path / "mine.safetensors")
    namespace = notebook_globals(cell, f"generator = {str(tmp_path / 'mine.safetensors')!r}")
    check(namespace)
    assert namespace["generator"] == str((tmp_path / "mine.safetensors").resolve())

    class Loaded:
        def decode(self, codes):
            return codes

    namespace["generator"] = Loaded()  # the cell below was run, and now the check again
    check(namespace)
    latent.save_file(latent.Generator(32), tmp_path / "small.safetensors")
    with pytest.raises(ParameterError, match="paints 32 x 32 pixels; valid is 64 x 64"):
        check(notebook_globals(cell, f"generator = {str(tmp_path / 'small.safetensors')!r}"))
    (tmp_path / "damaged.safetensors").write_bytes(b"x")
    with pytest.raises(ParameterError, match="damaged"):
        check(notebook_globals(cell, f"generator = {str(tmp_path / 'damaged.safetensors')!r}"))
    for wrong in ("'nowhere.safetensors'", "'setup.py'", "3", "b'x'", "None"):
        with pytest.raises(ParameterError, match="generator = .* is not valid; valid is a .safetensors file"):
            check(notebook_globals(cell, f"generator = {wrong}"))


def test_a_device_that_is_not_there_is_refused():
    import torch

    absent = [name for name in ("cuda", "mps") if not getattr(torch, name).is_available()]
    for name in absent:
        with pytest.raises(ParameterError, match="device = .* is not valid; valid is auto, cpu"):
            check(notebook_globals("device: str = 'auto'", f"device = {name!r}"))
    assert absent, "a machine with both CUDA and MPS does not exist"


def test_cells_can_be_run_again_after_the_notebook_made_variables_of_its_own():
    namespace = notebook_globals(CELL)
    check(namespace)
    exec("total = 3\nnames: list = ['a']\nbias = 2", namespace)
    with pytest.raises(ParameterError, match="bias = 2 is not valid"):
        check(namespace)
    namespace["bias"] = 0.5
    check(namespace)


def test_papermill_stops_with_the_sentence_last(tmp_path):
    """As a reader would run a small notebook: no traceback, and no work before the parameters are checked."""
    parameters = nbformat.v4.new_code_cell('target: str = "Smiling"  # attribute to predict')
    parameters.metadata["tags"] = ["parameters"]
    cells = [
        parameters,
        nbformat.v4.new_code_cell("from diga_lib.pages.parameters import check\ncheck(globals())"),
        nbformat.v4.new_code_cell(f"open({str(tmp_path / 'worked')!r}, 'w').write(target)"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        "in.ipynb",
        "out.ipynb",
        "-p",
        "tarrget",
        "Young",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ParameterError: ") and "did you mean" in last
    assert not (tmp_path / "worked").exists()
