"""Studio: collections seen, compared, explained, judged and swapped in a browser. Run by `diptych studio`.

Begin with `routes`: the table of its addresses, with the built page and the headers that keep a browser from running
anything else. `context` holds what they share, `sides` says what can be asked, `search` asks it, `jobs` runs what takes
longer than a request. Studio stands over `diptych_serve.service`, whose keys, tenants and limits hold.
"""

import diptych.runtime.lazy_imports  # noqa: F401
