"""Fetch files from http.server on the given port; print the SHA-256 of the large one."""
import hashlib
import sys
import urllib.error
import urllib.request

base = f"http://127.0.0.1:{sys.argv[1]}/"
with urllib.request.urlopen(base + "file", timeout=60) as answer:
    data = answer.read()
    assert len(data) == int(answer.headers["Content-Length"]), len(data)
try:
    urllib.request.urlopen(base + "missing", timeout=60)
    raise SystemExit("a missing file was found")
except urllib.error.HTTPError as error:
    assert error.code == 404, error
print(hashlib.sha256(data).hexdigest())
