"""Asks a gateway by HTTP as a stranger would, with the standard library's client.

    watch.py URL ['{"method": "GET", "headers": {"Host": "..."}}']

Prints one line of JSON: code, headers and body, and of /metrics what Prometheus' own parser makes of it: for each
sample its name, labels and value, and for each family its kind.
"""

import http.client
import json
import sys
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

url = urlsplit(sys.argv[1])
wish = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
connection.request(wish.get("method", "GET"), url.path + (f"?{url.query}" if url.query else ""), headers=wish.get("headers", {}))
answer = connection.getresponse()
body = answer.read().decode()
said = {"code": answer.status, "headers": {name.lower(): value for name, value in answer.getheaders()}, "body": body}
if url.path == "/metrics" and answer.status == 200 and body:
    families = list(text_string_to_metric_families(body))
    said["kinds"] = {family.name: family.type for family in families}
    said["samples"] = [[sample.name, sample.labels, sample.value] for family in families for sample in family.samples]
print(json.dumps(said))
