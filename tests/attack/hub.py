"""Attacks by a Hub whose answers are wrong: other bytes, missing and odd files, cut downloads, a branch that moves."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from spladerunner import Expander
from tests.attack.files import damage
from tests.attack.tries import Tried
from tests.hub_server import Hub, Repository, serving
from tests.small_model import write_bundle
from tests.test_hub import BUNDLE, command


def hostile(chosen: Random) -> Iterator[Tried]:
    """`expand` and `fetch` of a hostile repository end with one line of error, or give the vectors of the good one.

    Nothing is written outside the cache.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        bundle = write_bundle(folder / "bundle")
        (expected,) = Expander(bundle).expand("the cat sat")
        with serving(Hub()) as hub:
            for number in range(1_000_000):
                repository = hub.add_folder(BUNDLE, bundle)
                change = make_hostile(chosen, hub, repository, folder)
                home = folder / str(number) / "home"
                home.mkdir(parents=True)
                done = command(hub, home, "expand", "--model", BUNDLE, "the cat sat")
                last = (done.stderr.strip().splitlines() or [""])[-1]
                if "Traceback" in done.stderr or done.returncode not in (0, 1):
                    failure = f"{change}: exit {done.returncode}: {last[:300]}"
                elif done.returncode == 1 and not last.startswith("spladerunner: "):
                    failure = f"{change}: {last[:300]}"
                elif done.returncode == 0 and "manifest" not in change and json.loads(done.stdout) != expected:
                    failure = f"{change}: other vectors"
                elif [path.name for path in home.parent.iterdir()] != ["home"] or (folder / "evil").exists():
                    failure = f"{change}: files were written outside the cache"
                else:
                    failure = None
                yield Tried(1, failure)
                hub.cuts.clear()


def make_hostile(chosen: Random, hub: Hub, repository: Repository, folder: Path) -> str:
    """Changes what a repository answers, and says how."""
    kind = chosen.choice(("damaged", "removed", "odd names", "cut", "deep", "huge", "moving"))
    name = chosen.choice(sorted(repository.files))
    if kind == "damaged":
        scratch = folder / name
        scratch.write_bytes(repository.files[name])
        change = damage(chosen, scratch)
        repository.files[name] = scratch.read_bytes()
        scratch.unlink()
    elif kind == "removed":
        del repository.files[name]
        change = "removed"
    elif kind == "odd names":
        change = chosen.choice(
            ("../evil", "../../evil", "/evil", "a/../../evil", "evil\n", "\x1b[2Jevil", "..", "C:\\evil")
        )
        repository.files[change] = b"evil"
    elif kind == "cut":
        hub.cuts[name] = chosen.randrange(1, 4)
        change = f"cut {hub.cuts[name]} times"
    elif kind == "deep":
        repository.files[name] = b"[" * 100_000
        change = "deep JSON"
    elif kind == "huge":
        repository.files[name] += b" " * (1 << 24)
        change = "16 MB longer"
    else:
        manifest = json.loads(repository.files["manifest.json"])
        manifest["files"] = {**manifest["files"], f"../{name}": manifest["files"].get(name, {})}
        repository.files["manifest.json"] = json.dumps(manifest).encode()
        name, change = "manifest.json", "a file outside"
    repository.move()
    return f"{name}: {change!r}"
