"""Commands that swap encoders: `plan`, `apply`, `status`, `rollback` and `finish`.

The work is in `diptych.swap`. `swap_text` and `show_gate` turn its reports into text for all five.
"""
