"""The pure core, module by module, and the tests that judge each: for the architecture test, coverage and mutation."""

CORE: dict[str, tuple[str, ...]] = {
    # the nouns
    "model": (),
    "errors": (),
    # what an operator writes
    "yaml12": ("test_yaml12", "test_config"),
    "config": ("test_config", "test_yaml12"),
    "template": ("test_template",),
    "template_check": ("test_template",),
    "template_values": ("test_template",),
    # how many
    "signals": ("test_signals", "test_decide"),
    "foresight/leadtime": ("test_leadtime", "test_decide"),
    "schedule": ("test_schedule", "test_decide_properties"),
    "budget": ("test_budget",),
    "decide": ("test_decide", "test_budget", "test_decide_properties"),
    "foresight/spares": ("test_spares",),
    "foresight/band": ("test_past",),
    "foresight/history": ("test_history",),
    "foresight/forecast": ("test_forecast",),
    "foresight/newsvendor": ("test_newsvendor",),
    "foresight/trials": ("test_trials",),
    "foresight/idle": ("test_idle",),
    "foresight/ahead": ("test_ahead",),
    "shadow": ("test_shadow",),
    "recompute": ("test_shadow",),
    "alternatives": ("test_alternatives",),
    # what was seen, what to do, what to remember
    "observe": ("test_observe", "test_tick"),
    "measure": ("test_measure", "test_tick"),
    "plan": ("test_plan", "test_tick"),
    "rollout": ("test_rollout",),
    "starts": ("test_starts",),
    "durations": ("test_durations",),
    "allowance": ("test_allowance",),
    "cadence": ("test_cadence",),
    "conditions": ("test_conditions",),
    "memory": ("test_conditions", "test_shadow", "test_tick"),
    "tally": ("test_tally",),
    "happened": ("test_telling",),
    "tick/rows": ("test_tick", "test_shadow"),
}
