"""Commands that swap encoders: `plan`, `apply`, `status`, `rollback` and `finish`.

Begin with `apply`. The work is in `diptych.swap`. `swap_text` and `show_gate` turn its reports into text for all five.
"""
