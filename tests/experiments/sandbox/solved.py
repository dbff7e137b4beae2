"""Our own problems in JavaScript, bash and Perl, in the form of MultiPL-E, each with a right and a wrong solution."""

from __future__ import annotations

from dataclasses import dataclass

STOP = {"js": ["\nfunction ", "\n//", "\nconsole.log"], "sh": ["\n}"], "pl": ["\nsub", "\n#", "\n\n"]}


@dataclass(frozen=True)
class Solved:
    """A problem with two completions of its prompt."""

    name: str
    language: str
    prompt: str
    tests: str
    right: str
    wrong: str

    def item(self) -> dict[str, object]:
        """Return the problem as an object of a file."""
        texts = {"name": self.name, "language": self.language, "prompt": self.prompt, "tests": self.tests}
        return {**texts, "doctests": "keep", "stop_tokens": STOP[self.language]}


def _js(name: str, arguments: str, cases: list[tuple[str, str]], right: str, wrong: str) -> Solved:
    lines = "".join(f"  assert.deepEqual(candidate({given}), {expected});\n" for given, expected in cases)
    tests = (
        f"const assert = require('node:assert');\n\nfunction test() {{\n  let candidate = {name};\n{lines}}}\n\ntest();"
    )
    return Solved(
        name, "js", f"// Solve {name}.\nfunction {name}({arguments}){{\n", tests, right + "\n}", wrong + "\n}"
    )


def _sh(name: str, cases: list[tuple[str, str]], right: str, wrong: str) -> Solved:
    lines = "".join(f'    [[ $(candidate {given}) = "{expected}" ]]\n' for given, expected in cases)
    tests = f'}}\n\ncandidate() {{\n    {name} "$@"\n}}\n\nset -e\nrun_test() {{\n{lines}}}\n\nrun_test'
    return Solved(name, "sh", f"#!/bin/bash\n# Solve {name}.\n{name}() {{\n", tests, right, wrong)


_SAME = r"""
sub same {
    my($x, $y) = @_;
    return join(",", map { same($_) } @$x) if ref $x && !defined $y;
    return $x unless defined $y;
    return same($x) eq same($y);
}
"""


def _pl(name: str, arguments: str, cases: list[tuple[str, str]], right: str, wrong: str) -> Solved:
    lines = "".join(
        f'    if(same($candidate->({given}), {expected})) {{\n    print "ok" }}else{{\n    exit 1;\n    }}\n'
        for given, expected in cases
    )
    tests = f"{_SAME}\nsub check {{\n    my $candidate = \\&{name};\n{lines}}}\n\ncheck();"
    prompt = f"# Solve {name}.\nsub {name} {{\n    my({arguments}) = @_;\n"
    return Solved(name, "pl", prompt, tests, right + "\n}", wrong + "\n}")


