"""
Starts workers on a Ray cluster: `driver.py` is the program that a Ray job runs, `actor.py` what it starts on the nodes.
Needs ray, pyzmq, msgpack and cryptography, and neither NumPy nor torch: workers may run in another environment.
"""
