"""``python -m diga_lib.action_units``: train all editors with every seed and measure them; goes on after a stop."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from diga_lib import action_units, latent, runtime
from diga_lib.action_units import data, editors, judge, training
from diga_lib.action_units.model import AUEditNet, LabelDecoder, SingleBranch
from diga_lib.latent import checkpoints
from diga_lib.studies.action_units import downstream, evaluation, judge_training

HELD_OUT = 15  # training subjects from this number on choose the editors' gains and the linear ones' strengths
STRENGTHS, GAINS = (1e-2, 1.0), (1.0, 1.2, 1.5, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="training runs of each editor")
    parser.add_argument("--results", type=Path, default=evaluation.RESULTS, help="file of the raw results")
    parser.add_argument("--work", type=Path, help="folder for finished trainings (default: in the cache)")
    parser.add_argument("--weights", type=Path, default=checkpoints.FOLDER, help="folder of shipped weights")
    given = parser.parse_args()
    runtime.set_threads()
    work = given.work or runtime.cache_folder("training", "action-units", training.settings())
    generator, strict = latent.load(), latent.load_factor_network()
    _judges(generator, work, given.weights)
    sees, films, test = judge.load(given.weights), training.disguised_films(), data.load("test")
    held = linear = gains = None
    for seed in range(given.seeds):
        print(f"seed {seed}", flush=True)
        reader = _kept(work / f"reader-{seed}.safetensors", LabelDecoder(), lambda: training.train_reader(films, seed))
        trained = {
            "dual branch (AUEditNet)": _kept(
                work / f"dual-{seed}.safetensors", AUEditNet(), lambda: training.train_dual(films, reader, seed)
            ),
            "single branch": _kept(
                work / f"single-{seed}.safetensors", SingleBranch(), lambda: training.train_single(films, reader, seed)
            ),
        }
        held = held or _held_out(generator, sees, strict)
        linear = linear or _linear(films, held)
        gains = gains or _gains(films, held, work)
        for name, network in trained.items():
            network.gain.fill_(gains[name])
        dual, single = trained.values()
        if seed == 0:
            shipped = dual, reader, single, linear
        paper = evaluation.exam(test, generator, sees, strict, seed)
        for name, edit in {"no edit": editors.no_edit, **linear, **trained}.items():
            if not evaluation.done(name, seed, given.results):
                evaluation.write(evaluation.measure(edit, paper), name, seed, given.results)
        _bounds(paper, dual, seed, given.results)
        for name, share in downstream.MIXES.items():
            if not evaluation.done(name, seed, given.results):
                rows = downstream.run(dual, generator, share, seed)
                evaluation.write(rows, name, seed, given.results)
    action_units.save(*shipped, folder=given.weights)  # last: rows are stamped with the commit of unmodified code
    print(evaluation.summary(evaluation.read(given.results)).xs("mean", axis=1, level=1).round(3).to_string())


def _judges(generator, work: Path, weights: Path) -> None:
    """Train the judges that are not among the weights, and say how well the reader reads the people held out for that."""
    missing = [part for part, name in judge.NAMES.items() if name not in checkpoints.names(weights)]
    given = judge_training.pool(generator) if missing else {}
    for part in missing:
        network = getattr(judge_training, f"train_{part}")(given, work / f"judge-{part}.safetensors")
        judge.save(part, network, weights)
        if part == "reader":
            for kind, icc in judge_training.limits(network, given).items():
                print(
                    f"the reader's ICC, {kind}: {icc.mean():.3f}; "
                    + ", ".join(f"{u} {x:.2f}" for u, x in zip(data.UNITS, icc))
                )


def _kept(file: Path, network: nn.Module, train):
    """A network from its file, or trained and put there: a stopped run repeats no finished training."""
    if file.exists():
        network.load_state_dict(load_file(str(file)))
        return network.eval().requires_grad_(False)
    started = time.perf_counter()
    network = train()
    with runtime.atomic_write(file) as temporary:
        save_file(network.state_dict(), str(temporary))
    print(f"{file.stem}: {time.perf_counter() - started:.0f} s", flush=True)
    return network


def _held_out(generator, sees, strict) -> evaluation.Exam:
    """What the editors' settings are chosen by: frames of three training subjects."""
    frames = data.load("train")
    return evaluation.exam(frames.select(frames.subject >= HELD_OUT), generator, sees, strict, seed=99, pairs=150)


