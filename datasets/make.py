"""Make a sample data set, or check all of them against registry.toml.

python datasets/make.py chest-ct out --slices 300
python datasets/make.py --check
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from dicomlake import datasets

REGISTRY = Path(__file__).with_name("registry.toml")


def main() -> int:
    """Run the command line; 0 when all is well, 1 when a digest differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=datasets.names(), help="data set to make")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="where to write; a new temporary folder if left out"
    )
    parser.add_argument("--slices", type=int, help="number of slices, for us-cine of frames")
    parser.add_argument("--seed", type=int, default=0, help="another patient, other UIDs and noise")
    parser.add_argument("--check", action="store_true", help="make each set and compare it with the registry")
    arguments = parser.parse_args()
    if arguments.check:
        differing = list(_differing())
        sys.stdout.writelines(f"{name}: not as registered\n" for name in differing)
        return 1 if differing else 0
    if arguments.name is None:
        parser.error("say which data set, or --check")
    made = datasets.make(arguments.name, arguments.folder, slices=arguments.slices, seed=arguments.seed)
    sys.stdout.write(f"{made}\n")
    return 0


def _differing() -> Iterator[str]:
    """Names of the generated sets whose bytes are not those of the registry."""
    registry = tomllib.loads(REGISTRY.read_text(encoding="utf-8"))
    for name in datasets.names():
        with TemporaryDirectory() as folder:
            made = datasets.make(name, folder, **registry[name]["parameters"])
            if datasets.digest(made) != registry[name]["sha256"]:
                yield name


if __name__ == "__main__":
    raise SystemExit(main())
