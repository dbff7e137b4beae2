"""The layers that confine a process: unprivileged user, namespaces, Landlock, rlimits, seccomp.

Standard library only, since it runs in the clean interpreter. Each layer is either active or reported as missing; the
pool decides which are required. Sources: man-pages unshare(2), landlock(7), seccomp(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_NOBODY = 65534
_MS_NOSUID_NODEV_NOEXEC, _MS_REC_PRIVATE, _MS_BIND_REC = 2 | 4 | 8, 0x4000 | 0x40000, 0x1000 | 0x4000
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

    Return False and keep root if `must_read` would become unreadable, or if there is no other user: the user namespace
    of a bubblewrap that root starts has root alone.
    """
    if os.geteuid() != 0:
        return True
    if not readable_by_others(must_read):
        return False
    try:
        os.setgroups([])
    except PermissionError:
        return False
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    prctl(_PR_SET_DUMPABLE, 1)  # otherwise /proc/self belongs to root and the user namespace cannot be mapped
    return True


def readable_by_others(path: str) -> bool:
    """Return whether any user may read a file: its own mode and that of each folder above."""
    while path != "/":
        if not os.stat(path).st_mode & (0o001 if os.path.isdir(path) else 0o004):
            return False
        path = os.path.dirname(path)
    return True


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


def landlock(readable: Sequence[str], listable: Sequence[str], writable: Sequence[str]) -> None:
    """Allow reading, listing and writing below the given paths, and no other access to files.

    Raises OSError if the kernel denies it or has no Landlock.
    """
    abi = _LIBC.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if abi < 1:
        raise OSError(errno.ENOSYS, "the kernel has no Landlock")
    handled = _ALL_BY_ABI[min(abi, 5)]
    attributes = [
        handled,
        *([0b11] if abi >= 4 else []),
        *([0b11] if abi >= 6 else []),
    ]  # TCP; signals, abstract sockets
    packed = struct.pack(f"{len(attributes)}Q", *attributes)
    ruleset = _check(_LIBC.syscall(444, packed, ctypes.c_size_t(len(packed)), ctypes.c_uint(0)))
    for paths, access in ((readable, _READ), (listable, _LIST), (writable, _READ | _WRITE)):
        for path in filter(os.path.exists, paths):
            file = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = access & handled & (-1 if os.path.isdir(path) else ~_LIST)
            rule = struct.pack("=Qi", allowed, file)
            _check(_LIBC.syscall(445, ruleset, 1, rule, 0))
            os.close(file)
    _check(_LIBC.syscall(446, ruleset, 0))
    os.close(ruleset)


# Limits


def limit(limits: Limits) -> None:
    """Limit this process for good: CPU seconds, memory, file size, open files."""
    memory, size = limits.memory_mib << 20, limits.file_mib << 20
    for kind, value in (
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # SIGXCPU shows why a program ended; SIGKILL follows a second later for programs that ignore it.
        later = value + 1 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else value
        resource.setrlimit(kind, (value, later))


# seccomp: only the system calls of a computing program are allowed. Numbers: x86_64, aarch64 (0: no such call).

_CALLS = """
read 0 63, write 1 64, futex 202 98, mmap 9 222, munmap 11 215, brk 12 214, mremap 25 216, madvise 28 233,
mprotect 10 226, close 3 57, fstat 5 80, newfstatat 262 79, stat 4 0, lstat 6 0, statx 332 291, lseek 8 62,
ioctl 16 29, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, access 21 0, faccessat 269 48,
faccessat2 439 439, pipe 22 0, pipe2 293 59, select 23 0, pselect6 270 72, poll 7 0, ppoll 271 73, sched_yield 24 124,
dup 32 23, dup2 33 0, dup3 292 24, nanosleep 35 101, clock_nanosleep 230 115, getpid 39 172, getppid 110 173,
gettid 186 178, exit 60 93, exit_group 231 94, uname 63 160, fcntl 72 25, getdents64 217 61, getcwd 79 17, chdir 80 49,
readlink 89 0, readlinkat 267 78, getuid 102 174, getgid 104 176, geteuid 107 175, getegid 108 177,
gettimeofday 96 169, time 201 0, clock_gettime 228 113, clock_getres 229 114, getrandom 318 278,
set_robust_list 273 99, rseq 334 293, restart_syscall 219 128, sigaltstack 131 132, rt_sigaction 13 134,
rt_sigprocmask 14 135, rt_sigreturn 15 139, sysinfo 99 179, times 100 153, getrusage 98 165, sched_getaffinity 204 123,
getrlimit 97 163, set_tid_address 218 96, membarrier 324 283, epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 0,
epoll_pwait 281 22, arch_prctl 158 0
"""
_WRITING_CALLS = """
fsync 74 82, ftruncate 77 46, rename 82 0, renameat 264 38, renameat2 316 276, mkdir 83 0, mkdirat 258 34, rmdir 84 0,
unlink 87 0, unlinkat 263 35
"""
# Additional calls of the zygote to fork and end programs; a second filter denies them to each program.
_FORKING_CALLS = """
wait4 61 260, kill 62 129, setsid 112 157, recvmsg 47 212, recvfrom 45 207, sendto 44 206, prctl 157 167
"""
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_ALLOW, _KILL, _DENY, _NO_SUCH_CALL = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_CREATING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20000000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE
_CLONE_THREAD, _AF_UNIX = 0x10000, 1
_F_SETFL, _O_ASYNC = 4, 0x2000
_FCNTL = (0, 1, 2, 3, _F_SETFL, 1030)  # duplicate, flags: no owner, no signal, no lease
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)  # is it a terminal, its size, bytes to read, close on exec