def _gains(films, held: evaluation.Exam, work: Path) -> dict[str, float]:
    """The gain of each learned editor that does best on the held-out subjects, when the other 15 have trained it."""
    inner, chosen = films.select(films.subject < HELD_OUT), {}
    reader = _kept(work / "inner-reader.safetensors", LabelDecoder(), lambda: training.train_reader(inner))
    shapes = {
        "dual branch (AUEditNet)": (AUEditNet, training.train_dual),
        "single branch": (SingleBranch, training.train_single),
    }
    for name, (shape, train) in shapes.items():
        network = _kept(work / f"inner-{shape.__name__}.safetensors", shape(), lambda: train(inner, reader))
        scores = {}
        for gain in GAINS:
            network.gain.fill_(gain)
            scores[gain] = evaluation.measure(network, held, steps=False)["icc"].mean()
        chosen[name] = max(scores, key=scores.get)
        print(
            f"{name}: gain {chosen[name]:g}, held-out ICC " + ", ".join(f"{x:.3f}" for x in scores.values()), flush=True
        )
    return chosen


def _linear(films, held: evaluation.Exam) -> dict[str, editors.Linear]:
    """The linear editors, with the strength and the gain that do best on three held-out training subjects."""
    inner = films.select(films.subject < HELD_OUT)
    same = lambda normals: normals
    shapes = {"linear": same, "linear, others projected out": editors.project_out_others}
    normals = {strength: editors.boundary_normals(inner, strength) for strength in STRENGTHS}
    trials = {
        name: {
            (strength, gain): editors.Linear(editors.scaled_steps(inner, shape(normals[strength])), gain)
            for strength in STRENGTHS
            for gain in GAINS
        }
        for name, shape in shapes.items()
    }
    trials["linear, least squares"] = {(0.0, gain): editors.Linear(editors.joint_steps(inner), gain) for gain in GAINS}
    chosen = {}
    for name, options in trials.items():
        scores = {key: evaluation.measure(edit, held, steps=False)["icc"].mean() for key, edit in options.items()}
        strength, gain = max(scores, key=scores.get)
        print(
            f"{name}: strength {strength:g} a frame, gain {gain:g}, held-out ICC {scores[strength, gain]:.3f}",
            flush=True,
        )
        if strength:
            steps = editors.scaled_steps(films, shapes[name](editors.boundary_normals(films, strength)))
        else:
            steps = editors.joint_steps(films)
        chosen[name] = editors.Linear(steps, gain)
    return chosen


def _bounds(paper: evaluation.Exam, editor: AUEditNet, seed: int, results: Path) -> None:
    """What no editor can beat, and AUEditNet without labels."""
    pictures = {
        "oracle: the renderer": lambda: paper.target.images,
        "oracle, painted by the generator": lambda: paper.generator.decode(paper.target_codes),
        "dual branch, intensities read from pictures": lambda: paper.generator.decode(
            editors.transfer(
                editor,
                lambda x: paper.strict.read(x)[list(data.UNITS)].to_numpy(),
                paper.codes,
                paper.source.images,
                paper.target.images,
            )
        ),
    }
    for name, make in pictures.items():
        if not evaluation.done(name, seed, results):
            with torch.no_grad():
                rows = evaluation.judged(make(), paper)
            evaluation.write(rows.assign(leakage=np.nan, moved=np.nan, seconds=np.nan), name, seed, results)


if __name__ == "__main__":
    main()
