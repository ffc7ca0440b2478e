"""Prints the tests that failed, by what `cargo test --no-fail-fast` has printed, where another try could tell more.

None are printed, and the exit code is 1, where there are more than a few, or where something without a name failed: a
program that did not compile or crashed, an example of the documentation.
"""

import re
import sys

FEW = 3

text = open(sys.argv[1], encoding="utf-8", errors="replace").read()
names = set(re.findall(r"^test ([a-z0-9_:]+) \.\.\. FAILED$", text, re.M))
results = [int(failed) for failed in re.findall(r"^test result: FAILED\. \d+ passed; (\d+) failed;", text, re.M)]
programs = re.findall(r"^error: (\d+) targets? failed:$", text, re.M)
if not 1 <= len(names) <= FEW or sum(results) != len(names) or programs != [str(len(results))]:
    sys.exit(1)
print(*sorted(names))
