/**
 * Messages about listening ports: on the port watch and on exec WebSockets. Pure; no schema
 * library. The official clients read `type`, `port`, `address` (an IP) and `pid`.
 */
export interface PortEvent {
  type: "port_opened" | "port_closed";
  port: number;
  /** IP address it listens on. */
  address: string;
  /** Number of the process inside the sprite; 0 when it is not known. */
  pid: number;
}

type Port = Omit<PortEvent, "type">;

export function encodePortEvent(type: PortEvent["type"], { port, address, pid }: Port): string {
  return JSON.stringify({ type, port, address, pid });
}

/** The first message of a watch. */
export function encodePortList(ports: readonly Port[]): string {
  return JSON.stringify({ type: "port_list", ports: ports.map(({ port, address, pid }) => ({ type: "port_opened", port, address, pid })) });
}

/** Reads a port event out of a parsed message; undefined when it is none. */
export function portEventOf(value: Readonly<Record<string, unknown>>): PortEvent | undefined {
  const { type, port, address, pid } = value;
  if (type !== "port_opened" && type !== "port_closed") return undefined;
  if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65_535) return undefined;
  return { type, port, address: String(address ?? ""), pid: typeof pid === "number" ? pid : 0 };
}
