export type { CreateTemplate, Templates as TemplatesFeature, TemplateVersion, TemplateView } from "./template.ts";
export { type TemplateRecords, type TemplateSource, Templates } from "./templates.ts";
