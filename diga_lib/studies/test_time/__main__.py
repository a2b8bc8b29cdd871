"""``python -m diga_lib.test_time``: run the table, or choose the settings (``--tune``)."""

import argparse
from pathlib import Path

from diga_lib import runtime
from diga_lib.studies.test_time import experiments, records
from diga_lib.test_time.class_spaces import SPACES


def main(arguments=None):
    """Run what is missing of the table."""
    parser = argparse.ArgumentParser(
        prog="python -m diga_lib.test_time",
        description=experiments.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", default=experiments.MODELS, choices=experiments.MODELS, metavar="MODEL")
    parser.add_argument(
        "--methods", nargs="+", default=experiments.METHODS, choices=experiments.METHODS, metavar="METHOD"
    )
    parser.add_argument("--datasets", nargs="+", default=tuple(SPACES), choices=tuple(SPACES), metavar="DATASET")
    parser.add_argument("--orders", type=int, default=experiments.ORDERS, help="orders of each stream")
    parser.add_argument("--n", type=int, default=experiments.N, help="images of a stream")
    parser.add_argument("--no-ablations", dest="ablations", action="store_false")
    parser.add_argument("--strengths", action="store_true", help="find how strong each shift should be, and print it")
    parser.add_argument("--tune", action="store_true", help="choose settings on other faces, and print them")
    parser.add_argument("--output", type=Path, default=records.PATH)
    given = vars(parser.parse_args(arguments))
    runtime.set_threads()
    path, tune, find = given.pop("output"), given.pop("tune"), given.pop("strengths")
    if find:
        print(experiments.strengths())
        return
    if tune:
        for model in given["models"]:
            print(model, experiments.tuning(model), flush=True)
        return
    experiments.run_all(path, say=lambda line: print(line, flush=True), **given)


if __name__ == "__main__":
    main()
