/** Everything a client can do wrong, against the simulated VMM. */
import { describe, vi } from "vitest";
import { useTarget } from "../conformance/suite.ts";
import { openSimulated } from "../kit/simulated.ts";
import { badExec } from "./bad-exec.ts";
import { badRequests } from "./bad-requests.ts";
import { badTokens } from "./bad-tokens.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const target = useTarget(() => openSimulated());

describe("requests", () => badRequests(target));
describe("tokens and organizations", () => badTokens(target));
describe("exec", () => badExec(target, { serverRssBytes: async () => process.memoryUsage().rss }));
