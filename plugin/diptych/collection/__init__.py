"""`Collection`, and `TenantCollection`: the collection as one tenant sees it. Import both from `diptych`.

Begin with `collection`. Its methods are grouped in base classes: `populate_methods` writes documents, `queries`
searches. `documents` reads and deletes documents, `explain` breaks a score down, and
`verify` checks the stored vectors. The work behind them is in `diptych.populate` and `diptych.search`.
"""

import diptych.runtime.lazy_imports  # noqa: F401
