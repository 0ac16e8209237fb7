import fc from "fast-check";
import { expect, test } from "vitest";
import { isPublicAddress } from "./public-address.ts";
import { pauseAfterMs, sendWebhook, signatureOf } from "./webhook-request.ts";

test("[JOB-15] addresses of the public internet and others", () => {
  for (const address of ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111"]) expect(isPublicAddress(address), address).toBe(true);
  const closed = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "224.0.0.1",
    "255.255.255.255",
  ];
  const closed6 = [
    "::",
    "::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "2001:db8::1",
    "2002:0a00::1",
    "2001::1",
  ];
  for (const address of [...closed, ...closed6, "localhost", ""]) expect(isPublicAddress(address), address).toBe(false);
});

test("[JOB-15] a name that leads to a private address is not connected to, and that is final", async () => {
  const attempt = { jobId: "1", body: "{}", secret: undefined, atMs: 0, allowPrivate: false, signal: new AbortController().signal };
  for (const url of ["http://localhost:9/", "http://127.0.0.1:9/"])
    expect(await sendWebhook({ ...attempt, url: new URL(url) })).toEqual({
      delivered: false,
      error: "its address is not public",
      final: true,
    });
});

test("[JOB-13] pauses grow for about a day, then it is given up", () => {
  const pauses: number[] = [];
  for (let attempt = 1, pause = pauseAfterMs(1); pause !== undefined; pause = pauseAfterMs(++attempt)) pauses.push(pause);
  expect(pauses).toEqual(pauses.toSorted((a, b) => a - b));
  const hours = pauses.reduce((sum, pause) => sum + pause, 0) / 3_600_000;
  expect(hours).toBeGreaterThan(20);
  expect(hours).toBeLessThan(30);
});

test("[JOB-14] a signature depends on body, secret and second", () => {
  const text = fc.string({ minLength: 1 });
  fc.assert(
    fc.property(text, text, text, (body, secret, other) => {
      const signature = signatureOf(body, secret, 5000);
      expect(signature).toMatch(/^t=5,v1=[0-9a-f]{64}$/);
      expect(signatureOf(body, secret, 5999)).toBe(signature);
      expect(signatureOf(body, secret, 6000)).not.toBe(signature);
      if (other !== body) expect(signatureOf(other, secret, 5000)).not.toBe(signature);
      if (other !== secret) expect(signatureOf(body, other, 5000)).not.toBe(signature);
    }),
    { numRuns: 50 },
  );
});
