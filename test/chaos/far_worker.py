"""
Starts a worker on a host that its controller cannot reach into: its standard input holds the controller's key and then
never ends, so that a worker whose controller was killed or cut off is ended by its connection or its lease.

    ip netns exec HOST python far_worker.py COMMAND…
"""

import os
import sys

# Unbuffered, so that it reads no further.
with os.fdopen(os.dup(0), "rb", buffering=0) as stdin:
    key_line = stdin.readline()
reading, writing = os.pipe()
os.write(writing, key_line)
os.dup2(reading, 0)
os.set_inheritable(writing, True)
os.execvp(sys.argv[1], sys.argv[1:])
