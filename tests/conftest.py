"""For all tests: Hypothesis measures no time, for a busy machine is no fault."""

from hypothesis import settings

if settings.get_current_profile_name() == "default":  # else somebody chose one
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")
