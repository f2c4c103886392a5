"""The program that `suite.testing` runs, by its path and in Python's isolated mode.

Rule: whatever else is called ``suite`` where the tests run, in this process it is the package that this file
is part of. Arguments: the tests' ``sys.path`` as JSON, for what is not found without it (a ``PYTHONPATH``, a
virtual environment packed into a file), then those of `suite.testing.server`.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def main() -> int:
    """Run the server; return its exit code."""
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
    code: int = import_module("suite.testing.server").main(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
