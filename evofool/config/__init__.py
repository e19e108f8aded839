"""The configuration: frozen pydantic models, one YAML file, dotted overrides.

Every key has a kind, which says what a change of it does to a run that is resumed:

    semantic     part of the run's fingerprint; a change is another run (exit 3)
    numerics     may change the bits of scores; a change needs --allow-numerics-change
    operational  how the work is done; may change at any time
    stopping     when to stop; may change at any time, and nothing else reads it
"""

from __future__ import annotations

from evofool.config.files import load_config, to_yaml
from evofool.config.keys import differences, fingerprint, flatten, key_table
from evofool.config.presets import preset_about, preset_named, preset_names, preset_text
from evofool.config.sections import Config, parse_condition

__all__ = [
    "Config",
    "differences",
    "fingerprint",
    "flatten",
    "key_table",
    "load_config",
    "parse_condition",
    "preset_about",
    "preset_named",
    "preset_names",
    "preset_text",
    "to_yaml",
]
