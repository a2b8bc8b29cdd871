"""``python -m diga_lib.studies NAME`` computes what is missing in ``book/results/NAME.jsonl``; stopped, it goes on.

``--renew`` makes again what an older version has made. ``python -m diga_lib.studies weights NAME`` trains what ships.
"""

import argparse
import inspect
import sys
from importlib import import_module
from pathlib import Path

from diga_lib import runtime
from diga_lib.pages.parameters import SIZES
from diga_lib.studies import grids, real_photos, runner, weights

OTHERS = ("convergence", "representations", "sampling", "action_units", "test_time", "face_finding")
MORE = (import_module(f"diga_lib.studies.{name}").STUDY for name in OTHERS)
STUDIES = {study.name: study for study in (*grids.STUDIES, *MORE, *real_photos.STUDIES)}


def pair(text: str) -> tuple[str, str]:
    """Read "Smiling/Male" as a target and a spurious attribute."""
    parts = tuple(text.split("/"))
    if len(parts) != 2 or not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a pair; valid is TARGET/SPURIOUS, such as Smiling/Male")
    return parts


def main(arguments: list[str] | None = None) -> None:
    """Run a study. The exit code is 1 if a cell failed, and 2, with a sentence, if it was asked for wrongly."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["weights"]:
        return weights.main(arguments[1:])
    parser = argparse.ArgumentParser("python -m diga_lib.studies", description=__doc__)
    parser.add_argument("name", choices=tuple(STUDIES), metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--renew", action="store_true", help="compute again what an older version has made")
    parser.add_argument("--output", type=Path, help="results file (default: book/results/NAME.jsonl)")
    parser.add_argument("--jobs", type=int, help="local processes (default: the number of cores)")
    parser.add_argument("--address", default="", help="of a Dask scheduler, such as tcp://127.0.0.1:8786")
    some = parser.add_argument_group("which cells", "default: all; a study says which of these it takes")
    some.add_argument("--seeds", nargs="+", type=int)
    some.add_argument("--rows", nargs="+", metavar="ROW", help="ids of rows, such as erm diga-one-stage")
    some.add_argument("--pairs", nargs="+", type=pair, metavar="TARGET/SPURIOUS")
    some.add_argument("--bias", type=float, help="minority / majority, in (0, 1]")
    some.add_argument("--profile", choices=tuple(SIZES), help="sizes of data and training")
    some.add_argument("--data", type=Path, metavar="DIR", help="folder of images, for studies of photographs")
    some.add_argument("--generator", type=Path, metavar="FILE", help="a trained generator, for studies of photographs")
    given = vars(parser.parse_args(arguments))
    study = STUDIES[given.pop("name")]
    renew, jobs, address, output = (given.pop(name) for name in ("renew", "jobs", "address", "output"))
    takes = inspect.signature(study.cells).parameters
    options = {name: value for name, value in given.items() if value is not None}
    if unknown := [name for name in options if name not in takes]:
        valid = ", ".join(f"--{name}" for name in takes if name in given)
        parser.error(f"{study.name} does not take --{unknown[0]}; it takes {valid or 'no cells to choose'}")
    if needed := [name for name, one in takes.items() if one.default is one.empty and name not in options]:
        parser.error(f"{study.name} needs --{needed[0]}")
    if jobs is not None and jobs < 1:
        parser.error(f"--jobs is {jobs}; valid is a whole number from 1 on")
    try:
        output = runtime.check_output(output or study.path)
        cells = study.cells(**options, **({"output": output} if "output" in takes else {}))
        if runner.run(cells, output, study.compute, jobs, address, renew):
            sys.exit(1)
    except (ValueError, OSError) as error:  # options, files and addresses; what fails in a cell is told by the runner
        parser.error(str(error))


if __name__ == "__main__":
    main()
