#!/usr/bin/env python3
"""A client of the data API with nothing but Python's own library.

It outlasts a failover: a request waits for the new master, and a change is sent again with the same key, which makes it
happen once. What it has written it sees again on whichever node answers.

The token needs the role `admin`, because the database that is made is dropped in the end.

    DDB_URL=https://localhost:8443 DDB_CA=ca.crt DDB_TOKEN=… python3 guestbook.py
"""

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
import uuid

ATTEMPTS = 10


class Refused(Exception):
    """The database says no; `problem` says why and what to do."""

    def __init__(self, problem):
        super().__init__(f"{problem['title']}: {problem['detail']}")
        self.problem = problem


class Database:
    def __init__(self, url, token, authority):
        self.url = url
        self.token = token
        self.tls = ssl.create_default_context(cafile=authority)
        self.seen = None  # names the newest state that this client knows

    def ask(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}", "Prefer": "wait=5"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        if method == "GET":
            if self.seen:
                headers["After"] = self.seen
        else:
            headers["Idempotency-Key"] = str(uuid.uuid4())
        for attempt in range(1, ATTEMPTS + 1):
            request = urllib.request.Request(self.url + path, data, headers, method=method)
            try:
                with self.send(request) as reply:
                    content = json.load(reply)
                    if reply.status < 400:
                        self.seen = reply.headers.get("Write-Token", self.seen)
                        return content
                if not content["retryable"] or attempt == ATTEMPTS:
                    raise Refused(content)
            except (OSError, http.client.HTTPException):
                # The connection broke; the key tells the node what was done already.
                if attempt == ATTEMPTS:
                    raise
            time.sleep(0.2 * attempt)

    def send(self, request):
        try:
            return urllib.request.urlopen(request, context=self.tls, timeout=20)
        except urllib.error.HTTPError as refusal:
            return refusal


def main():
    database = Database(os.environ["DDB_URL"], os.environ["DDB_TOKEN"], os.environ["DDB_CA"])
    name = f"guestbook_{uuid.uuid4().hex[:8]}"
    database.ask("POST", "/v1/databases", {"name": name})
    columns = "id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL"
    database.ask("POST", f"/v1/databases/{name}/tables", {"name": "visits", "schema": columns})
    rows = f"/v1/databases/{name}/tables/visits/rows"
    database.ask("POST", rows, [{"name": "Ada"}, {"name": "Grace"}])
    visits = database.ask("GET", rows + "?order=id")["rows"]
    print(", ".join(visit["name"] for visit in visits))
    try:
        database.ask("POST", rows, {"name": None})
    except Refused as refused:
        print(f"refused: {refused.problem['title']}, {refused.problem['outcome']}")
    database.ask("DELETE", f"/v1/databases/{name}?confirm={name}")


if __name__ == "__main__":
    main()
