"""The build executes what changed, and says which and why; what is finished stays when something fails."""

import json
import subprocess
import sys

import execution
import nbformat
import pytest
from execution import Executor, Run, plan, why

SECOND = "profile: str = 'quick'  # profile\nword: str = 'none'  # a word"


@pytest.fixture
def root(tmp_path):
    """A project with two notebooks and a library of one file."""
    for name in ("notebooks", "book", "diga_lib"):
        (tmp_path / name).mkdir()
    (tmp_path / "requirements.lock").write_text("a==1\n")
    (tmp_path / "diga_lib" / "core.py").write_text("one = 1\n")
    (tmp_path / "book" / "results.jsonl").write_text("{}\n")
    (tmp_path / "book" / "runs.yml").write_text(
        "pages:\n- {page: a}\n- {page: b, reads: [book/*.jsonl], parameters: {word: all}, full: {word: many}}\n"
    )
    write(tmp_path, "a", "profile: str = 'quick'  # profile", "print(profile)")
    write(tmp_path, "b", SECOND, "print(word)")
    return tmp_path


def write(root, name, parameters, code):
    cell = nbformat.v4.new_code_cell(parameters, id="one", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell(code, id="two")])
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


def build(root, capsys, **overrides) -> tuple[Executor, str]:
    executor = Executor(root / "executed", root, cores=2)
    executor.execute(plan("quick", overrides, [], root))
    return executor, capsys.readouterr().out


def printed(root, page) -> str:
    cell = nbformat.read(root / "executed" / f"{page}.ipynb", as_version=4).cells[-1]
    return cell.outputs[0].text.strip()


def test_only_what_changed_is_executed_and_what_failed_spoils_nothing(root, capsys):
    _, said = build(root, capsys)
    assert "a: execute (never executed)" in said
    assert "b: execute (never executed)" in said
    assert (printed(root, "a"), printed(root, "b")) == ("quick", "all")

    _, said = build(root, capsys)
    assert said == "a: unchanged\nb: unchanged\n"

    write(root, "b", SECOND, "1 / 0")
    finished = (root / "executed" / "b.ipynb").read_bytes()
    executor, said = build(root, capsys)
    assert "a: unchanged" in said
    assert "b: execute (the notebook changed)" in said
    assert executor.failed == {"b": "ZeroDivisionError: division by zero"}
    assert (root / "executed" / "b.ipynb").read_bytes() == finished
    (unfinished,) = (root / "executed").glob("b.unfinished*.ipynb")
    assert "ZeroDivisionError" in unfinished.read_text()

    write(root, "b", SECOND, "print(word + '!')")
    _, said = build(root, capsys, word="some")
    assert "a: unchanged" in said
    assert "parameter word changed" in said
    assert printed(root, "b") == "some!"
    assert not list((root / "executed").glob("*unfinished*"))


@pytest.mark.parametrize(
    ("change", "reason_a", "reason_b"),
    [
        (("diga_lib/core.py", "one = 2\n"), "diga_lib/core.py changed", "diga_lib/core.py changed"),
        (("diga_lib/new.py", ""), "diga_lib/new.py is new", "diga_lib/new.py is new"),
        (("diga_lib/w.safetensors", "x"), "diga_lib/w.safetensors is new", "diga_lib/w.safetensors is new"),
        (("requirements.lock", "a==2\n"), "the lock changed", "the lock changed"),
        (("book/results.jsonl", "{}\n{}\n"), "", "book/results.jsonl changed"),
        (("book/unrelated.md", "words"), "", ""),
    ],
)
def test_what_a_page_depends_on(root, change, reason_a, reason_b):
    runs = plan("quick", {}, [], root)
    before = [execution.fingerprint(run, root) for run in runs]
    (root / change[0]).write_text(change[1])
    now = [execution.fingerprint(run, root) for run in plan("quick", {}, [], root)]
    assert [why(b, n) for b, n in zip(before, now, strict=True)] == [reason_a, reason_b]


def test_new_photographs_or_another_generator_change_a_page(tmp_path, root):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "one.jpg").write_bytes(b"1")
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"1")
    run = Run("a", root / "notebooks" / "a.ipynb", {"photos": str(photos), "generator": str(file)})
    before = execution.fingerprint(run, root)
    (photos / "two.jpg").write_bytes(b"2")
    assert why(before, execution.fingerprint(run, root)) == "what is in photos changed"
    before = execution.fingerprint(run, root)
    file.write_bytes(b"12")
    assert why(before, execution.fingerprint(run, root)) == "what is in generator changed"


def test_a_damaged_copy_is_executed_again(root):
    folder = root / "executed"
    folder.mkdir()
    run = plan("quick", {}, ["a"], root)[0]
    (folder / "a.ipynb").write_text("whole")
    digest = execution.sha256(folder / "a.ipynb")
    (folder / "a.json").write_text(json.dumps({"sha256": digest, "peak_mb": 1, "fingerprint": {"x": "1"}}))
    assert execution.last_fingerprint(run, folder) == {"x": "1"}
    (folder / "a.ipynb").write_text("who")
    assert execution.last_fingerprint(run, folder) is None


def test_profiles_and_choices(root):
    assert plan("full", {}, ["b"], root)[0].parameters == {"profile": "full", "word": "many"}
    with pytest.raises(ValueError, match="no page 'c'; the pages are a, b"):
        plan("quick", {}, ["c"], root)
    with pytest.raises(ValueError, match="no notebook has a parameter 'wrod'"):
        plan("quick", {"wrod": "x"}, [], root)
    (root / "notebooks" / "a.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match="a.ipynb, which is not in notebooks"):
        plan("quick", {}, [], root)


@pytest.mark.parametrize(("cores", "threads", "at_once"), [(1, 1, 1), (2, 2, 1), (6, 4, 1), (16, 4, 4)])
def test_notebooks_share_the_cores(root, cores, threads, at_once):
    executor = Executor(root / "executed", root, cores=cores)
    assert (executor.threads, executor.at_once) == (threads, at_once)


@pytest.mark.built
def test_a_second_build_has_nothing_to_do():
    command = [sys.executable, str(execution.ROOT / "book" / "build.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "execute" not in done.stdout
    assert "pages: unchanged" in done.stdout
