"""Programs that try to get out of the sandbox, to exhaust the machine, or to pass a test that they should fail.

Each defines `f`, which the test expects to cube its argument. An escape reports success by making `f` right, so that
whatever passes has escaped. `{folder}` lies outside and holds victim.txt, `{port}` listens, `{pid}` is another process,
`{site}` a folder of installed packages, `{answers}` a file with the solutions.
"""

from dataclasses import dataclass

TEST = "assert f(7) == 343\nassert f(12) == 1728\n"
HONEST = "def f(x):\n    return x ** 3\n"


@dataclass(frozen=True)
class Attack:
    name: str
    code: str
    ends: tuple[str, ...] = ("failed",)
    needs: str = ""  # the one layer that holds it, where a single one does


_ESCAPE = """
def attempt():
{body}
try:
    escaped = attempt() is not False
except BaseException:
    escaped = False
def f(x):
    return x ** 3 if escaped else None
"""


def _escape(name: str, body: str, needs: str = "") -> Attack:
    lines = body.strip("\n").splitlines()
    code = _ESCAPE.replace("{body}", "\n".join(f"    {line}" for line in lines))
    return Attack(name, code, ("failed", "crash"), needs)


def _exhaust(name: str, code: str, *ends: str) -> Attack:
    return Attack(name, code, ends or ("timeout", "crash", "failed"))


_FORGED = """
import os
for file in range(3, 40):
    try:
        os.write(file, {line} * 20)
    except OSError:
        pass
def f(x):
    return None
"""

