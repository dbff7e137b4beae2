"""The layers that confine a process: unprivileged user, namespaces, Landlock, rlimits. `seccomp.py` has the last one.

Standard library only, since it runs in the clean interpreter. Each layer is either active or reported as missing; the
pool decides which are required. Sources: man-pages unshare(2), landlock(7), capabilities(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_NOBODY = 65534
_CAP_KILL, _CAP_SETGID, _CAP_SETUID = 5, 6, 7
_MS_NOSUID_NODEV_NOEXEC, _MS_REC_PRIVATE, _MS_BIND_REC = 2 | 4 | 8, 0x4000 | 0x40000, 0x1000 | 0x4000
_MS_REMOUNT_BIND_RDONLY = 0x20 | 0x1000 | 0x1
PACKAGES = ("site-packages", "dist-packages")  # folders of third-party packages


@dataclass(frozen=True)
class Limits:
    """The resource limits of one program."""

    cpu_s: int = 10  # generous, like the wall time, so that slow or busy hosts fail no correct program
    memory_mib: int = 512
    wall_s: float = 40.0
    file_mib: int = 1  # per file
    files: int = 32  # open files


def prctl(option: int, *arguments: int) -> None:
    """Call prctl(2); OSError if the kernel refuses."""
    if _LIBC.prctl(option, *map(ctypes.c_ulong, arguments), *[ctypes.c_ulong(0)] * (4 - len(arguments))):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; a change of user undoes it."""
    prctl(_PR_SET_PDEATHSIG, 9)


