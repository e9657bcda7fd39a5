"""
Hosts on one machine: network namespaces, each behind a link of its own. This program carries the packets of all links,
late and with losses if it is told to, on any kernel that has TUN devices. Needs root on Linux.

    python links.py NAME COUNT

Prints {"address": of this side, "namespaces": […]}. Reads lines such as {"host": 0, "delay": 0.05, "jitter": 0.02,
"loss": 0.02}, in seconds and as a fraction, both ways. When standard input ends, it ends every process in the
namespaces and removes them, so nothing is left even of a campaign that was killed.
"""

import fcntl
import heapq
import itertools
import json
import os
import random
import selectors
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
_MOST_BYTES = 65_536


@dataclass
class Link:
    near: int
    far: int
    delay: float = 0
    jitter: float = 0
    loss: float = 0

    def other(self, end: int) -> int:
        return self.far if end == self.near else self.near


class Late(NamedTuple):
    due: float
    order: int
    end: int
    packet: bytes


def ip(words: str) -> str:
    return subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True).stdout


def open_device(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return end


def unused_subnet() -> str:
    """Of 198.18.0.0/15, which is set aside for benchmarks (RFC 2544)."""
    addresses = ip("-4 -o address")
    numbers = range(256)
    first = os.getpid() % len(numbers)
    return next(
        subnet
        for subnet in (f"198.19.{number}" for number in [*numbers[first:], *numbers[:first]])
        if f"{subnet}." not in addresses
    )


def open_link(namespace: str, near: str, subnet: str, host: int) -> Link:
    far = f"{near}f"
    link = Link(open_device(near), open_device(far))
    ip(f"netns add {namespace}")
    ip(f"link set {far} netns {namespace} name eth0")
    ip(f"address add {subnet}.1 peer {subnet}.{host} dev {near}")
    ip(f"link set {near} up")
    ip(f"-n {namespace} address add {subnet}.{host}/24 dev eth0")
    ip(f"-n {namespace} link set eth0 up")
    ip(f"-n {namespace} link set lo up")
    return link


def carry(links: list[Link]) -> None:
    """Until standard input ends."""
    late: list[Late] = []
    order = itertools.count()
    told = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        for link in links:
            for end in (link.near, link.far):
                selector.register(end, selectors.EVENT_READ, link)
        while True:
            timeout = max(0, late[0].due - time.monotonic()) if late else None
            for key, _ in selector.select(timeout):
                if key.data is None:
                    read = os.read(0, _MOST_BYTES)
                    if not read:
                        return
                    *lines, told = (told + read).split(b"\n")
                    for line in lines:
                        change(links, json.loads(line))
                    continue
                link, packet = key.data, take(key.fd)
                if packet is None or random.random() < link.loss:
                    continue
                delay = max(0, random.gauss(link.delay, link.jitter))
                if delay:
                    heapq.heappush(late, Late(time.monotonic() + delay, next(order), link.other(key.fd), packet))
                else:
                    put(link.other(key.fd), packet)
            while late and late[0].due <= time.monotonic():
                put(late[0].end, heapq.heappop(late).packet)


def change(links: list[Link], told: dict) -> None:
    link = links[told["host"]]
    link.delay, link.jitter, link.loss = told["delay"], told["jitter"], told["loss"]


def take(end: int) -> bytes | None:
    # Nothing to read, or a device that is down.
    with suppress(OSError):
        return os.read(end, _MOST_BYTES)
    return None


def put(end: int, packet: bytes) -> None:
    """Packets to a device that is down, or whose queue is full, are lost."""
    with suppress(OSError):
        os.write(end, packet)


def remove(namespace: str) -> None:
    """Does nothing for a namespace that is not there."""
    # Some may be starting others.
    for _ in range(100):
        listing = subprocess.run(["ip", "netns", "pids", namespace], check=False, capture_output=True, text=True)
        pids = listing.stdout.split()
        if not pids:
            break
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)
    subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


def main() -> None:
    name, count = sys.argv[1], int(sys.argv[2])
    # Ctrl-C and the like end the campaign, and its end ends this program.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    namespaces = [f"{name}-{index}" for index in range(count)]
    try:
        subnet = unused_subnet()
        links = [
            open_link(namespace, f"{name}n{index}", subnet, index + 2) for index, namespace in enumerate(namespaces)
        ]
        print(json.dumps({"address": f"{subnet}.1", "namespaces": namespaces}), flush=True)
        carry(links)
    finally:
        for namespace in namespaces:
            remove(namespace)


main()
