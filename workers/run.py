"""
Runs a program of prelort_worker, whatever folder it is started in:

    python workers/run.py prelort_worker.export --parent-pid 4711

`python -m` puts the working folder first on the path, where a random.py would be imported instead of Python's own; the
flag that prevents this, -P, needs Python 3.11. A script has its own folder there instead, in every Python version.
"""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    program = import_module(sys.argv.pop(1))
    # Once prelort_worker is imported, nothing else should be found here: modules of a custom task may be called run or
    # describe too.
    here = Path(__file__).resolve().parent
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != here]
    program.main()
