/**
 * The little of the linter's interface that our rules use. Nodes are ESTree; a rule looks at
 * the fields it needs and treats everything else as unknown.
 */

export interface AstNode {
  type: string;
  [field: string]: unknown;
}

export interface RuleContext {
  report(problem: { node: AstNode; message: string }): void;
}

export interface Rule {
  create(context: RuleContext): Record<string, (node: AstNode) => void>;
}

/** A field that holds a node. */
export function child(node: AstNode | undefined, field: string): AstNode | undefined {
  const value = node?.[field];
  return typeof value === "object" && value !== null && "type" in value ? (value as AstNode) : undefined;
}

/** A field that holds a list of nodes. */
export function children(node: AstNode | undefined, field: string): AstNode[] {
  const value = node?.[field];
  return Array.isArray(value) ? (value as AstNode[]) : [];
}

/** Whether a node is the plain name `name`. */
export function isName(node: AstNode | undefined, name: string): boolean {
  return node?.type === "Identifier" && node["name"] === name;
}

/** The property a member expression names, `a.b` or `a["b"]`. */
export function propertyName(node: AstNode | undefined): string | undefined {
  if (node?.type !== "MemberExpression") return undefined;
  const property = child(node, "property");
  const text = node["computed"] === true ? property?.["value"] : property?.["name"];
  return typeof text === "string" ? text : undefined;
}

/** A rule that forbids importing some modules, by `import` or `import()`. */
export function forbidModules(isForbidden: (name: string) => boolean, message: string): Rule {
  return {
    create: (context) => {
      const check = (node: AstNode): void => {
        const source = child(node, "source")?.["value"];
        if (typeof source === "string" && node["importKind"] !== "type" && isForbidden(source)) context.report({ node, message });
      };
      return { ImportDeclaration: check, ImportExpression: check, ExportNamedDeclaration: check, ExportAllDeclaration: check };
    },
  };
}
