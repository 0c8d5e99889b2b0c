"""Freed memory stays with the process, and only where that was wanted."""

import os
import subprocess
import sys

import pytest

# Make and drop 64 MiB again and again; every page that the system hands out anew is a fault.
CODE = """
import resource, numpy
from kinema.training.memory import keep_freed_memory
print(keep_freed_memory())
numpy.ones(2**23).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    numpy.ones(2**23).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is on Linux")
@pytest.mark.parametrize(("wanted", "told"), [("1", "True"), ("0", "False")])
def test_pages_are_kept(wanted, told):
    environment = os.environ | {"KINEMA_KEEP_FREED_MEMORY": wanted}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    answer, faults = done.stdout.split()
    assert answer == told
    if told == "True":
        assert int(faults) < 100
    else:
        assert int(faults) > 200  # ten times 32 huge pages; some 160,000 where pages are small
