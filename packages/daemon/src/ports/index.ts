/** TCP connections into sprites, and the ports they listen on. */
export { type PortListener, PortWatches, type WatchedSprites } from "./port-watches.ts";
export { Proxies, type ProxyRequestOptions, type ProxyTarget } from "./proxies.ts";
