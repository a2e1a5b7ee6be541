"""A network of its own for FLARE's simulator, whose processes take orders on loopback ports without a key.

In a network namespace those ports can be reached by its own processes only. Linux makes one for any user where
administrators have not turned that off. Our hosts are not in it: they may need a network, and are asked over a socket
that is a file.

    python -m fedumm.federation.runners.flare.isolation     exit status 0: this machine can do that
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import sys

import psutil

from fedumm.federation.runners.flare.environment import child_environment

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET of linux/sched.h
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP of linux/sockios.h, net/if.h
_SECONDS = 30
_FIRST_PERSON = 1000
"""User numbers below belong to services, on the common distributions (UID_MIN of login.defs)."""


def can_isolate() -> bool:
    """Whether a process of this user can have a network of its own, found out by trying it in one."""
    if sys.platform != "linux":
        return False
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(
            command, env=child_environment(), capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def isolate() -> None:
    """Leave this process, and what it starts from now on, with a loopback interface that nobody else can reach.

    To be called before the process has threads.

    Raises:
        OSError: this machine does not let the user.
    """
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER | _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "no namespaces")
    # The same user inside; groups can't be changed from there, which the kernel asks for.
    for name, content in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)
    _start_loopback()


def _start_loopback() -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack("16xH14x", fcntl.ioctl(control, _GET_FLAGS, request))
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))


def other_users() -> list[str]:
    """Names of others, not services, who have processes on this machine now."""
    own = os.getuid() if hasattr(os, "getuid") else -1
    found = set()
    for process in psutil.process_iter(["uids", "username"]):
        uids = process.info["uids"]
        if uids is not None and uids.real >= _FIRST_PERSON and uids.real != own:
            found.add(str(process.info["username"]))
    return sorted(found)


if __name__ == "__main__":
    isolate()
