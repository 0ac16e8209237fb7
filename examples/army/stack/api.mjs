// The API: orders from PostgreSQL as JSON, on port 3000. No packages needed.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { promisify } from "node:util";

const run = promisify(execFile);
const greeting = readFileSync(new URL("greeting.txt", import.meta.url), "utf8").trim();

async function query(sql) {
  const { stdout } = await run("psql", ["--host", "/tmp", "--no-align", "--tuples-only", "--command", sql, "shop"]);
  return stdout.trim();
}

createServer(async (request, response) => {
  try {
    const body =
      request.url === "/"
        ? { greeting }
        : {
            greeting,
            orders: Number(await query("select count(*) from orders")),
            newest: await query("select customer from orders order by id desc limit 1"),
          };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(body));
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error));
  }
}).listen(3000, "127.0.0.1");
