// The web front end on port 8080: a page made from what the API says.
import { createServer } from "node:http";

createServer(async (request, response) => {
  if (request.url === "/") return response.end("ok");
  const { greeting, orders, newest } = await (await fetch("http://localhost:3000/orders")).json();
  response.setHeader("content-type", "text/html");
  response.end(`<!doctype html><title>${greeting}</title><h1>${greeting}</h1><p>${orders} orders, the newest by ${newest}</p>\n`);
}).listen(8080, "127.0.0.1");
