/** Version of this agent, as the host is told. */
export const AGENT_VERSION = "0.1.0";
