"""Looks URL keys up in a CDXJ file with pywb, in pywb's own environment; prints a JSON object.

client_pywb.py INDEX KEYS
"""

import json
import sys
import time

from pywb.warcserver.index.indexsource import FileIndexSource

index, keys = sys.argv[1:]
with open(keys) as file:
    wanted = json.load(file)
source = FileIndexSource(index)
found, began = 0, time.process_time()
for key in wanted:
    text = key.encode()
    for entry in source.load_index({"key": text + b" ", "end_key": text + b"!", "url": "x"}):
        found += bool(entry["timestamp"])
        break
used = time.process_time() - began
assert found == len(wanted), f"{found} of {len(wanted)}"
print(json.dumps({"per_cpu_s": len(wanted) / used}))
