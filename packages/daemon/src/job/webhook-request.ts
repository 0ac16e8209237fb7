/**
 * One attempt to tell a webhook of a job's end (JOB-13..16).
 *
 * Invariants: redirects are not followed; nothing of the answer but its status is kept; an attempt
 * ends by its deadline; neither URL, body nor secret is logged here.
 */
import { createHmac } from "node:crypto";
import http from "node:http";
import https from "node:https";
import { isIP } from "node:net";
import { hostOf, isPublicAddress, NOT_PUBLIC, publicLookup } from "./public-address.ts";

/** Whole attempt, ms. */
const ATTEMPT_MS = 15_000;
/** Pauses after failed attempts, s; then the webhook has failed. About a day together. */
const PAUSES_S = [5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 3600, 7200, 7200, 10_800, 14_400, 14_400, 14_400];

export interface Attempt {
  url: URL;
  jobId: string;
  body: string;
  secret: string | undefined;
  atMs: number;
  allowPrivate: boolean;
  /** Whole attempt, ms; the usual time when left out. */
  timeoutMs?: number | undefined;
  signal: AbortSignal;
}

/** `final`: another attempt would end the same way. */
export type AttemptResult = { delivered: true; status: number } | { delivered: false; status?: number; error: string; final: boolean };

/** Pause after the attempt of this number (from 1), ms; undefined: give up. */
export function pauseAfterMs(attempt: number): number | undefined {
  const seconds = PAUSES_S[attempt - 1];
  return seconds === undefined ? undefined : seconds * 1000;
}

/** `t=SECONDS,v1=HEX`: HMAC-SHA256 over `SECONDS.BODY`. */
export function signatureOf(body: string, secret: string, atMs: number): string {
  const seconds = Math.floor(atMs / 1000);
  return `t=${seconds},v1=${createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex")}`;
}

export async function sendWebhook(attempt: Attempt): Promise<AttemptResult> {
  const { url, allowPrivate, timeoutMs = ATTEMPT_MS } = attempt;
  const host = hostOf(url);
  if (!allowPrivate && isIP(host) !== 0 && !isPublicAddress(host)) return notPublic();
  const signal = AbortSignal.any([attempt.signal, AbortSignal.timeout(timeoutMs)]);
  try {
    const status = await post(attempt, signal);
    if (status >= 200 && status < 300) return { delivered: true, status };
    return { delivered: false, status, error: `it answered ${status}`, final: status === 410 };
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === NOT_PUBLIC) return notPublic();
    return { delivered: false, error: signal.aborted ? `no answer within ${timeoutMs / 1000} s` : whyUnreachable(code), final: false };
  }
}

function notPublic(): AttemptResult {
  return { delivered: false, error: "its address is not public", final: true };
}

function post({ url, jobId, body, secret, atMs, allowPrivate }: Attempt, signal: AbortSignal): Promise<number> {
  const bytes = Buffer.from(body);
  const headers: http.OutgoingHttpHeaders = {
    "content-type": "application/json",
    "content-length": bytes.length,
    "user-agent": "sprited",
    "x-sprited-job": jobId,
  };
  if (secret !== undefined) headers["x-sprited-signature"] = signatureOf(body, secret, atMs);
  const { request } = url.protocol === "https:" ? https : http;
  return new Promise((resolve, reject) => {
    const options: http.RequestOptions = {
      method: "POST",
      headers,
      signal,
      agent: false,
      ...(allowPrivate ? {} : { lookup: publicLookup }),
    };
    const sent = request(url, options, (response) => {
      resolve(response.statusCode ?? 0);
      response.destroy();
    });
    sent.on("error", reject);
    sent.end(bytes);
  });
}

function whyUnreachable(code: unknown): string {
  if (code === "ECONNREFUSED") return "the connection was refused";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return "its host name is not known";
  if (typeof code === "string" && /CERT|TLS|SSL/.test(code)) return "its certificate is not valid";
  return "it cannot be reached";
}
