"""The last layer: seccomp filters that allow only the system calls of a computing program.

Standard library only, since it runs in the clean interpreter. Sources: man-pages seccomp(2), syscalls(2).
"""

from __future__ import annotations

import ctypes
import errno
import platform
import signal
import struct
from collections.abc import Sequence

from layers import no_new_privileges, prctl

_PR_SET_SECCOMP = 22

# Name, number on x86_64, number on aarch64 (0: no such call).
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
# Calls of interpreters of other languages: to start one, and for its child processes.
_EXECUTING_CALLS = "execve 59 221"
_OPENING_CALLS = "open 2 0, openat 257 56"
_CHILDREN_CALLS = "fork 57 0, vfork 58 0, wait4 61 260, getpgrp 111 0, getpgid 121 155, setpgid 109 154"
# Newer calls for which libraries fall back to older ones if the kernel has none; their arguments are in memory.
_ABSENT_CALLS = "clone3 435 435, io_uring_setup 425 425, pkey_alloc 330 289, openat2 437 437, close_range 436 436"
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_ALLOW, _KILL, _DENY, _NO_SUCH_CALL = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_IGNORE = 0x00050000  # does nothing and reports success
_CREATING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20000000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE
_CLONE_THREAD, _AF_UNIX = 0x10000, 1
_NEW_NAMESPACES = 0x7E020080
_MAP_SHARED = 1
_F_SETFL, _O_ASYNC = 4, 0x2000
_FCNTL = (0, 1, 2, 3, _F_SETFL, 1030)  # duplicate, flags: no owner, no signal, no lease
_FIONBIO = 0x5421
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


def filters(may_write: bool) -> tuple[Filter, Filter]:
    """Return the zygote's filter and the short filter that each program adds.

    Raises OSError on an architecture without known call numbers.
    """
    column, architecture = _architecture()
    clone, clone3, limits, pair = ((56, 435, 302, 53), (220, 435, 261, 199))[column]
    fcntl, ioctl, action = ((72, 16, 13), (25, 29, 134))[column]
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
    # The flags of clone3 are in memory, out of reach of BPF; glibc falls back to clone.
    zygote += [_jump(0x15, clone3, 0, 1), _return(_NO_SUCH_CALL)]
    zygote += _only_if(pair, 16, 0x15, _AF_UNIX, when_true=_ALLOW)
    zygote.append(_return(_DENY))
    program = [_load(0)]
    for number in _numbers(_FORKING_CALLS, column):
        program += [_jump(0x15, number, 0, 1), _return(_DENY)]
    program += _only_if(clone, 16, 0x45, _CLONE_THREAD, when_true=_ALLOW)
    program += _only_null(limits, 32)  # allows reading limits, but not setting them
    program += _only_among(fcntl, 24, _FCNTL, refused=(_F_SETFL, 32, _O_ASYNC))
    program += _only_among(ioctl, 24, _IOCTL)
    # The signal of the limit of CPU time keeps its default action, which shows why a program ended.
    program += [_jump(0x15, action, 0, 3), _load(16), _jump(0x15, signal.SIGXCPU, 0, 1), _return(_IGNORE)]
    program.append(_return(_ALLOW))
    return Filter(zygote), Filter(program)


def interpreter_filter(further_calls: str, can_fork: bool) -> Filter:
    """Return the filter under which an interpreter is started and runs a program of its language.

    It may execute files, which other layers limit to the interpreter and its tools. It may start threads, and other
    processes only if it `can_fork`. OSError on an architecture without known call numbers.
    """
    column, architecture = _architecture()
    allowed = [*_numbers(_CALLS, column), *_numbers(_WRITING_CALLS, column), *_numbers(_EXECUTING_CALLS, column)]
    allowed += _numbers(further_calls, column) + (_numbers(_CHILDREN_CALLS, column) if can_fork else [])
    clone, limits, fcntl, ioctl, mmap = ((56, 302, 72, 16, 9), (220, 261, 25, 29, 222))[column]
    special = {clone, limits, fcntl, ioctl, mmap}
    code = [_load(4), _jump(0x15, architecture, 1, 0), _return(_KILL), _load(0)]
    if can_fork:
        code += _only_if(clone, 16, 0x45, _NEW_NAMESPACES, when_true=_DENY)
    else:
        code += _only_if(clone, 16, 0x45, _CLONE_THREAD, when_true=_ALLOW)
    code += _only_if(mmap, 40, 0x45, _MAP_SHARED, when_true=_DENY)  # limits of memory do not count shared memory
    code += _only_null(limits, 32)
    code += _only_among(fcntl, 24, _FCNTL, refused=(_F_SETFL, 32, _O_ASYNC))
    code += _only_among(ioctl, 24, (*_IOCTL, _FIONBIO))
    for number in sorted(set(allowed) - special):
        code += [_jump(0x15, number, 0, 1), _return(_ALLOW)]
    for number in _numbers(_OPENING_CALLS, column):
        code += [_jump(0x15, number, 0, 1), _return(_ALLOW)]
    for number in _numbers(_ABSENT_CALLS, column):
        code += [_jump(0x15, number, 0, 1), _return(_NO_SUCH_CALL)]
    return Filter([*code, _return(_DENY)])


def _architecture() -> tuple[int, int]:
    """Return the column of the call numbers and the kernel's number of this machine's architecture."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system call numbers for {machine}")
    return _ARCHITECTURES[machine]


def _numbers(table: str, column: int) -> list[int]:
    rows = [entry.split() for entry in table.split(",") if entry.strip()]
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