class Filter:
    """A BPF program. `apply` confines the calling process for good; its cost per system call grows with its length."""

    def __init__(self, instructions: list[bytes]):
        self._code = ctypes.create_string_buffer(b"".join(instructions))
        self._header = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(self._code))

    def apply(self) -> None:
        """Confine this process and its future children; OSError if the kernel refuses."""
        no_new_privileges()
        header = ctypes.create_string_buffer(self._header)
        prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(header))


def seccomp_filters(may_write: bool) -> tuple[Filter, Filter]:
    """Return the zygote's filter and the short filter that each program adds.

    Raises OSError on an architecture without known call numbers.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system call numbers for {machine}")
    column, architecture = _ARCHITECTURES[machine]
    clone, clone3, limits, pair = ((56, 435, 302, 53), (220, 435, 261, 199))[column]
    fcntl, ioctl = ((72, 16), (25, 29))[column]
    allowed = [*_numbers(_CALLS, column), *_numbers(_FORKING_CALLS, column), clone, limits]
    allowed += _numbers(_WRITING_CALLS, column) if may_write else []
    zygote = [_load(4), _jump(0x15, architecture, 1, 0), _return(_KILL), _load(0)]
    for number in allowed:
        zygote += [_jump(0x15, number, 0, 1), _return(_ALLOW)]
    opening = ((2, 24), (257, 32)) if column == 0 else ((56, 32),)  # (call, offset of its flags)
    for number, flags_at in opening:
        if may_write:
            zygote += [_jump(0x15, number, 0, 1), _return(_ALLOW)]
        else:
            zygote += _only_if(number, flags_at, 0x45, _CREATING, when_true=_DENY)
    zygote += [
        _jump(0x15, clone3, 0, 1),
        _return(_NO_SUCH_CALL),
    ]  # its flags are in memory, out of reach of BPF; glibc falls back to clone
    zygote += _only_if(pair, 16, 0x15, _AF_UNIX, when_true=_ALLOW)
    zygote.append(_return(_DENY))
    program = [_load(0)]
    for number in _numbers(_FORKING_CALLS, column):
        program += [_jump(0x15, number, 0, 1), _return(_DENY)]
    program += _only_if(clone, 16, 0x45, _CLONE_THREAD, when_true=_ALLOW)
    program += _only_null(limits, 32)  # allows reading limits, but not setting them
    program += _only_among(fcntl, 24, _FCNTL, refused=(_F_SETFL, 32, _O_ASYNC))
    program += _only_among(ioctl, 24, _IOCTL)
    program.append(_return(_ALLOW))
    return Filter(zygote), Filter(program)


def _numbers(table: str, column: int) -> list[int]:
    rows = [entry.split() for entry in table.split(",")]
    return [int(row[1 + column]) for row in rows if column == 0 or row[2] != "0"]


def _only_if(number: int, argument_at: int, test: int, value: int, when_true: int) -> list[bytes]:
    """Decide one call by the low half of an argument; `test` is BPF's JEQ (0x15) or JSET (0x45)."""
    when_false = _DENY if when_true == _ALLOW else _ALLOW
    return [
        _jump(0x15, number, 0, 4),
        _load(argument_at),
        _jump(test, value, 0, 1),
        _return(when_true),
        _return(when_false),
    ]


def _only_null(number: int, argument_at: int) -> list[bytes]:
    """Allow one call if both halves of an argument are 0, such as a null pointer."""
    return [
        _jump(0x15, number, 0, 6),
        _load(argument_at),
        _jump(0x15, 0, 0, 3),
        _load(argument_at + 4),
        _jump(0x15, 0, 0, 1),
        _return(_ALLOW),
        _return(_DENY),
    ]


def _only_among(
    number: int, argument_at: int, allowed: Sequence[int], refused: tuple[int, int, int] | None = None
) -> list[bytes]:
    """Allow one call for some values of an argument.

    `refused` is (value, offset of another argument, flag): with this value, that flag is denied.
    """
    inner = [_load(argument_at)]
    if refused is not None:
        value, flags_at, flag = refused
        inner += [
            _jump(0x15, value, 0, 4),
            _load(flags_at),
            _jump(0x45, flag, 0, 1),
            _return(_DENY),
            _return(_ALLOW),
        ]
    for value in allowed:
        inner += [_jump(0x15, value, 0, 1), _return(_ALLOW)]
    inner.append(_return(_DENY))
    return [_jump(0x15, number, 0, len(inner)), *inner]


def _load(offset: int) -> bytes:
    return struct.pack("HBBI", 0x20, 0, 0, offset)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _return(action: int) -> bytes:
    return struct.pack("HBBI", 0x06, 0, 0, action)


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
