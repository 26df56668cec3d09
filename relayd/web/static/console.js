// The overview: polls the live figures every few seconds, draws them, drains and publishes.

import { api, byId, bytes, count, duration, latency, make, moment, row, tell } from "/static/console-base.js";
import { Chart } from "/static/console-chart.js";

const SPAN = 300; // seconds that the charts show
const LISTS = 10_000; // milliseconds between two looks at open lists

const charts = {
  clients: new Chart(byId("chart-clients"), {
    title: "Clients", names: ["clients"], format: count, span: SPAN,
  }),
  rates: new Chart(byId("chart-rates"), {
    title: "Frames per second", names: ["received", "delivered"], format: count, span: SPAN,
  }),
  latency: new Chart(byId("chart-latency"), {
    title: "Latency of a delivery", names: ["median", "99 %"], format: latency, span: SPAN,
  }),
  lost: new Chart(byId("chart-lost"), {
    title: "Lost per second", names: ["dropped", "refused"], format: count, span: SPAN,
  }),
};

const samples = [];
let since = 0;
let timer = 0;
let draining = false;

async function poll() {
  clearTimeout(timer);
  let pause = 2000;
  try {
    const view = await api(`live?since=${since}`);
    since = view.time;
    pause = view.interval * 1000;
    samples.push(...view.samples);
    samples.splice(0, Math.max(0, samples.length - Math.ceil((SPAN * 1.2) / view.interval)));
    show(view);
    tell(byId("failed"), "");
  } catch (error) {
    if (error.status === 401) return;
    tell(byId("failed"), error.message);
    pause = 5000;
  }
  if (!document.hidden) timer = setTimeout(poll, pause);
}

function show(view) {
  const { processes, missing, differs, workers } = view.status;
  const clients = sum(processes.map((each) => sum(Object.values(each.connections))));
  draining = processes.length > 0 && processes.every((each) => each.draining);
  byId("state").textContent = draining
    ? "Draining: no new clients are admitted."
    : `Serving, ${workers ?? 1} ${(workers ?? 1) === 1 ? "process" : "workers"} here, ${count(clients)} clients.`;
  byId("state").dataset.state = draining ? "busy" : "good";
  byId("drain").textContent = draining ? "Admit clients again" : "Admit no new clients";
  showTroubles(processes, missing, differs);
  showCharts();
  showProcesses(view);
  showCounts(view.counts);
  showWarnings(view.warnings);
}

function showTroubles(processes, missing, differs) {
  const found = new Set();
  for (const each of processes) {
    for (const [name, part] of [["Database", each.database], ["Redis", each.redis]]) {
      if (part.state !== "ok" && part.state !== "off") found.add(`${name}: ${part.message || part.state}`);
    }
    if (each.dropped_for_files) found.add(`Worker ${each.worker ?? each.pid} has dropped ${each.dropped_for_files} connections, since no open file was left: raise LimitNOFILE.`);
  }
  for (const number of missing) found.add(`Worker ${number} does not answer; its figures are missing.`);
  for (const each of differs) found.add(`[${each.section}] ${each.key} differs from the files: run relayctl ${each.when === "at the next start" ? "restart" : "reload"}.`);
  byId("troubles").replaceChildren(...[...found].map((text) => make("li", { text })));
  byId("troubles").hidden = found.size === 0;
}

function showCharts() {
  const points = (pick) => samples.map((each) => [each.time, pick(each)]);
  const said = {
    clients: charts.clients.show(points((each) => [each.clients])),
    rates: charts.rates.show(points((each) => [each.rates.messages, each.rates.deliveries])),
    latency: charts.latency.show(points((each) => each.latencies.delivery ?? [null, null])),
    lost: charts.lost.show(points((each) => [each.rates.drops, each.rates.refused])),
  };
  for (const [name, texts] of Object.entries(said)) {
    byId(`legend-${name}`).replaceChildren(
      ...texts.map((text, index) => make("span", { class: `key key-${index}`, text })),
    );
  }
  const latest = samples.at(-1)?.latencies ?? {};
  const parts = [["draw", "draw of quizzes"], ["database", "database"], ["redis", "Redis"], ["lag", "lag of the loop"]];
  byId("latencies").replaceChildren(
    ...parts.map(([name, label]) =>
      make("li", { text: `${label}: ${latest[name] ? `${latency(latest[name][0])}, 99 % ${latency(latest[name][1])}` : "–"}` }),
    ),
  );
}

