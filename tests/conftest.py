"""Settings of all tests."""

from hypothesis import settings

# no test is about how long an example takes: on a busy machine any of them may take seconds
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
