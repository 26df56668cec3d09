// A hub on Node's ws: a straight loop of sends over the members of the group; a pose is parsed,
// checked and encoded once.
//
//	PORT=8080 NODE_PATH=.bench/node/node_modules node bench/peers/ws_hub.js
"use strict";

const { WebSocketServer } = require("ws");

const BAD_POSE = JSON.stringify({
  error: "bad_pose",
  message: "The members x, y and z must be numbers or null.",
});
const groups = new Map();

// What goes to the members of the group; null where the payload is not a pose.
function repack(payload) {
  let given;
  try {
    given = JSON.parse(payload);
  } catch {
    return null;
  }
  if (given === null || typeof given !== "object") return null;
  const { x = null, y = null, z = null } = given;
  for (const value of [x, y, z]) {
    if (value !== null && typeof value !== "number") return null;
  }
  return JSON.stringify({ x, y, z });
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.env.PORT),
  backlog: 4096,
  perMessageDeflate: false,
});

server.on("connection", (client, request) => {
  const name = request.url;
  if (!groups.has(name)) groups.set(name, new Set());
  const members = groups.get(name);
  members.add(client);
  client.on("message", (payload) => {
    if (payload.length === 0) return;
    const pose = repack(payload);
    if (pose === null) {
      client.send(BAD_POSE);
      return;
    }
    for (const member of members) member.send(pose);
  });
  client.on("error", () => {});
  client.on("close", () => {
    members.delete(client);
    if (members.size === 0 && groups.get(name) === members) groups.delete(name);
  });
});
