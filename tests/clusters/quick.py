"""Run by tests: a script or `-m module` whose locks are stale after 6 seconds, not 60."""

import runpy
import sys

from mlm.training import bucket_lock

if __name__ == "__main__":
    bucket_lock.RENEW_SECONDS, bucket_lock.STALE_SECONDS = 0.5, 6.0
    del sys.argv[0]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
