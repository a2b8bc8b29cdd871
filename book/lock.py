"""Write requirements.lock from what is installed: `make lock`, after adding a package to pyproject.toml.

The lock names exactly what pyproject.toml asks for and what that needs in turn, as installed now. Accelerator
packages that only some builds of torch bring along are left to torch.
"""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LEFT_TO_TORCH = ("nvidia-", "cuda-", "triton")


def closure(requirements: list[str]) -> dict[str, str]:
    """Return {name: version} of every installed package that the requirements need."""
    versions, seen, waiting = {}, set(), [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        name, marker = canonicalize_name(requirement.name), requirement.marker
        if name.startswith(LEFT_TO_TORCH) or (marker and not marker.evaluate({"extra": extra})):
            continue
        distribution = metadata.distribution(name)
        # The local part ("+cpu") is the build, not the version: each machine takes the build it can use.
        versions[name] = distribution.version.split("+")[0]
        for own_extra in ("", *requirement.extras):
            if (name, own_extra) not in seen:
                seen.add((name, own_extra))
                waiting += [(Requirement(text), own_extra) for text in distribution.requires or []]
    return versions


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    lines = [f"{name}=={version}" for name, version in sorted(closure(wanted).items())]
    header = "# Exact versions of everything, written by `make lock`. Do not edit by hand.\n"
    (ROOT / "requirements.lock").write_text(header + "\n".join(lines) + "\n")
    print(f"requirements.lock: {len(lines)} packages")


if __name__ == "__main__":
    main()
