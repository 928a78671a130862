"""Studio: collections seen, compared, explained, judged and swapped in a browser. Run by `diptych studio`.

Begin with `routes`: the table of its addresses. `context` holds what they share, `page` serves the built page and keeps
a browser from running anything else, `sides` says what can be asked, `search` asks it, `jobs` runs what takes longer
than a request. Studio stands over the HTTP service (`diptych_serve.service`), whose keys, tenants and limits hold.
"""

import diptych.runtime.lazy_imports  # noqa: F401
