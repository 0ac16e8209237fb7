// From nothing to a fleet: one sprite is prepared (PostgreSQL with data, a Node API, a web front
// end), becomes a template with its running processes, and a pool hands out copies. Each copy
// changes its own data and code, runs its own tests as a job, and nobody sees anybody else.
//
//   node examples/army/army.mjs [--count 10] [--memory-mb 1024] [--keep]
//
// SPRITES_API_URL and SPRITE_TOKEN say where; default: the server on this machine.
import { readFileSync, readdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { SpritesClient } from "@fly/sprites";

const { values: flags } = parseArgs({
  options: {
    count: { type: "string", default: "10" },
    name: { type: "string", default: "army" },
    "memory-mb": { type: "string", default: "1024" },
    image: { type: "string" },
    keep: { type: "boolean", default: false },
  },
});
const COUNT = Number(flags.count);
const NAME = flags.name;
const baseURL = process.env.SPRITES_API_URL ?? "http://127.0.0.1:7780";
const token = process.env.SPRITE_TOKEN ?? readFileSync(`${process.env.SPRITED_HOME ?? "/var/lib/sprited"}/token`, "utf8").trim();
const client = new SpritesClient(token, { baseURL });
const startedMs = performance.now();

/** Calls of ours that the official SDK does not have. */
async function call(method, path, body) {
  const response = await fetch(`${baseURL}/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body ? { "content-type": "application/json" } : {}) },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text.startsWith("{") ? JSON.parse(text) : text;
}

/** Runs a command as a job and waits for its end; the output comes from its log. */
async function job(sprite, cmd, options = {}) {
  const { id } = await call("POST", `/sprites/${sprite}/jobs`, { cmd, ...options });
  let state;
  do state = await call("GET", `/sprites/${sprite}/jobs/${id}/wait?timeout=30s`);
  while (state.state === "running");
  const output = await call("GET", `/sprites/${sprite}/jobs/${id}/log?stream=all`);
  return { ...state, output: String(typeof output === "string" ? output : JSON.stringify(output)) };
}

function say(text) {
  console.log(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${text}`);
}

async function prepare() {
  const config = { ram_mb: Number(flags["memory-mb"]), cpus: 1 };
  await call("POST", "/sprites", { name: `${NAME}-base`, config, ...(flags.image ? { image: flags.image } : {}) });
  const files = client.sprite(`${NAME}-base`).filesystem("/home/sprite");
  const stack = new URL("stack/", import.meta.url);
  for (const name of readdirSync(stack)) {
    await files.writeFile(`stack/${name}`, readFileSync(new URL(name, stack)), { mode: name.endsWith(".sh") ? 0o755 : 0o644 });
  }
  say("stack uploaded; setting it up (PostgreSQL, API, web)");
  const done = await job(`${NAME}-base`, ["/home/sprite/stack/setup.sh"], { timeout_seconds: 1200 });
  if (done.exit_code !== 0) throw new Error(`set-up failed:\n${done.output}`);
  say("stack runs: 5432, 3000 and 8080");
}

/** One soldier: its own name, data and code, then the stack's tests. */
async function soldier(index) {
  const begunMs = performance.now();
  const name = `${NAME}-${index}`;
  await call("POST", `/pools/${NAME}/claim`, { name, labels: ["army"], idempotency_key: `${name}-${startedMs}`, wait_for_capacity: true });
  const claimedMs = performance.now() - begunMs;
  const sprite = client.sprite(name);
  const greeting = `the shop of ${name}`;
  const customer = `agent ${index}`;
  await sprite.filesystem("/home/sprite").writeFile("stack/greeting.txt", `${greeting}\n`);
  await sprite.execFile("psql", ["--host", "/tmp", "-c", `insert into orders (customer, cents) values ('${customer}', 1)`, "shop"]);
  const firstMs = performance.now() - begunMs;
  await sprite.execFile("/home/sprite/stack/start.sh", []);
  const tests = await job(name, ["node", "--test", "/home/sprite/stack/stack.test.mjs"], {
    env: { EXPECTED_GREETING: greeting, EXPECTED_CUSTOMER: customer, EXPECTED_ORDERS: "1001" },
    timeout_seconds: 600,
  });
  const { stdout } = await sprite.execFile("sh", ["-c", "hostname; cat /etc/machine-id"]);
  const [hostname, machineId] = stdout.trim().split("\n");
  return { name, claimedMs, firstMs, tests, hostname, machineId };
}

async function cleanUp() {
  await call("DELETE", `/pools/${NAME}`).catch(() => {});
  for (let index = 1; index <= COUNT; index += 1) await call("DELETE", `/sprites/${NAME}-${index}`).catch(() => {});
  await call("DELETE", `/templates/${NAME}?force=true`).catch(() => {});
  await call("DELETE", `/sprites/${NAME}-base`).catch(() => {});
}

try {
  await prepare();
  const template = await call("POST", "/templates", { name: NAME, sprite: `${NAME}-base`, memory: true });
  say(`template ${template.name} version ${template.current_version}, with the running processes`);
  await call("POST", "/pools", { name: NAME, template: NAME, min: Math.min(COUNT, 4), max: COUNT + 4, spare: "hibernated" });
  for (;;) {
    const { ready, filling, aim, last_error } = await call("GET", `/pools/${NAME}`);
    if (last_error) throw new Error(`the pool does not fill: ${last_error.message}`);
    if (ready >= aim) break;
    await new Promise((resolve) => setTimeout(resolve, 500));
    if (filling === 0 && ready === 0) continue;
  }
  say("pool is ready; sending the army");
  const results = await Promise.all(Array.from({ length: COUNT }, (_, index) => soldier(index + 1)));
  for (const { name, claimedMs, firstMs, tests } of results) {
    console.log(
      `          ${name.padEnd(12)} claimed ${claimedMs.toFixed(0)} ms, first command ${firstMs.toFixed(0)} ms, tests ${tests.exit_code === 0 ? "passed" : "FAILED"}`,
    );
  }
  const failed = results.filter(({ tests }) => tests.exit_code !== 0);
  for (const { name, tests } of failed) console.error(`${name}:\n${tests.output}`);
  const hostnames = new Set(results.map(({ hostname }) => hostname));
  const machineIds = new Set(results.map(({ machineId }) => machineId));
  const isApart = hostnames.size === COUNT && machineIds.size === COUNT;
  const { stdout } = await client
    .sprite(`${NAME}-base`)
    .execFile("psql", ["--host", "/tmp", "-At", "-c", "select count(*) from orders", "shop"]);
  say(
    `${COUNT - failed.length} of ${COUNT} passed; ${hostnames.size} host names, ${machineIds.size} machine ids; the prepared sprite still has ${stdout.trim()} orders`,
  );
  if (failed.length > 0 || !isApart || stdout.trim() !== "1000") process.exitCode = 1;
} finally {
  if (!flags.keep) await cleanUp();
}
