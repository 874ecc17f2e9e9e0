import subprocess
import sys


def told(code: str) -> bool:
    lines = (
        f"import sys; {code}; from mlm.allocator import keep_freed_memory as keep; print(keep())"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    return done.stdout.strip() == "True"


def test_memory_is_kept_only_when_asked_before_jax_on_a_cpu():
    glibc = sys.platform == "linux" and "glibc" in __import__("platform").libc_ver()
    assert told("pass") == glibc
    assert not told("import jax")
    # An accelerator's plugin: where one is installed, the setting stays as it is.
    plugin = "import importlib.metadata as m; m.entry_points = lambda group: [group]"
    assert not told(plugin)
