#!/usr/bin/env node
// A client of the data API with nothing but Node's own library.
//
// It outlasts a failover: a request waits for the new master, and a change is sent again with the same key, which makes
// it happen once. What it has written it sees again on whichever node answers. The token needs the role `admin`, because
// the database that is made is dropped in the end.
//
//     DDB_URL=https://localhost:8443 NODE_EXTRA_CA_CERTS=ca.crt DDB_TOKEN=… node guestbook.mjs

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const ATTEMPTS = 10;

/** The database says no; `problem` says why and what to do. */
class Refused extends Error {
  constructor(problem) {
    super(`${problem.title}: ${problem.detail}`);
    this.problem = problem;
  }
}

class Database {
  /** Names the newest state that this client knows. */
  #seen;

  constructor(url, token) {
    this.url = url;
    this.token = token;
  }

  async ask(method, path, body) {
    const headers = { Authorization: `Bearer ${this.token}`, Prefer: "wait=5" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (method !== "GET") headers["Idempotency-Key"] = randomUUID();
    else if (this.#seen) headers.After = this.#seen;
    for (let attempt = 1; ; attempt++) {
      let reply;
      try {
        reply = await fetch(this.url + path, { method, headers, body: JSON.stringify(body), signal: AbortSignal.timeout(20_000) });
        const content = await reply.json();
        if (reply.ok) {
          this.#seen = reply.headers.get("Write-Token") ?? this.#seen;
          return content;
        }
        if (!content.retryable || attempt === ATTEMPTS) throw new Refused(content);
      } catch (error) {
        // Where the connection broke, the key tells the node what was done already.
        if (error instanceof Refused || attempt === ATTEMPTS) throw error;
      }
      await sleep(200 * attempt);
    }
  }
}

const database = new Database(process.env.DDB_URL, process.env.DDB_TOKEN);
const name = `guestbook_${randomUUID().slice(0, 8)}`;
await database.ask("POST", "/v1/databases", { name });
const schema = "id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL";
await database.ask("POST", `/v1/databases/${name}/tables`, { name: "visits", schema });
const rows = `/v1/databases/${name}/tables/visits/rows`;
await database.ask("POST", rows, [{ name: "Ada" }, { name: "Grace" }]);
const visits = (await database.ask("GET", `${rows}?order=id`)).rows;
console.log(visits.map((visit) => visit.name).join(", "));
try {
  await database.ask("POST", rows, { name: null });
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  console.log(`refused: ${error.problem.title}, ${error.problem.outcome}`);
}
await database.ask("DELETE", `/v1/databases/${name}?confirm=${name}`);
