// A client with Node's tls.connect: arguments are HOST, PORT and the CA's file.
"use strict";

const fs = require("node:fs");
const tls = require("node:tls");

const [host, port, ca] = process.argv.slice(2);

const timer = setTimeout(() => fail(new Error("timed out")), 5000);

function fail(error) {
  clearTimeout(timer);
  console.error(`${error.code || error.name}: ${error.message}`);
  process.exitCode = 1;
  socket.destroy();
}

const options = { host, port: Number(port), servername: host, ca: fs.readFileSync(ca), ALPNProtocols: ["http/1.1"] };

const socket = tls.connect(options, () => {
  socket.write("GET / HTTP/1.0\r\n\r\n");
});
socket.once("data", (data) => {
  clearTimeout(timer);
  console.log(data.toString());
  socket.destroy();
});
socket.once("error", fail);
socket.once("end", () => fail(new Error("the server has closed the connection")));
