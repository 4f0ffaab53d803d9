"""Settings of all tests."""

import os

from hypothesis import settings

# no test is about how long an example takes: on a busy machine any of them may take seconds;
# examples are others at each run of the tests, so that many runs see as many as they like
EXAMPLES = 100 if os.environ.get("TLX_ALL_CASES") else 40
settings.register_profile("untimed", deadline=None, max_examples=EXAMPLES)
settings.load_profile("untimed")

# modules of a project, which a test copies to where it runs
collect_ignore = ["signals"]