FILES = [
    _escape("write a file outside", "open('{folder}/new.txt', 'w').write('x')"),
    _escape("append to a file outside", "open('{folder}/victim.txt', 'a').write('x')"),
    _escape("truncate a file outside", "import os\nos.truncate('{folder}/victim.txt', 0)"),
    _escape("remove a file outside", "import os\nos.remove('{folder}/victim.txt')"),
    _escape("rename a file outside", "import os\nos.rename('{folder}/victim.txt', '{folder}/gone.txt')"),
    _escape("read a file outside", "return open('{folder}/victim.txt').read() == 'secret'"),
    _escape("read the password file", "return bool(open('/etc/passwd').read())"),
    _escape("list a folder outside", "import os\nos.listdir('{folder}')"),
    _escape("make a folder outside", "import os\nos.mkdir('{folder}/new')"),
    _escape("change a file's mode outside", "import os\nos.chmod('{folder}/victim.txt', 0)"),
    _escape(
        "write through a symbolic link", "import os\nos.symlink('{folder}/victim.txt', 'l')\nopen('l', 'w').write('x')"
    ),
    _escape("read through a hard link", "import os\nos.link('{folder}/victim.txt', 'l')\nopen('l').read()"),
    _escape("write into Python's library", "import os\nopen(os.__file__ + 'x', 'w').write('x')"),
    _escape("read another process's environment", "open('/proc/{pid}/environ', 'rb').read()"),
    _escape("read its own memory map", "open('/proc/self/maps').read()"),
    _escape("see which files exist", "import os\nos.stat('{folder}/victim.txt')", "private_root"),
    _escape("see which processes there are", "import os\nos.stat('/proc/{pid}')", "private_root"),
    _escape("import an installed package", "import sys\nsys.path.append('{site}')\nimport packaging"),
    _escape("read an installed package", "open('{site}/packaging/__init__.py').read()"),
    _escape("read the solutions", "open('{answers}').read()"),
    _escape("make a device", "import os, stat\nos.mknod('d', 0o600 | stat.S_IFCHR, os.makedev(1, 1))"),
]
NETWORK = [
    _escape("connect to a port", "import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)"),
    _escape("connect by _socket", "import _socket\ns = _socket.socket()\ns.connect(('127.0.0.1', {port}))"),
    _escape(
        "send a datagram",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    ),
    _escape("listen", "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()"),
    _escape("resolve a name", "import socket\nsocket.getaddrinfo('example.org', 80)"),
    _escape("open an abstract socket", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0x')\ns.listen()"),
    _escape("open a raw socket", "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
]
COMMANDS = [
    _escape("os.system", "import os\nreturn os.system('true') == 0"),
    _escape("subprocess", "import subprocess\nsubprocess.run(['/bin/true'], check=True)"),
    _escape("os.popen", "import os\nreturn os.popen('echo hello').read() == 'hello\\n'"),
    _escape("posix.execv", "import posix\nposix.execv('/bin/true', ['true'])"),
    _escape("os.posix_spawn", "import os\nos.posix_spawn('/bin/true', ['true'], {})"),
    _escape("system by ctypes", "import ctypes\nreturn ctypes.CDLL(None).system(b'true') == 0"),
    _escape(
        "execve by its number", "import ctypes\nctypes.CDLL(None).syscall(59, b'/bin/true', None, None)\nreturn False"
    ),
    _escape(
        "_posixsubprocess",
        "import _posixsubprocess, os\nr, w = os.pipe()\n"
        "_posixsubprocess.fork_exec([b'true'], [b'/bin/true'], True, (w,), None, None, -1, -1, -1, -1, -1, -1, r, w,\n"
        "    True, True, 0, None, None, None, -1, None, False)",
    ),
    _escape("os reloaded", "import importlib, os\nimportlib.reload(os)\nreturn os.system('true') == 0"),
    _escape("pty", "import pty\nreturn pty.spawn('/bin/true') == 0"),
    _escape(
        "a program in memory",
        "import os\nf = os.memfd_create('x')\nos.write(f, open('/bin/true', 'rb').read())\nos.execve(f, ['x'], {})",
    ),
    _escape(
        "multiprocessing", "import multiprocessing as m\np = m.get_context('fork').Process(target=print)\np.start()"
    ),
]
_LIMITS = """
import ctypes, mmap, os, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
at = 0x10000000000  # a pointer whose low half is 0
if libc.mmap(ctypes.c_void_p(at), ctypes.c_size_t(4096), 3, 0x32, -1, ctypes.c_long(0)) != at:
    return False
ctypes.memmove(at, struct.pack('QQ', 1 << 30, 1 << 30), 16)
return libc.syscall(302, {whom}, 0, ctypes.c_void_p(at), None) == 0
"""
PROCESSES = [
    _escape("fork", "import os\nif os.fork() == 0:\n    os._exit(0)"),
    _escape("a bomb of forks", "import os\nwhile True:\n    os.fork()"),
    _escape(
        "a daemon",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1)\n"
        "    open('{folder}/late.txt', 'w')\n    os._exit(0)",
    ),
    _escape("kill another process", "import os\nos.kill({pid}, 9)"),
    _escape("kill its parent", "import os\nos.kill(os.getppid(), 9)"),
    _escape("kill everything", "import os\nos.kill(-1, 9)"),
    _escape("kill its group's neighbours", "import os\nos.killpg(os.getpgid(os.getppid()), 9)"),
    _escape(
        "stop a thread of its parent",
        "import ctypes, os\nreturn ctypes.CDLL(None).syscall(234, os.getppid(), os.getppid(), 9) == 0",
    ),
    _escape("trace its parent", "import ctypes, os\nreturn ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0"),
    _escape(
        "write another's memory",
        "import ctypes, os\nreturn ctypes.CDLL(None).syscall(311, os.getppid(), 0, 0, 0, 0, 0) == 0",
    ),
    _escape("new namespaces", "import ctypes\nreturn ctypes.CDLL(None).unshare(0x10000000) == 0"),
    _escape("mount", "import ctypes\nreturn ctypes.CDLL(None).mount(b'x', b'/', b'tmpfs', 0, None) == 0"),
    _escape("change root", "import os\nos.chroot('.')"),
    _escape("become root", "import os\nos.setresuid(0, 0, 0)"),
    _escape("raise its limits", "import resource as r\nr.setrlimit(r.RLIMIT_CPU, (1000, 1000))"),
    _escape("limit another process by half a pointer", _LIMITS.replace("{whom}", "{pid}"), "seccomp"),
    _escape("limit its parent by half a pointer", _LIMITS.replace("{whom}", "os.getppid()"), "seccomp"),
    _escape(
        "own a pipe's signals", "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, {pid})", "seccomp"
    ),
    _escape("choose a pipe's signal", "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, 10, 9)", "seccomp"),
    _escape(
        "signals when a pipe is ready",
        "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETFL, 0x2000)",
        "seccomp",
    ),
    _escape(
        "own signals by ioctl",
        "import fcntl, os, struct\nr, w = os.pipe()\nfcntl.ioctl(r, 0x5452, struct.pack('i', 1))",
        "seccomp",
    ),
    _escape(
        "a lease on a file",
        "import fcntl, os\nf = os.open('l', os.O_CREAT | os.O_RDWR)\nfcntl.fcntl(f, 1024, 1)",
        "seccomp",
    ),
    _escape("io_uring", "import ctypes\nreturn ctypes.CDLL(None).syscall(425, 8, b'0' * 120) >= 0"),
    _escape("load a kernel program", "import ctypes\nreturn ctypes.CDLL(None).syscall(321, 0, b'0' * 120, 120) >= 0"),
    _escape("turn the filter off", "import ctypes\nreturn ctypes.CDLL(None).prctl(22, 0, 0, 0, 0) == 0"),
]
EXHAUSTION = [
    _exhaust("memory", "held = []\nwhile True:\n    held.append(bytearray(1 << 24))\n"),
    _exhaust("memory while it answers", "def f(x):\n    return [0] * (1 << 40)\n"),
    _exhaust("processor", "while True:\n    pass\n", "timeout"),
    _exhaust("processor in C", "sum(range(10 ** 15))\n", "timeout"),
    _exhaust("a power", "def f(x):\n    return len(str(7 ** 10 ** 9))\n"),
    _exhaust("a regular expression", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')\n", "timeout"),
    _exhaust("sleep", "import time\ntime.sleep(3600)\n", "timeout"),
    _exhaust("a lock", "import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()\n", "timeout"),
    _exhaust(
        "deaf to signals",
        "import signal\nfor s in range(1, 64):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass\n",
        "timeout",
    ),
    _exhaust(
        "except everything",
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass\n",
        "timeout",
    ),
    _exhaust("disk", "f = open('big', 'wb')\nwhile True:\n    f.write(b'x' * (1 << 20))\n"),
    _exhaust("disk, many files", "i = 0\nwhile True:\n    open(str(i), 'wb').write(b'x' * (1 << 19))\n    i += 1\n"),
    _exhaust("output", "while True:\n    print('x' * 10000)\n", "timeout"),
    _exhaust("descriptors", "import os\nheld = [os.dup(0) for _ in range(10 ** 6)]\n"),
    _exhaust(
        "threads", "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(99,)).start()\n"
    ),
    _exhaust("recursion", "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x):\n    return f(x) + 1\n"),
    _exhaust("a long answer", "def f(x):\n    return 'x' * 10 ** 8\n"),
    _exhaust("a deep answer", "def f(x):\n    v = []\n    for _ in range(10 ** 5):\n        v = [v]\n    return v\n"),
    _exhaust("an answer that holds itself", "def f(x):\n    v = []\n    v.append(v)\n    return v\n"),
]
_EQUAL = """    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
    __hash__ = None
"""
CHEATS = [
    Attack("leave with success", "import os\nos._exit(0)\n", ("crash", "failed")),
    Attack("leave with success when asked", "import os\ndef f(x):\n    os._exit(0)\n", ("crash", "failed")),
    Attack("SystemExit", "raise SystemExit(0)\n"),
    Attack("SystemExit when asked", "import sys\ndef f(x):\n    sys.exit(0)\n"),
    Attack("forge an empty verdict", _FORGED.replace("{line}", "b'{\"ok\": null}\\n'"), ("failed", "crash")),
    Attack("forge a true verdict", _FORGED.replace("{line}", "b'{\"ok\": true}\\n'"), ("failed", "crash")),
    Attack("forge the grader's verdict", _FORGED.replace("{line}", "b'{\"status\": \"passed\", \"reason\": \"\"}\\n'"), ("failed", "crash")),
    Attack("forge nonsense", _FORGED.replace("{line}", "b'\\xff\\x00[[['"), ("failed", "crash", "timeout")),
    Attack("forge an unknown kind", _FORGED.replace("{line}", "b'{\"ok\": {\"z\": 1}}\\n'"), ("failed", "crash")),
    Attack("forge an error that ends the grader", _FORGED.replace("{line}", "b'{\"error\": \"SystemExit\", \"text\": \"\"}\\n'"), ("failed", "crash")),
    Attack("equal to everything", f"class E:\n{_EQUAL}def f(x):\n    return E()\n"),
    Attack("an integer equal to everything", f"class E(int):\n{_EQUAL}def f(x):\n    return E(0)\n"),
    Attack("a text equal to everything", f"class E(str):\n{_EQUAL}def f(x):\n    return E('')\n"),
    Attack("a list equal to everything", f"class E(list):\n{_EQUAL}def f(x):\n    return E()\n"),
    Attack(
        "frames walked to the grader",
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):\n"
        "            if 'assert' + ' f(7)' in repr(value):\n                return x ** 3\n        frame = frame.f_back\n",
    ),
    Attack(
        "the heap searched for the test",
        "import gc\ndef f(x):\n    for o in gc.get_objects():\n        if type(o) is dict:\n"
        "            for v in list(o.values()):\n                if type(v) is str and 'assert' + ' f(7)' in v:\n"
        "                    return x ** 3\n",
    ),
    Attack("builtins patched", "import builtins\nbuiltins.AssertionError = ValueError\nbuiltins.all = builtins.any = lambda *a: True\n"
           "builtins.repr = lambda x: '343'\ndef f(x):\n    return None\n"),
    Attack("json patched", "import json\njson.dumps = lambda *a, **k: '343'\njson.loads = lambda *a: {}\ndef f(x):\n    return None\n", ("failed", "crash", "timeout")),
    Attack("the wire's module patched", "import sys\nsys.modules['values'].dumps = lambda v: '343'\ndef f(x):\n    return None\n"),
    Attack("everything equal by a metaclass", f"class M(type):\n{_EQUAL}class E(metaclass=M):\n    pass\ndef f(x):\n    return E\n"),
    Attack("a subclass of the answer's type", "class E(int):\n    def __index__(self):\n        return 343\n    def __int__(self):\n        return 343\ndef f(x):\n    return E(1)\n"),
    Attack("the function is no function", "f = 343\n"),
    Attack("no function at all", "x = 1\n"),
    Attack("no Python", "def f(x:\n"),
    Attack("a null byte", "def f(x):\n    return '\0'\n"),
    Attack("leave something for the next program", "open('left.txt', 'w').write('x')\nimport sys\nsys.path.insert(0, '.')\nopen('bisect.py', 'w').write('x')\n"),
    Attack("find what the last program left", "import os\nleft = os.listdir('.')\ndef f(x):\n    return x ** 3 if left else None\n"),
    Attack("leave a folder that cannot be listed", "import os\nos.mkdir('keep', 0o300)\nopen('keep/left.txt', 'w').write('x')\n"),
    Attack("find what lies in such a folder", "def f(x):\n    return x ** 3 if open('keep/left.txt').read() else None\n"),
    Attack("leave no room for files", "import os\nos.mkdir('full', 0o300)\nfor i in range(300):\n    try:\n        open('full/%d' % i, 'w')\n    except OSError:\n        break\n"),
    Attack("answer before it is asked", "import os\nos.fdopen\ndef f(x):\n    return NotImplemented\n"),
]  # fmt: skip

HOSTILE = [*FILES, *NETWORK, *COMMANDS, *PROCESSES, *EXHAUSTION, *CHEATS]