function showProcesses(view) {
  const own = new Map(view.status.processes.map((each) => [each.id, each]));
  const elsewhere = view.cluster.filter((each) => !own.has(each.id));
  const rows = [...own.values()].map((each) => process(each, each.draining ? "draining" : "ok", each, view.time));
  for (const seen of elsewhere) rows.push(process(seen.report ?? {}, seen.state, null, view.time));
  byId("processes").replaceChildren(...rows);
}

function process(report, state, own, now) {
  const clients = sum(Object.values(report.connections ?? {}));
  return row([
    ["Process", `${report.host ?? "?"} ${report.pid ?? ""}${report.worker ? ` w${report.worker}` : ""}`],
    ["State", own ? [state, own.database.state !== "ok" && "database", !["ok", "off"].includes(own.redis.state) && "Redis"].filter(Boolean).join(", ") : state],
    ["Version", report.version],
    ["Up", report.started ? duration(now - report.started) : ""],
    ["Clients", count(clients), "number"],
    ["Groups", count(report.groups ?? 0), "number"],
    ["Deliveries/s", count(report.deliveries_per_second ?? 0), "number"],
    ["Drops", count(sum(Object.values(report.drops ?? {}))), "number"],
    ["Waiting", own ? bytes(own.waiting) : "", "number"],
  ]);
}

function showCounts(counts) {
  const words = {
    connections: "Clients now", drops: "Frames dropped", refused: "Handshakes refused",
    address_refusals: "Refused by limits of an address", errors: "Error frames", closes_sent: "Closed by relayd",
    closes_received: "Closed by clients",
  };
  byId("counts").replaceChildren(
    ...Object.entries(words).map(([name, title]) => {
      const found = Object.entries(counts[name] ?? {}).sort((one, other) => other[1] - one[1]);
      const lines = found.slice(0, 20).map(([label, value]) => [make("dt", { text: label }), make("dd", { text: count(value) })]);
      return make("section", {}, make("h3", { text: title }), lines.length ? make("dl", {}, ...lines.flat()) : make("p", { class: "hint", text: "none" }));
    }),
  );
}

function showWarnings(warnings) {
  byId("no-warnings").hidden = warnings.length > 0;
  byId("warnings").replaceChildren(
    ...warnings.map((each) =>
      make("li", { class: each.level },
        make("p", {}, make("strong", { text: each.level }), ` ${moment(each.last)}${each.worker ? ` w${each.worker}` : ""}${each.count > 1 ? `, ${count(each.count)} times` : ""}`),
        make("p", { text: each.text }),
        ...(each.remedy ? [make("p", { class: "remedy", text: `→ ${each.remedy}` })] : []),
      ),
    ),
  );
}

const sum = (values) => values.reduce((one, other) => one + other, 0);

async function showLists() {
  const lists = {
    rooms: (each) => row([["Name", each.group], ["Members", count(each.members), "number"]]),
    pairs: (each) => row([["UUID", each.uuid], ["Headset", each.headset ? "yes" : "no"], ["Phone", each.phone ? "yes" : "no"]]),
  };
  for (const [name, build] of Object.entries(lists)) {
    if (!byId(name).closest("details").open || document.hidden) continue;
    try {
      const { found, total } = await api(name);
      byId(name).replaceChildren(...found.map(build));
      byId(`${name}-total`).textContent = total > found.length ? `The first ${found.length} of ${count(total)}.` : `${count(total)} in all.`;
    } catch (error) {
      byId(`${name}-total`).textContent = error.message;
    }
  }
}

byId("drain").addEventListener("click", async () => {
  if (!draining && !confirm("Admit no new clients, on all workers here, until you undo it?")) return;
  try {
    await api(draining ? "undrain" : "drain", { method: "POST", body: {} });
    poll();
  } catch (error) {
    tell(byId("failed"), error.message);
  }
});

byId("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  try {
    const done = await api("publish", { method: "POST", body: { target: form.target.value.trim(), text: form.text.value } });
    tell(byId("published"), done.clients === undefined ? `Posted as message ${done.id}.` : `Sent to ${count(done.clients)} clients here.`);
    form.text.value = "";
  } catch (error) {
    tell(byId("published"), error.message);
  }
});

for (const each of document.querySelectorAll("details")) each.addEventListener("toggle", showLists);
document.addEventListener("visibilitychange", () => document.hidden || (poll(), showLists()));
setInterval(showLists, LISTS);
poll();
