// The stack's own tests: database, API and page must agree on what EXPECTED_* say.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

const { EXPECTED_GREETING, EXPECTED_CUSTOMER, EXPECTED_ORDERS } = process.env;
const sql = (text) => execFileSync("psql", ["--host", "/tmp", "-At", "-c", text, "shop"], { encoding: "utf8" }).trim();

await test("the database holds this sprite's order and nobody else's", () => {
  assert.equal(sql("select count(*) from orders"), EXPECTED_ORDERS);
  assert.equal(sql("select count(*) from orders where customer like 'agent %'"), "1");
  assert.equal(sql("select customer from orders where customer like 'agent %'"), EXPECTED_CUSTOMER);
});

await test("the API runs this sprite's code on its default port", async () => {
  const answer = await (await fetch("http://localhost:3000/orders")).json();
  assert.deepEqual(answer, { greeting: EXPECTED_GREETING, orders: Number(EXPECTED_ORDERS), newest: EXPECTED_CUSTOMER });
});

await test("the page shows both", async () => {
  const page = await (await fetch("http://localhost:8080/page")).text();
  assert.match(page, new RegExp(`<h1>${EXPECTED_GREETING}</h1>`));
  assert.match(page, new RegExp(EXPECTED_CUSTOMER));
});
