"""The program that `suite.testing` runs, by its path and in Python's isolated mode.

Rule: whatever else is called ``suite`` where the tests run, in this process it is the package that this file
is part of. Arguments: the tests' ``sys.path`` as JSON, for what is not found without it (a ``PYTHONPATH``, a
virtual environment packed into a file), then ``specimens``, or ``gallery`` and its options, or those of
`suite.testing.server`.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def main() -> int:
    """Run the server; return its exit code."""
    gc.disable()  # until it serves, as in `suite.__main__`
    package = Path(__file__).resolve().parent.parent
    spec = spec_from_file_location(
        "suite", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {package}")
    sys.modules["suite"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["suite"])
    path, *arguments = sys.argv[1:]
    sys.path += [entry for entry in json.loads(path) if entry not in sys.path]
    if arguments == ["specimens"]:
        print(json.dumps(bad_names()))
        return 0
    module = "suite.testing.server"
    if arguments[0] == "gallery":  # the path of a configuration is absolute, so it is none
        module = "suite.cli"
        threading.Thread(target=end_with_tests, daemon=True).start()
    code: int = import_module(module).main(arguments)
    return code


def command(*arguments: str) -> list[str]:
    """The command line that runs this program with *arguments*."""
    path = json.dumps([entry for entry in sys.path if isinstance(entry, str) and os.path.isabs(entry)])
    return [sys.executable, "-I", __file__, path, *arguments]


def bad_names() -> list[str]:
    """The names of the specimens that a correct client refuses."""
    specimens = import_module("suite.gallery.specimens").SPECIMENS
    return [specimen.name for specimen in specimens if specimen.must == "refuse"]


def end_with_tests() -> None:
    """Stop this process when the other end of its standard input is gone: the tests, however they end."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
