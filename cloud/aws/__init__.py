"""One thin adapter for each AWS service; botocore's errors are wrapped here, once."""

import os

os.environ.setdefault("BOTO_DISABLE_CRT", "true")
# Before botocore is imported. Where awscrt is installed beside it (a device's SDK brings it), botocore signs with it, and a
# Ctrl-C in the middle of an upload left a traceback of each of its threads, printed from C. What it alone can do (SigV4A),
# nothing here needs.
