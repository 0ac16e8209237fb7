import { child, children, forbidModules, isName, propertyName, type Rule } from "./rule.ts";

/**
 * The house rules that the linter does not bring. Each names the one place that may do what it
 * forbids; those places are listed in `.oxlintrc.jsonc`.
 */

const noProcessEnv: Rule = {
  create: (context) => ({
    MemberExpression: (node) => {
      if (isName(child(node, "object"), "process") && propertyName(node) === "env") {
        context.report({ node, message: "Settings come from the configuration (daemon/src/config), passed down as plain values." });
      }
    },
  }),
};

const noRawSpawn = forbidModules(
  (name) => name === "node:child_process" || name === "child_process" || name === "execa",
  "Short commands run through run() of @sprited/base; long-lived processes have their own module.",
);

const TIMERS = new Set(["setTimeout", "setInterval", "setImmediate"]);

const noRawTimer: Rule = {
  create: (context) => ({
    CallExpression: (node) => {
      const callee = child(node, "callee");
      const name =
        callee?.type === "Identifier" ? callee["name"] : isName(child(callee, "object"), "globalThis") ? propertyName(callee) : undefined;
      if (typeof name === "string" && TIMERS.has(name) && name !== "setImmediate") {
        context.report({ node, message: "Waiting goes through sleep, waitFor and withDeadline of @sprited/base, which take signals." });
      }
    },
    ...forbidModules((name) => name === "node:timers" || name === "node:timers/promises", "Waiting goes through @sprited/base.").create(
      context,
    ),
  }),
};

const noProcessOn: Rule = {
  create: (context) => ({
    CallExpression: (node) => {
      const callee = child(node, "callee");
      const name = propertyName(callee);
      if (isName(child(callee, "object"), "process") && (name === "on" || name === "once" || name === "addListener")) {
        context.report({ node, message: "Signals and the process's end belong to the main program." });
      }
    },
  }),
};

const noEmptyCatch: Rule = {
  create: (context) => ({
    CallExpression: (node) => {
      if (propertyName(child(node, "callee")) !== "catch") return;
      const [handler] = children(node, "arguments");
      if (handler?.type !== "ArrowFunctionExpression" && handler?.type !== "FunctionExpression") return;
      const body = child(handler, "body");
      const isEmptyBlock = body?.type === "BlockStatement" && children(body, "body").length === 0;
      if (isEmptyBlock || isName(body, "undefined") || (body?.type === "UnaryExpression" && body["operator"] === "void")) {
        context.report({ node, message: 'Say why a failure does not matter: .catch(ignore("reason")) of @sprited/base.' });
      }
    },
  }),
};

// The linter loads plugins by their default export.
export default {
  meta: { name: "house" },
  rules: {
    "no-process-env": noProcessEnv,
    "no-raw-spawn": noRawSpawn,
    "no-raw-timer": noRawTimer,
    "no-process-on": noProcessOn,
    "no-empty-catch": noEmptyCatch,
  },
};
