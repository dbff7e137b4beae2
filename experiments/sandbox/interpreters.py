"""The languages other than Python whose programs can be run, and the files of their interpreters on this machine."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

from runtime_matrix.experiments.config.errors import UserError

_PATH = "/usr/local/bin:/usr/bin:/bin"  # the folders of interpreters and tools: no user's own
_ENVIRONMENT = {"PATH": _PATH, "LC_ALL": "C"}
_NODE_MIB = 128  # of node itself, without a program's heap
_FILES = ("/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/dev/zero", "/usr/lib/locale/C.utf8")

# What programs in bash usually call: text tools, and files of their own.
_TOOLS = """
awk basename bc cat chmod comm cp cut date dirname echo expr factor false fold grep head join ls mkdir mktemp mv nl od
paste printf rev rm sed seq sleep sort tac tail tee test touch tr true uniq wc xargs
"""
# Further system calls, in the notation of `seccomp.py`.
_NODE_CALLS = "eventfd2 290 19"


@dataclass(frozen=True)
class Language:
    """How a language's programs are run."""

    title: str
    binary: str
    package: str  # what to install, by its name in Debian
    extension: str
    last_line: str  # writes {token} to the descriptor 3
    arguments: tuple[str, ...] = ()  # {memory_mib} is the program's limit
    tools: tuple[str, ...] = ()  # programs that it may execute
    version: tuple[str, ...] = ("--version",)  # arguments that print it
    uses: str = ""  # a pattern of the modules that a program loads
    loads: tuple[str, ...] = ()  # arguments that load {module}
    library: tuple[str, ...] = ()  # arguments that print its folders of modules, one per line
    folders: tuple[str, ...] = ()  # further folders that it may read, if they exist
    calls: str = ""
    probe: str = ""  # a program that must pass where the language can be run
    processes: int = 1  # more than one: it may fork; each has an equal part of the memory


LANGUAGES = {
    "js": Language(
        title="JavaScript",
        binary="node",
        package="nodejs",
        extension=".js",
        last_line=';require("node:fs").writeSync(3, "{token}");',
        arguments=("--v8-pool-size=1", "--max-old-space-size={memory_mib}"),
        folders=("/usr/share/nodejs",),  # of Debian's build
        calls=_NODE_CALLS,
    ),
    "sh": Language(
        title="bash",
        binary="bash",
        package="bash",
        extension=".sh",
        last_line="printf %s {token} >&3",
        arguments=("--norc", "--noprofile"),
        tools=tuple(_TOOLS.split()),
        processes=16,
        probe="[[ $(echo 1 | cat) = 1 ]] || exit 1",  # kernels before 5.14 count the processes of all users' sandboxes
    ),
    "pl": Language(
        title="Perl",
        binary="perl",
        package="perl",
        extension=".pl",
        last_line=';open(my $end_of_program, ">&=", 3); syswrite($end_of_program, "{token}");',
        version=("-e", "print $^V"),
        uses=r"^\s*use\s+([A-Z]\w*(?:::\w+)*)",
        loads=("-M{module}", "-e", "1"),
        library=("-e", 'print join "\\n", grep { m(^/) } @INC'),
    ),
}
_COMPILED = (
    "adb",
    "cpp",
    "cs",
    "d",
    "dart",
    "fs",
    "go",
    "go_test.go",
    "hs",
    "java",
    "ml",
    "rs",
    "scala",
    "swift",
    "ts",
)


@dataclass(frozen=True)
class Interpreter:
    """A language's interpreter on this machine, with the paths that it needs."""

    language: Language
    path: str
    version: str
    executable: tuple[str, ...]
    readable: tuple[str, ...]


def unsupported(name: str) -> str | None:
    """Return why programs of a language cannot be run here whatever is installed; None if they can."""
    if name in LANGUAGES:
        return None
    known = ", ".join(f"{key} ({language.title})" for key, language in sorted(LANGUAGES.items()))
    why = "is compiled, and the sandbox has no compilers" if name in _COMPILED else "has no interpreter in the sandbox"
    return f"the language {name} {why}; it runs {known} and Python"


def interpreter(name: str) -> Interpreter:
    """Return the interpreter of a language of LANGUAGES; UserError if it is not installed."""
    language = LANGUAGES[name]
    path = shutil.which(language.binary, path=_PATH)
    if path is None:
        raise UserError(
            f"{language.title} programs need {language.binary}, which is not in {_PATH}: install {language.package}"
        )
    if shutil.which("ldd", path=_PATH) is None:
        raise UserError(f"{language.title} programs need ldd, which tells the libraries of {path}: install libc-bin")
    tools = [place for tool in language.tools if (place := shutil.which(tool, path=_PATH)) is not None]
    executable = [path, *tools]
    libraries = sorted({library for file in executable for library in _libraries(file)})
    modules = _output([path, *language.library]).splitlines() if language.library else []
    readable = [*libraries, *modules, *language.folders, *_FILES]
    return Interpreter(
        language,
        path,
        next(iter(_output([path, *language.version]).strip().splitlines()), "of an unknown version"),
        tuple(executable + [library for library in libraries if "/ld-" in library]),
        tuple(file for file in readable if os.path.exists(file)),
    )


def missing_module(interpreter: Interpreter, program: str) -> str | None:
    """Return the first module that a program uses and the interpreter cannot load; None if there is none."""
    language = interpreter.language
    modules = re.findall(language.uses, program, re.MULTILINE) if language.uses else []
    return next((module for module in modules if not _can_load(interpreter.path, language.loads, module)), None)


@cache
def _can_load(path: str, arguments: tuple[str, ...], module: str) -> bool:
    command = [path, *(argument.format(module=module) for argument in arguments)]
    return subprocess.run(command, capture_output=True, env=_ENVIRONMENT, timeout=60, check=False).returncode == 0


def memory_limits(language: Language, memory_mib: int) -> list[tuple[int, int]]:
    """Return the limits of memory and processes as (kind, value); they hold for all processes together."""
    if language.binary == "node":  # it reserves gigabytes of addresses, which RLIMIT_AS would count
        return [(resource.RLIMIT_DATA, (memory_mib + _NODE_MIB) << 20)]
    each = (memory_mib << 20) // language.processes
    processes = [(resource.RLIMIT_NPROC, language.processes + 2)] if language.processes > 1 else []  # its runner is two
    return [(resource.RLIMIT_DATA, each), (resource.RLIMIT_AS, each + (64 << 20)), *processes]


def _libraries(file: str) -> list[str]:
    """Return the shared libraries of an executable, and the loader, by the paths at which the loader looks for them."""
    words = [word for word in _output(["ldd", file]).split() if word.startswith("/")]
    return [os.path.join(os.path.realpath(os.path.dirname(word)), os.path.basename(word)) for word in words]


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=_ENVIRONMENT, timeout=60, check=False)
    return done.stdout
