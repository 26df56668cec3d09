// The clients: search, follow the frames of one, kick.

import { api, byId, bytes, count, make, moment, request, row, tell, time, whenTyped } from "/static/console-base.js";

const MOST_FRAMES = 500;
const form = byId("search");
let latest = 0;
let following = null;

async function search() {
  const mine = ++latest;
  const query = new URLSearchParams(new FormData(form));
  for (const [name, value] of [...query]) if (!value.trim()) query.delete(name);
  try {
    const { found, total, missing } = await api(`clients?${query}`);
    if (mine !== latest) return;
    byId("clients").replaceChildren(...found.map(line));
    const more = total > found.length ? `The first ${found.length} of ${count(total)} clients.` : `${count(total)} clients.`;
    byId("total").textContent = more + missing.map((each) => ` Worker ${each} does not answer.`).join("");
    tell(byId("failed"), "");
  } catch (error) {
    if (error.status !== 401) tell(byId("failed"), error.message);
  }
}

function line(client) {
  const follow = make("button", { type: "button", text: "Follow", "aria-label": `Follow ${client.id}`, on: { click: () => start(client) } });
  const kick = make("button", { type: "button", class: "danger", text: "Kick", "aria-label": `Kick ${client.id}`, on: { click: () => close(client) } });
  return row([
    ["Id", client.id],
    ["Kind", client.kind],
    ["Path", client.path],
    ["Address", client.peer],
    ["User", client.user ?? "–"],
    ["Since", moment(client.since), "nowrap"],
    ["Messages", count(client.messages), "number"],
    ["Waiting", bytes(client.waiting), "number"],
    ["", make("span", { class: "buttons" }, follow, kick)],
  ]);
}

async function close(client) {
  if (!confirm(`Close the connection ${client.id} of ${client.peer}?`)) return;
  try {
    const done = await api("kick", { method: "POST", body: { ids: [client.id] } });
    tell(byId("failed"), done.count ? "" : `${client.id} is not connected any more.`);
  } catch (error) {
    tell(byId("failed"), error.message);
  }
  search();
}

async function start(client) {
  stop();
  const own = (following = new AbortController());
  byId("follow").hidden = false;
  byId("following").textContent = `${client.id} ${client.path} ${client.peer}`;
  byId("frames").replaceChildren();
  byId("follow-state").textContent = "";
  byId("following").focus();
  let ended = "The stream has ended.";
  try {
    const response = await request(`trace?id=${encodeURIComponent(client.id)}`, { signal: own.signal });
    byId("follow-state").textContent = "Its frames appear here as they come.";
    for await (const event of events(response.body)) {
      if (event.event === "ended") ended = "The client has disconnected.";
      show(event);
    }
  } catch (error) {
    ended = error.name === "AbortError" ? "Stopped." : error.message;
  }
  if (following === own) byId("follow-state").textContent = ended;
}

function stop() {
  following?.abort();
}

/** The objects of a body that has one JSON object a line. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const each of lines) if (each) yield JSON.parse(each);
  }
}

function show(event) {
  const words = { in: "from the client", out: "to the client", left_out: "left out", begin: "begins", ended: "has ended" };
  if (!(event.event in words)) return;
  const text = event.type === "close" ? `close ${event.code ?? ""} ${event.reason ?? ""}` : (event.text ?? (event.lines ? `${event.lines} lines` : ""));
  const item = make("li", { class: event.event },
    make("span", { class: "note", text: `${event.time ? time(event.time) : ""} ${words[event.event]} ${event.type ?? ""}${event.waits ? ", waits" : ""}` }),
    make("code", { text: text + (event.cut ? " …" : "") }),
  );
  const list = byId("frames");
  list.prepend(item);
  while (list.childElementCount > MOST_FRAMES) list.lastElementChild.remove();
}

byId("stop").addEventListener("click", stop);
form.addEventListener("submit", (event) => (event.preventDefault(), search()));
form.addEventListener("change", search);
whenTyped(byId("text"), search);
search();
