import subprocess
import sys

GLIBC = sys.platform == "linux" and "glibc" in __import__("platform").libc_ver()
BLOCK = 64 * 2**20  # larger than what glibc ever keeps by itself


def output(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.strip()


def told(code: str) -> bool:
    lines = f"import sys; {code}; from mlm.allocator import use_one_heap as use; print(use())"
    return output(lines) == "True"


def test_one_heap_is_used_only_when_asked_before_jax_on_a_cpu():
    assert told("pass") == GLIBC
    assert not told("import jax")
    # An accelerator's plugin: where one is installed, the setting stays as it is.
    plugin = "import importlib.metadata as m; m.entry_points = lambda group: [group]"
    assert not told(plugin)


def test_memory_is_kept_from_the_second_call_on():
    code = f"""
import resource
from mlm.allocator import keep_freed_memory, use_one_heap
use_one_heap()
def faults(value):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytes(value + b"x" * {BLOCK})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
step = keep_freed_memory(faults)
print(*[step(b"") > {BLOCK} / 2**20 for _ in range(5)])
"""
    wanted = "True True False False False" if GLIBC else "True True True True True"
    assert output(code) == wanted
