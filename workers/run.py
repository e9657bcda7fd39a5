"""
Runs a program of prelort_worker, whatever folder it is started in:

    python workers/run.py prelort_worker.export --parent-pid 4711

`python -m` puts the working folder first on the path, where a random.py would be imported in the place of Python's own;
the flag that prevents it, -P, needs Python 3.11. A script has its own folder there instead, on every Python.
"""

import sys
from importlib import import_module

if __name__ == "__main__":
    import_module(sys.argv.pop(1)).main()