def no_new_privileges() -> None:
    """Forbid gaining privileges by execve for good; Landlock and seccomp require it."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


# Unprivileged user


def become_nobody(must_read: str) -> bool:
    """Give up root for good and return True.

    Return False and keep root if `must_read` would become unreadable, if there is no other user (the user namespace of
    a bubblewrap that root starts has root alone), or if root lacks the capabilities to change users, or to end a
    process of another user as the pool has to: a container's root may have none.
    """
    if os.geteuid() != 0:
        return True
    if not readable_by_others(must_read) or not _has_capabilities(_CAP_KILL, _CAP_SETGID, _CAP_SETUID):
        return False
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        return False
    prctl(_PR_SET_DUMPABLE, 1)  # otherwise /proc/self belongs to root and the user namespace cannot be mapped
    return True


def readable_by_others(path: str) -> bool:
    """Return whether any user may read a file: its own mode and that of each folder above."""
    while path != "/":
        if not os.stat(path).st_mode & (0o001 if os.path.isdir(path) else 0o004):
            return False
        path = os.path.dirname(path)
    return True


def _has_capabilities(*numbers: int) -> bool:
    """Return whether this process has all of the effective capabilities with the given numbers."""
    with open("/proc/self/status", encoding="utf-8") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return all(effective >> number & 1 for number in numbers)


def drop_capabilities() -> None:
    """Drop all capabilities: the bounding set and the three sets of this process."""
    for capability in range(64):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            break  # beyond the last capability, or no right to drop any
    header = struct.pack("Ii", 0x20080522, 0)
    _LIBC.capset(header, bytes(24))


# Namespaces


def namespaces(with_pids: bool = True) -> bool:
    """Enter new user, network, IPC and mount namespaces; return whether children get a process namespace too.

    Raises OSError if the host denies it.
    """
    user, group = os.getuid(), os.getgid()
    has_pids = with_pids and _LIBC.unshare(_NEWUSER | _NEWNET | _NEWIPC | _NEWNS | _NEWPID) == 0
    if not has_pids:
        _check(_LIBC.unshare(_NEWUSER | _NEWNET | _NEWIPC | _NEWNS))
    for name, content in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
            file.write(content)
    return has_pids


def private_root(base: str, shown: Sequence[str], hidden: Sequence[str], scratch: str | None) -> None:
    """Change to a root that contains only `shown`, with `hidden` folders empty, and an empty scratch folder if given.

    `base` is its mount point. Raises OSError if the host denies it; the process is then still usable.
    """
    _check(_LIBC.mount(None, b"/", None, _MS_REC_PRIVATE, None))
    _mount_tmpfs(base, "size=1m,mode=755")
    for path in ("/lib", "/lib64", "/lib32", "/bin"):
        if os.path.islink(path):
            os.symlink(os.readlink(path), base + path)
    for path in filter(os.path.exists, shown):
        _make(base + path, os.path.isdir(path))
        _check(_LIBC.mount(path.encode(), (base + path).encode(), None, _MS_BIND_REC, None))
    for path in filter(os.path.isdir, hidden):
        _mount_tmpfs(base + path, "size=4k,mode=555")
    if scratch is not None:
        _make(base + scratch, True)
        mount_scratch(base + scratch)
    # The folders made above would otherwise be writable, and one program could leave files for the next.
    _check(_LIBC.mount(None, base.encode(), None, _MS_REMOUNT_BIND_RDONLY | _MS_NOSUID_NODEV_NOEXEC, None))
    os.chroot(base)
    os.chdir("/")


def _make(path: str, is_folder: bool) -> None:
    os.makedirs(path if is_folder else os.path.dirname(path), exist_ok=True)
    if not is_folder:
        with open(path, "w", encoding="utf-8"):
            pass


def mount_scratch(folder: str, mib: int = 16, files: int = 256) -> None:
    """Mount an empty file system of limited size, visible in this namespace only."""
    _check(_LIBC.mount(None, b"/", None, _MS_REC_PRIVATE, None))
    _mount_tmpfs(folder, f"size={mib}m,nr_inodes={files},mode=700")


def _mount_tmpfs(folder: str, options: str) -> None:
    _check(_LIBC.mount(b"tmpfs", folder.encode(), b"tmpfs", _MS_NOSUID_NODEV_NOEXEC, options.encode()))


# Landlock

_LIST = 1 << 3
_READ = 1 << 2 | _LIST  # files, folders
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14  # write, remove, make folders and files, truncate
_EXECUTE = 1 << 0
_OF_FILES = _EXECUTE | 1 << 1 | 1 << 2 | 1 << 14  # rights that a single file can have


def landlock(
    readable: Sequence[str], listable: Sequence[str], writable: Sequence[str], executable: Sequence[str] = ()
) -> None:
    """Allow reading, listing, writing and executing below the given paths, and no other access to files.

    Raises OSError if the kernel denies it or has no Landlock.
    """
    abi = _LIBC.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if abi < 1:
        raise OSError(errno.ENOSYS, "the kernel has no Landlock")
    handled = _ALL_BY_ABI[min(abi, 5)]
    network = [0b11] if abi >= 4 else []  # bind and connect, TCP
    scopes = [0b11] if abi >= 6 else []  # signals and abstract sockets
    attributes = [handled, *network, *scopes]
    packed = struct.pack(f"{len(attributes)}Q", *attributes)
    ruleset = _check(_LIBC.syscall(444, packed, ctypes.c_size_t(len(packed)), ctypes.c_uint(0)))
    rules = ((readable, _READ), (listable, _LIST), (writable, _READ | _WRITE), (executable, _READ | _EXECUTE))
    for paths, access in rules:
        for path in filter(os.path.exists, paths):
            file = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = access & handled & (-1 if os.path.isdir(path) else _OF_FILES)
            rule = struct.pack("=Qi", allowed, file)
            _check(_LIBC.syscall(445, ruleset, 1, rule, 0))
            os.close(file)
    _check(_LIBC.syscall(446, ruleset, 0))
    os.close(ruleset)


# Limits


def limit(limits: Limits, memory: Mapping[int, int] | None = None) -> None:
    """Limit this process for good: CPU seconds, memory, file size, open files.

    `memory`: limits by kind, where that of the address space would not do.
    """
    for kind, value in (
        (resource.RLIMIT_CPU, limits.cpu_s),
        *(memory or {resource.RLIMIT_AS: limits.memory_mib << 20}).items(),
        (resource.RLIMIT_FSIZE, limits.file_mib << 20),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # SIGXCPU shows why a program ended; SIGKILL follows a second later for programs that ignore it.
        later = value + 1 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else value
        resource.setrlimit(kind, (value, later))


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
