/**
 * Gives the simulated VMM's ports to the daemon as unix sockets, as a real VMM does. It matters:
 * node:http2 loses short answers on a client that runs over a Duplex made of JavaScript.
 */
import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import { pipeline } from "node:stream";
import type { Duplex } from "node:stream";
import type { VmmDriver, VmProcess } from "@sprited/vmm";

/** The same driver; sockets are made below `directory`. */
export function withSocketPorts(driver: VmmDriver, directory: string): VmmDriver {
  let count = 0;
  const wrap = (vm: VmProcess): VmProcess => {
    const open = vm.openPort.bind(vm);
    vm.openPort = async (name, options) => {
      count += 1;
      return await overSocket(await open(name, options), path.join(directory, `p${count}`));
    };
    return vm;
  };
  return {
    name: driver.name,
    build: driver.build,
    savesPrivateMemory: driver.savesPrivateMemory,
    accelerator: driver.accelerator,
    start: async (spec, options) => wrap(await driver.start(spec, options)),
    adopt: async (found) => {
      const vm = await driver.adopt(found);
      return vm && wrap(vm);
    },
    close: async () => driver.close(),
  };
}

async function overSocket(port: Duplex, socketPath: string): Promise<net.Socket> {
  const server = net.createServer();
  server.listen(socketPath);
  await once(server, "listening");
  const accepted = once(server, "connection") as Promise<[net.Socket]>;
  const near = net.connect(socketPath);
  const [far] = await accepted;
  server.close();
  const ended = (): void => {
    port.destroy();
    far.destroy();
  };
  pipeline(far, port, ended);
  pipeline(port, far, ended);
  return near;
}
