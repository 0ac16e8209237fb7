/** The real sprites as pools take them: spares live in a place of their own until they are claimed. */
import { ApiError } from "@sprited/protocol/errors";
import type { Exec } from "../exec/index.ts";
import { placeOfPool, type SpriteRegistry } from "../sprite/index.ts";
import type { Templates } from "../template/index.ts";
import type { PoolSprites } from "./spares.ts";

/** Output of a failed set-up command that is kept for its pool, bytes. */
const OUTPUT_BYTES_MAX = 2000;

export interface PoolSpritesParts {
  sprites: SpriteRegistry;
  templates: Pick<Templates, "currentVersion" | "resolve" | "originOf">;
  exec: Exec;
}

export function poolSprites({ sprites, templates, exec }: PoolSpritesParts): PoolSprites {
  return {
    currentVersion: (organizationId, templateName) => templates.currentVersion(organizationId, templateName),
    async createSpare({ spriteId, poolId, organizationId, templateName, templateVersion }, { signal }) {
      const version = templates.resolve(organizationId, `${templateName}@${templateVersion}`);
      const request = {
        organizationId,
        name: spareName(spriteId),
        config: version.config,
        environment: version.environment,
        labels: version.labels,
        urlSettings: {},
        imageName: undefined,
      };
      await sprites.create(request, { signal, origin: await templates.originOf(version), spare: { spriteId, poolId } });
    },
    async runSetup({ spriteId, poolId }, argv, { signal }) {
      const work = { kind: "command", argv, env: {}, dir: undefined, tty: undefined, stdin: false } as const;
      const session = await exec.start(placeOfPool(poolId), spareName(spriteId), { work, runAfterDisconnectMs: 0 }, { signal });
      const attachment = session.attach();
      const onAbort = (): void => session.signal("KILL");
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        let output = "";
        for await (const piece of attachment.output) {
          if (piece.kind === "output") output = (output + Buffer.from(piece.data).toString("utf8")).slice(-OUTPUT_BYTES_MAX);
        }
        const end = await attachment.ended;
        if (end.kind === "exit" && end.exit.code === 0) return undefined;
        const how = end.kind === "lost" ? end.reason : `it ended with ${end.exit.code ?? `signal ${end.exit.signal}`}`;
        return { problem: `the set-up command failed: ${how}${output.trim() === "" ? "" : `\n${output.trim()}`}` };
      } finally {
        signal.removeEventListener("abort", onAbort);
        attachment.close();
      }
    },
    async settle({ spriteId }, rest, { signal }) {
      await sprites.wakeLife(spriteId, { signal });
      await sprites.rest(spriteId, rest);
      if (!sprites.isAtRest(spriteId)) throw new ApiError("busy", "the spare did not come to rest");
    },
    isSound: (spriteId) => sprites.isAtRest(spriteId),
    claim: (spriteId, claim, record) => sprites.claim(spriteId, claim, record),
    view: (organizationId, spriteName) => sprites.get(organizationId, spriteName),
    discard: (spriteId) => sprites.discard(spriteId),
  };
}

/** No user can give a sprite such a name. */
function spareName(spriteId: string): string {
  return `~${spriteId}`;
}
