import { writeFileSync } from "node:fs";
import path from "node:path";
import { exitCodesDocument } from "../packages/daemon/src/commands/exit-codes.ts";
import { configurationDocument } from "../packages/daemon/src/config/index.ts";

/** Writes the pages that are generated from the sources; `tests/tidy` checks that they are current. */

const docs = path.resolve(import.meta.dirname, "..", "docs");
writeFileSync(path.join(docs, "configuration.md"), configurationDocument());
writeFileSync(path.join(docs, "exit-codes.md"), exitCodesDocument());
