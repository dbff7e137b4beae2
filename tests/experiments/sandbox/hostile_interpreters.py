"""Programs in JavaScript, bash and Perl that try to get out of the sandbox, or to exhaust the machine.

An escape exits with 0, so that whatever passes has escaped. The placeholders are those of `hostile.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hostile:
    name: str
    language: str
    code: str
    ends: tuple[str, ...] = ("failed",)


def _js(name: str, attempt: str, *ends: str) -> Hostile:
    return Hostile(name, "js", attempt, ends or ("failed",))


def _sh(name: str, attempt: str, *ends: str) -> Hostile:
    return Hostile(name, "sh", f"set -e\n{attempt}", ends or ("failed",))


def _pl(name: str, attempt: str, *ends: str) -> Hostile:
    return Hostile(name, "pl", attempt, ends or ("failed",))


_FS = "const fs = require('fs');"
_SPAWN = "const c = require('child_process'); const r = c.spawnSync"
ESCAPES = [
    # files
    _js("read a file outside", _FS + "fs.readFileSync('{folder}/victim.txt');"),
    _js("read the password file", _FS + "fs.readFileSync('/etc/passwd');"),
    _js("read the solutions", _FS + "fs.readFileSync('{answers}');"),
    _js("read an installed package", _FS + "fs.readFileSync('{site}/packaging/__init__.py');"),
    _js("list a folder outside", _FS + "fs.readdirSync('{folder}');"),
    _js("list the user's home", _FS + "fs.readdirSync('/root');"),
    _js("write a file outside", _FS + "fs.writeFileSync('{folder}/new.txt', 'x');"),
    _js("write beside its interpreter", _FS + "fs.writeFileSync('/usr/bin/x', 'x');"),
    _js("remove a file outside", _FS + "fs.unlinkSync('{folder}/victim.txt');"),
    _js("see which files exist", _FS + "fs.statSync('{folder}/victim.txt');"),
    _js("read through a symbolic link", _FS + "fs.symlinkSync('/etc/passwd', 'l'); fs.readFileSync('l');"),
    _js("read another process's environment", _FS + "fs.readFileSync('/proc/{pid}/environ');"),
    _js("read its own memory map", _FS + "fs.readFileSync('/proc/self/maps');"),
    _sh("read a file outside", "read -r line < {folder}/victim.txt"),
    _sh("read the password file", "cat /etc/passwd"),
    _sh("read the solutions", "cat {answers}"),
    _sh("list a folder outside", "shopt -s failglob\necho {folder}/*"),
    _sh("write a file outside", "echo x > {folder}/new.txt"),
    _sh("append to a file outside", "echo x >> {folder}/victim.txt"),
    _sh("write beside its interpreter", "echo x > /usr/bin/x"),
    _sh("see which files exist", "[[ -e {folder}/victim.txt ]]"),
    _sh("see which processes there are", "[[ -e /proc/{pid} || -e /proc/1 ]]"),
    _pl("read a file outside", "open(my $f, '<', '{folder}/victim.txt') or exit 1;"),
    _pl("read the password file", "open(my $f, '<', '/etc/passwd') or exit 1;"),
    _pl("read the solutions", "open(my $f, '<', '{answers}') or exit 1;"),
    _pl("list a folder outside", "opendir(my $d, '{folder}') or exit 1;"),
    _pl("write a file outside", "open(my $f, '>', '{folder}/new.txt') or exit 1;"),
    _pl("remove a file outside", "unlink('{folder}/victim.txt') or exit 1;"),
    _pl("change a file's mode outside", "chmod(0, '{folder}/victim.txt') or exit 1;"),
    _pl("see which files exist", "-e '{folder}/victim.txt' or exit 1;"),
    # network
    _js("connect to a port", "require('net').connect({port}, '127.0.0.1').on('error', () => process.exit(1));"),
    _js("listen", "require('net').createServer().listen(0).on('error', () => process.exit(1));"),
    _js("send a datagram", "const s = require('dgram').createSocket('udp4'); s.on('error', () => process.exit(1));"
        "s.send('x', {port}, '127.0.0.1', e => process.exit(e ? 1 : 0));"),
    _sh("connect to a port", "exec 9<>/dev/tcp/127.0.0.1/{port}"),
    _sh("send a datagram", "echo x > /dev/udp/127.0.0.1/{port}"),
    _pl("connect to a port", "use Socket; socket(my $s, PF_INET, SOCK_STREAM, 0) or exit 1;\n"
        "connect($s, sockaddr_in({port}, inet_aton('127.0.0.1'))) or exit 1;"),
    _pl("a socket by its number", "syscall(41, 2, 1, 0) >= 0 or exit 1;"),
    # commands and processes
    _js("run a command", _SPAWN + "('/bin/true'); process.exit(r.status === 0 ? 0 : 1);"),
    _js("run itself", _SPAWN + "(process.execPath, ['-e', '0']); process.exit(r.status === 0 ? 0 : 1);"),
    _js("fork", "require('child_process').fork('program.js').on('error', () => process.exit(1));"),
    _js("run a program of its own", _FS + "fs.writeFileSync('x', '#!/bin/bash\\n', {mode: 0o755});" + _SPAWN
        + "('./x'); process.exit(r.status === 0 ? 0 : 1);"),
    _js("kill another process", "process.kill({pid}, 9);"),
    _js("kill its parent", "process.kill(process.ppid, 9);"),
    _js("kill everything", "process.kill(-1, 9);"),
    _js("become root", "process.setuid(0);"),
    _js("load a library as an addon", "process.dlopen({exports: {}}, '/lib/x86_64-linux-gnu/libc.so.6');"),
    _js("change root", "require('fs').chrootSync('/');"),
    _sh("run a command that is no tool", "/usr/bin/id"),
    _sh("run Python", "python3 -c pass || /usr/bin/python3 -c pass"),
    _sh("run a program of its own", "printf '#!/bin/bash\\ntrue\\n' > x\nchmod +x x\n./x"),
    _sh("run a program by the loader", "cat /usr/bin/true > x\n/lib64/ld-linux-x86-64.so.2 ./x"),
    _sh("kill another process", "kill -9 {pid}"),
    _sh("kill its parent", "kill -9 $PPID"),
    _sh("kill the first process", "kill -INT 1"),
    _sh("kill everything", "kill -9 -1"),
    _sh("raise its limits", "ulimit -v unlimited"),
    _sh("raise the number of processes", "ulimit -u 1000"),
    _pl("run a command", "system('/bin/true') == 0 or exit 1;"),
    _pl("run a shell", "my $x = `echo x`; $x eq \"x\\n\" or exit 1;"),
    _pl("become a shell", "exec('/bin/sh', '-c', 'exit 0'); exit 1;"),
    _pl("fork", "defined(fork) or exit 1;"),
    _pl("kill another process", "kill(9, {pid}) or exit 1;"),
    _pl("kill everything", "kill(9, -1) or exit 1;"),
    _pl("kill a thread of its parent", "syscall(234, 1, 1, 9) == 0 or exit 1;"),
    _pl("trace its parent", "syscall(101, 16, 1, 0, 0) == 0 or exit 1;"),
    _pl("write another's memory", "syscall(311, 1, 0, 0, 0, 0, 0) == 0 or exit 1;"),
    _pl("new namespaces", "syscall(272, 0x10000000) == 0 or exit 1;"),
    _pl("clone into a namespace", "syscall(56, 0x10000011, 0, 0, 0, 0) >= 0 or exit 1;"),
    _pl("mount", "my($a, $b, $c) = ('x', '/', 'tmpfs'); syscall(165, $a, $b, $c, 0, 0) == 0 or exit 1;"),
    _pl("become root", "syscall(105, 0) == 0 or exit 1;"),
    _pl("raise its limits", "my $l = pack('QQ', 1000, 1000); syscall(160, 0, $l) == 0 or exit 1;"),
    _pl("limit another process", "my $l = pack('QQ', 1, 1); syscall(302, {pid}, 0, $l, 0) == 0 or exit 1;"),
    _pl("shared memory", "syscall(9, 0, 4096, 3, 0x21, -1, 0) >= 0 or exit 1;"),
    _pl("a program in memory", "my $n = 'x'; syscall(319, $n, 0) >= 0 or exit 1;"),
    _pl("load a kernel program", "my $a = \"\\0\" x 120; syscall(321, 0, $a, 120) >= 0 or exit 1;"),
    _pl("a system call of the other kind", "syscall(0x40000000 | 41, 2, 1, 0) >= 0 or exit 1;"),
    _pl("own a pipe's signals", "pipe(my $r, my $w); fcntl($r, 8, {pid}) or exit 1;"),
    _pl("io_uring", "my $p = \"\\0\" x 120; syscall(425, 8, $p) >= 0 or exit 1;"),
]  # fmt: skip
_ENDS = ("timeout", "crash", "failed")
EXHAUSTION = [
    _js("an endless loop", "while (true);", "timeout"),
    _js("sleep", "setTimeout(() => {}, 3600000);", "timeout"),
    _js("a lock", "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);", "timeout"),
    _js("memory", "const a = []; while (true) a.push(new Array(1e5).fill(Math.random()));", *_ENDS),
    _js("memory in buffers", "const a = []; while (true) a.push(Buffer.alloc(1 << 24, 1));", *_ENDS),
    _js("shared memory", "const a = []; while (true) { const b = new SharedArrayBuffer(1 << 24);"
        "new Uint8Array(b).fill(1); a.push(b); }", *_ENDS),
    _js("threads", "const w = require('worker_threads'); for (let i = 0; i < 200; i++)"
        "new w.Worker('while(true);', {eval: true}).on('error', () => process.exit(1));", *_ENDS),
    _js("output", "while (true) console.log('x'.repeat(1e5));", "timeout"),
    _js("errors", "while (true) require('fs').writeSync(2, 'x'.repeat(1e5));", "timeout"),
    _js("disk", "let i = 0; while (true) require('fs').writeFileSync('f' + i++, 'x'.repeat(1 << 19));", *_ENDS),
    _js("a large file", "const f = require('fs').openSync('f', 'w'); while (true) require('fs').writeSync(f, 'x'.repeat(1e6));", *_ENDS),
    _js("recursion", "function f() { f(); } f();", *_ENDS),
    _js("deaf to signals", "for (const s of ['SIGXCPU', 'SIGTERM', 'SIGHUP']) process.on(s, () => {}); while (true);", "timeout"),
    _sh("an endless loop", "while :; do :; done", "timeout"),
    _sh("sleep", "read -t 3600 < <(:) || while :; do read -t 60 <> /dev/zero -n 1 -d x || :; done", *_ENDS),
    _sh("a bomb of forks", "bomb() { bomb | bomb & }\nbomb\nwhile :; do :; done", *_ENDS),
    _sh("a bomb of forks that leaves", "bomb() { bomb | bomb & }\nbomb\nexit 1", *_ENDS),
    _sh("processes that stay", "for i in 1 2 3 4; do (while :; do :; done) & done\nexit 1"),
    _sh("memory", "x=x\nwhile :; do x=$x$x; done", *_ENDS),
    _sh("memory in many processes", "for i in 1 2 3 4 5 6 7 8; do (x=x; while :; do x=$x$x; done) & done\nwait; exit 1", *_ENDS),
    _sh("output", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "timeout"),
    _sh("errors", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx >&2; done", "timeout"),
    _sh("disk", "i=0\nwhile :; do head -c 500000 /dev/zero > f$i; i=$((i + 1)); done", *_ENDS),
    _sh("a large file", "cat /dev/zero > f", *_ENDS),
    _sh("deaf to signals", "trap '' TERM HUP INT XCPU\nwhile :; do :; done", "timeout"),
    _sh("a command without end", "cat /dev/zero | tr a b | sort", *_ENDS),
    _pl("an endless loop", "while (1) {}", "timeout"),
    _pl("sleep", "sleep 3600;", "timeout"),
    _pl("deaf to signals", "$SIG{$_} = 'IGNORE' for qw(XCPU TERM HUP INT); while (1) {}", "timeout"),
    _pl("memory", "my @a; while (1) { push @a, 'x' x 1000000 . scalar @a; }", *_ENDS),
    _pl("a regular expression", "('a' x 40) =~ /^(a|a|aa)+$(?!)/; ('a' x 40 . 'b') =~ /^((a|aa)+)+$/;exit 1;", *_ENDS),
    _pl("output", "while (1) { print 'x' x 100000; }", "timeout"),
    _pl("errors", "while (1) { print STDERR 'x' x 100000; }", "timeout"),
    _pl("disk", "my $i = 0; while (1) { open(my $f, '>', 'f' . $i++) or exit 1; print $f 'x' x 500000; close $f or exit 1; }", *_ENDS),
    _pl("recursion", "sub f { return 1 + f($_[0] + 1); } f(0);", *_ENDS),
]  # fmt: skip
CHEATS = [
    _js("leave before the tests", "process.exit(0);"),
    _js("leave in a handler", "process.on('exit', () => process.reallyExit(0)); throw new Error('x');"),
    _sh("leave before the tests", "exit 0"),
    _pl("leave before the tests", "exit 0;"),
    _pl("hide the tests", "__END__"),
    _js("hide the tests", "/*"),
    _js("leave something for the next program", "require('fs').writeFileSync('left', 'x'); process.exit(1);"),
    _js("find what the last program left", "require('fs').readFileSync('left');"),
    _sh("leave a folder that cannot be listed", "mkdir keep || exit 1; exit 1"),
    _pl("leave a folder that cannot be listed", "mkdir('keep', 0300); open(my $f, '>', 'keep/left'); exit 1;"),
    _pl("find what lies in such a folder", "open(my $f, '<', 'keep/left') or exit 1;"),
]  # fmt: skip
HOSTILE = [*ESCAPES, *EXHAUSTION, *CHEATS]