SOLVED = [
    _js("triple", "x", [("2", "6"), ("-1", "-3")], "  return 3 * x;", "  return 2 * x;"),
    _js("vowels", "text", [("'banana'", "3"), ("''", "0")],
        "  return (text.match(/[aeiou]/g) || []).length;", "  return text.match(/[aeiou]/g).length;"),
    _js("runs", "items", [("[1,1,2]", "[[1,2],[2,1]]"), ("[]", "[]")],
        "  const r = [];\n  for (const x of items) {\n    if (r.length && r[r.length-1][0] === x) r[r.length-1][1]++;\n"
        "    else r.push([x, 1]);\n  }\n  return r;", "  return items.map(x => [x, 1]);"),
    _js("invert", "table", [("{a: 'x', b: 'y'}", "{x: 'a', y: 'b'}")],
        "  return Object.fromEntries(Object.entries(table).map(([k, v]) => [v, k]));", "  return table;"),
    _js("digits", "n", [("1024", "7"), ("0", "0")], "  return [...String(n)].reduce((s, d) => s + +d, 0);",
        "  return [...String(n)].reduce((s, d) => s + d, '');"),
    _js("largest_prime", "n", [("20", "19"), ("3", "3")],
        "  const prime = p => { for (let d = 2; d * d <= p; d++) if (p % d === 0) return false; return p > 1; };\n"
        "  while (!prime(n)) n--;\n  return n;", "  return n - 1;"),
    _js("deepest", "v", [("[1,[2,[3]]]", "3"), ("5", "0")],
        "  return Array.isArray(v) ? 1 + Math.max(0, ...v.map(deepest)) : 0;", "  return v.length;"),
    _js("power", "b, e", [("2n, 70n", "1180591620717411303424n")], "  return b ** e;", "  return BigInt(Number(b * e));"),
    _js("caesar", "s", [("'xyz'", "'yza'"), ("'ab c'", "'bc d'")],
        "  return s.replace(/[a-z]/g, c => String.fromCharCode((c.charCodeAt(0) - 96) % 26 + 97));",
        "  return s.replace(/[a-z]/g, c => String.fromCharCode(c.charCodeAt(0) + 1));"),
    _js("walks", "n", [("30", "1346269")], "  let a = 1, b = 1;\n  for (let i = 1; i < n; i++) [a, b] = [b, a + b];\n  return b;",
        "  return n;"),
    _sh("triple", [('"2"', "6"), ('"-1"', "-3")], "    echo $(( 3 * $1 ))\n", "    echo $(( 2 * $1 ))\n"),
    _sh("count_words", [('"a b  c"', "3"), ('""', "0")], "    local words=($1)\n    echo ${#words[@]}\n",
        "    echo ${#1}\n"),
    _sh("largest", [('"3 9 4"', "9")], "    tr ' ' '\\n' <<< \"$1\" | sort -n | tail -1\n", "    echo ${1%% *}\n"),
    _sh("half", [('"3"', "1.50"), ('"1"', ".50")], "    echo \"scale=2; $1 / 2\" | bc\n", "    echo $(( $1 / 2 ))\n"),
    _sh("upper", [('"abc d"', "ABC D")], "    echo \"${1^^}\"\n", "    echo \"${1^}\"\n"),
    _sh("total", [('"1 2 3.5"', "6.5")], "    echo \"$1\" | awk '{ for (i = 1; i <= NF; i++) s += $i; print s }'\n",
        "    echo 6\n    echo 5\n"),
    _sh("backwards", [('"abc"', "cba")], "    rev <<< \"$1\"\n", "    echo \"$1\"\n"),
    _sh("factorial", [('"5"', "120"), ('"0"', "1")],
        "    if (( $1 < 2 )); then echo 1; return; fi\n    echo $(( $1 * $(factorial $(( $1 - 1 ))) ))\n",
        "    if (( $1 < 1 )); then echo 1; return; fi\n    echo $(( $1 + $(factorial $(( $1 - 1 ))) ))\n"),
    _sh("is_even", [('"4"', "true"), ('"7"', "false")],
        "    if (( $1 % 2 == 0 )); then echo true; else echo false; fi\n", "    echo true\n"),
    _sh("distinct", [('"b a b c"', "a b c")], "    echo \"$1\" | xargs -n1 | sort -u | paste -sd' '\n",
        "    echo \"$1\" | sort -u\n"),
    _pl("triple", "$x", [("2", "6"), ("-1", "-3")], "    return 3 * $x;", "    return 2 * $x;"),
    _pl("vowels", "$text", [('"banana"', "3"), ('""', "0")], "    my $n = () = $text =~ /[aeiou]/g;\n    return $n;",
        "    return length $text;"),
    _pl("doubled", "$items", [("[1, 2]", "[2, 4]"), ("[]", "[]")], "    return [map { 2 * $_ } @$items];",
        "    return $items;"),
    _pl("largest", "$items", [("[3, 9, 4]", "9")], "    my($m) = sort { $b <=> $a } @$items;\n    return $m;",
        "    return $items->[0];"),
    _pl("backwards", "$s", [('"abc"', '"cba"')], "    return scalar reverse $s;", "    return reverse $s;"),
    _pl("digits", "$n", [("1024", "7"), ("0", "0")], "    my $s = 0;\n    $s += $_ for split //, $n;\n    return $s;",
        "    return length $n;"),
    _pl("factorial", "$n", [("5", "120"), ("0", "1")], "    return $n < 2 ? 1 : $n * factorial($n - 1);",
        "    return $n * $n;"),
    _pl("distinct", "$items", [("[2, 1, 2]", "[1, 2]")],
        "    my %seen = map { $_ => 1 } @$items;\n    return [sort { $a <=> $b } keys %seen];", "    return [sort @$items];"),
    _pl("title", "$s", [('"ab cd"', '"Ab Cd"')], "    $s =~ s/(\\w+)/\\u$1/g;\n    return $s;", "    return ucfirst $s;"),
    _pl("common", "$x, $y", [("12, 18", "6"), ("7, 5", "1")],
        "    ($x, $y) = ($y, $x % $y) while $y;\n    return $x;", "    return $x < $y ? $x : $y;"),
]  # fmt: skip
