"""The command `spladerunner doctor`."""

from __future__ import annotations

import argparse
import platform
from typing import TYPE_CHECKING

from spladerunner.cli.terminal import table

if TYPE_CHECKING:
    from argparse import _SubParsersAction

PACKAGES = ("spladerunner", "onnxruntime", "tokenizers", "numpy", "huggingface_hub")


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "doctor",
        help="show what this machine can run on",
        description="Prints versions, execution providers and graphics cards, and runs the embedded pair on each "
        "provider, compared with the CPU.",
    )
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> None:
    from importlib.metadata import version  # other commands start without it

    from spladerunner.inference.cuda import cuda_state
    from spladerunner.inference.providers import installed_packages, mixed_up
    from spladerunner.inference.trial import try_providers

    runtimes = installed_packages()
    rows = [("Python", platform.python_version()), ("platform", platform.platform())]
    rows += [(name, version(name)) for name in PACKAGES if name != "onnxruntime"]
    rows += [(name, version(name)) for name in runtimes]
    state = cuda_state()
    unknown = "not known without nvidia-ml-py: pip install nvidia-ml-py"
    rows += [("NVIDIA driver", unknown if state.driver == "" else state.driver or "none found")]
    for card in state.cards:
        memory = f"{card.free_memory / 2**30:.1f} of {card.total_memory / 2**30:.1f} GiB free"
        rows += [("card", f"{card.name}, {memory}")]
    print(table(("", "found"), rows))
    if len(runtimes) > 1:
        print(f"\n{mixed_up(runtimes)}")
    print()
    trials = [(each.provider, each.result) for each in try_providers()]
    print(table(("provider", "the embedded pair on it, compared with the CPU"), trials))
